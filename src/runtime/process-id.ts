// Processes by number and start: a number alone may be another process's by now.
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { textIfThere } from "../lib/exists.ts";

/** USER_HZ, which is 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** A process. When it started tells it from a later one with the same number. */
export interface ProcessId {
  pid: number;
  /** Clock ticks since boot. */
  startTime: string;
}

/** Reads /proc/PID/stat, proc(5): the name in parentheses may hold anything, the start time is field 22. */
export function parseStat(line: string): ProcessId | undefined {
  const pid = Number(/^\d+/.exec(line)?.[0]);
  const startTime = line.slice(line.lastIndexOf(")") + 2).split(" ")[19];
  return Number.isNaN(pid) || startTime === undefined ? undefined : { pid, startTime };
}

/** undefined: there is no such process. */
export async function processIdOf(pid: number): Promise<ProcessId | undefined> {
  const line = await textIfThere(`/proc/${pid}/stat`);
  return line === undefined ? undefined : parseStat(line);
}

/** When the process started, in wall-clock milliseconds, to the second: the machine's boot and the ticks since; proc(5). */
export async function startedAtOf({ startTime }: ProcessId): Promise<number> {
  const bootSeconds = Number(/^btime (\d+)$/m.exec(await readFile("/proc/stat", "utf8"))?.[1]);
  return (bootSeconds + Math.floor(Number(startTime) / TICKS_PER_SECOND)) * 1000;
}

/**
 * Whether the process runs, and is not a zombie. Each task is asked about once a second, so this reads at once: an answer
 * from the kernel's memory takes microseconds, and a promise of one ten times as long.
 */
export function isAlive({ pid, startTime }: ProcessId): boolean {
  const line = statLine(pid);
  if (line === undefined) return false;
  return parseStat(line)?.startTime === startTime && line[line.lastIndexOf(")") + 2] !== "Z";
}

function statLine(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ESRCH") throw error;
    return undefined;
  }
}
