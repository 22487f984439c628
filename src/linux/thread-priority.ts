// How threads go before ordinary programs. The nice value of a thread, which on Linux is its own (setpriority(2)), and that of
// its session, where the scheduler shares the processors by sessions first (autogroup, sched(7)), decide how much time it gets.
// Its slice decides how soon.
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import * as libc from "./libc.ts";

const AUTOGROUPS_ON = "/proc/sys/kernel/sched_autogroup_enabled";
const OWN_AUTOGROUP = "/proc/self/autogroup";
/** The first version of struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period. */
const SCHED_ATTR_BYTES = 48;
const NICE_AT = 16;
const RUNTIME_AT = 24;
/** Index of the session in /proc/PID/stat, among the fields after the command's closing parenthesis. */
const SESSION = 3;

/** Names the calling thread, as ps(1) and top(1) show it; the kernel keeps 15 bytes. */
export function nameThread(name: string): void {
  writeFileSync("/proc/thread-self/comm", name);
}

/** Gives the calling thread this nice value, if it is not better off. Throws where the kernel refuses. */
export function raiseThread(nice: number): void {
  if (getPriority(0) > nice) setPriority(0, nice);
}

/**
 * Gives the calling thread slices of `micros`, 100 to 100,000. Since Linux 6.12 a thread with a short slice runs sooner after
 * it was woken, and gets no more time in all. Older kernels take no notice. Throws where the kernel refuses.
 */
export function shortenSlices(micros: number): void {
  const attributes = new DataView(new ArrayBuffer(SCHED_ATTR_BYTES));
  attributes.setUint32(0, SCHED_ATTR_BYTES, true);
  attributes.setInt32(NICE_AT, getPriority(0), true);
  attributes.setBigUint64(RUNTIME_AT, BigInt(micros) * 1000n, true);
  libc.checked("sched_setattr", libc.schedSetattr(0, new Uint8Array(attributes.buffer)) ?? 0);
}

/**
 * Gives this process's session this nice value among sessions, if it is not better off. Returns the reason when it does
 * not: the session is not the process's own, or the kernel has no such value. Throws where the kernel refuses.
 */
export function raiseSession(nice: number): string | undefined {
  if (readOptional(AUTOGROUPS_ON)?.trim() !== "1") return "the kernel does not share time by sessions";
  if (sessionOf(readFileSync("/proc/self/stat", "utf8")) !== process.pid) return "its session has other programs too";
  const current = Number(/nice (-?\d+)/.exec(readFileSync(OWN_AUTOGROUP, "utf8"))?.[1]);
  if (!(current <= nice)) writeFileSync(OWN_AUTOGROUP, String(nice));
  return undefined;
}

/** The process that leads the session, from the text of /proc/PID/stat. */
function sessionOf(stat: string): number {
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[SESSION]);
}

function readOptional(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
