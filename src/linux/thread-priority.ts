// How far threads go before ordinary programs: nice values, which on Linux are a thread's own (setpriority(2)), and those
// of a session, between which the scheduler shares the processors first where autogroups are on (sched(7)).
import { readFileSync, writeFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";

const AUTOGROUPS_ON = "/proc/sys/kernel/sched_autogroup_enabled";
const OWN_AUTOGROUP = "/proc/self/autogroup";
/** In /proc/PID/stat, of the fields after the command's closing parenthesis. */
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
 * Gives this process's session this nice value among sessions, if it is not better off. Returns why not, in words: the
 * session is not the process's own, or there is nothing to be set. Throws where the kernel refuses.
 */
export function raiseSession(nice: number): string | undefined {
  if (readOptional(AUTOGROUPS_ON)?.trim() !== "1") return "the kernel does not share time by sessions";
  if (sessionOf(readFileSync("/proc/self/stat", "utf8")) !== process.pid) return "its session has other programs too";
  const current = Number(/nice (-?\d+)/.exec(readFileSync(OWN_AUTOGROUP, "utf8"))?.[1]);
  if (!(current <= nice)) writeFileSync(OWN_AUTOGROUP, String(nice));
  return undefined;
}

/** Of the text of /proc/PID/stat: the process that leads the session. */
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
