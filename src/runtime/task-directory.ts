// A task's files, which are all that an agent knows of a task that an agent before it started:
//   pid   the line of /proc/PID/stat, written by the task before it becomes its command
//   exit  its exit status, written by the shim that waits for it
//   log   what it prints; log.1 is what came before
import { copyFile, mkdir, open, readdir, readFile, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { describeExit } from "./exit.ts";
import type { Exit } from "./runtime.ts";

const LOG_MAX_BYTES = 16 << 20;
const TAIL_BYTES = 4096;
/** USER_HZ, which is 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** A process, told from a later one with the same number by when it started. */
export interface ProcessId {
  pid: number;
  /** Clock ticks since boot. */
  startTime: string;
}

export class TaskDirectory {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get log(): string {
    return join(this.path, "log");
  }

  async exists(): Promise<boolean> {
    return (await stat(this.path).catch(ignoreMissing)) !== undefined;
  }

  /** Makes it ready for a new run: what the last one said about itself goes, its log stays. Returns the log's size. */
  async begin(): Promise<number> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    await rm(join(this.path, "pid"), { force: true });
    await rm(join(this.path, "exit"), { force: true });
    return this.logBytes();
  }

  async logBytes(): Promise<number> {
    try {
      return (await stat(this.log)).size;
    } catch (error) {
      return ignoreMissing(error) ?? 0;
    }
  }

  /** undefined: not started yet. */
  async processId(): Promise<(ProcessId & { startedAt: number }) | undefined> {
    const file = join(this.path, "pid");
    const text = await readOptional(file);
    const id = text === undefined ? undefined : parseStat(text);
    return id === undefined ? undefined : { ...id, startedAt: Math.round((await stat(file)).mtimeMs) };
  }

  /** undefined: it has not ended, or nobody was there to write it down. */
  async exitCode(): Promise<number | undefined> {
    const text = await readOptional(join(this.path, "exit"));
    return text === undefined || text.trim() === "" ? undefined : Number(text);
  }

  /** `exitCode` as a shell has it, above 128 for a signal. `from`: where in the log this run began. */
  async exitOf(exitCode: number | undefined, from: number): Promise<Exit> {
    if (exitCode === undefined) return { exitCode: null, error: "it ended, and its exit status is not known" };
    return describeExit(exitCode, exitCode === 0 ? "" : await this.#tail(from));
  }

  /** Keeps the log, which the task appends to, from growing without end. */
  async limitLog(): Promise<void> {
    if ((await this.logBytes()) <= LOG_MAX_BYTES) return;
    await copyFile(this.log, `${this.log}.1`);
    await truncate(this.log, 0);
  }

  async #tail(from: number): Promise<string> {
    const size = await this.logBytes();
    // A log that was cut since then is all of this run.
    const start = Math.max(from > size ? 0 : from, size - TAIL_BYTES);
    if (size === start) return "";
    const file = await open(this.log);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
      return buffer.toString("utf8", 0, bytesRead);
    } finally {
      await file.close();
    }
  }
}

/** Of /proc/PID/stat, proc(5): the name in parentheses may hold anything, the start time is field 22. */
export function parseStat(line: string): ProcessId | undefined {
  const pid = Number(/^\d+/.exec(line)?.[0]);
  const startTime = line.slice(line.lastIndexOf(")") + 2).split(" ")[19];
  return Number.isNaN(pid) || startTime === undefined ? undefined : { pid, startTime };
}

/** undefined: there is no such process. */
export async function processIdOf(pid: number): Promise<ProcessId | undefined> {
  const line = await readOptional(`/proc/${pid}/stat`);
  return line === undefined ? undefined : parseStat(line);
}

/** Wall-clock milliseconds, to the second: of the machine's boot, and the process' ticks since; proc(5). */
export async function startedAtOf({ startTime }: ProcessId): Promise<number> {
  const bootSeconds = Number(/^btime (\d+)$/m.exec(await readFile("/proc/stat", "utf8"))?.[1]);
  return (bootSeconds + Math.floor(Number(startTime) / TICKS_PER_SECOND)) * 1000;
}

/** It runs, and is not a zombie. */
export async function isAlive({ pid, startTime }: ProcessId): Promise<boolean> {
  const line = await readOptional(`/proc/${pid}/stat`);
  if (line === undefined) return false;
  return parseStat(line)?.startTime === startTime && line[line.lastIndexOf(")") + 2] !== "Z";
}

/** Names of the tasks' directories below `folder`: their ids. */
export async function taskIds(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    return ignoreMissing(error) ?? [];
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    return ignoreMissing(error);
  }
}

/** ESRCH is what /proc says of a process that ended while it was read. */
function ignoreMissing(error: unknown): undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== "ENOENT" && code !== "ESRCH") throw error;
}
