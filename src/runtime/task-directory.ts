// A task's files, which are all that an agent knows of a task that an earlier agent started:
//   pid   the line of /proc/PID/stat, written by the task before it becomes its command
//   exit  its exit status, written by the shim that waits for it
//   log   what it prints; log.1 is what came before
import { statSync } from "node:fs";
import { copyFile, mkdir, open, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { textIfThere } from "../lib/exists.ts";
import { describeExit } from "./exit.ts";
import { type ProcessId, parseStat } from "./process-id.ts";
import type { Exit } from "./runtime.ts";

const LOG_MAX_BYTES = 16 << 20;
const TAIL_BYTES = 4096;

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

  /** Makes it ready for a new run: the files of the last run go, its log stays. Returns the log's size. */
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

  /** The task's first process; undefined: it has not started yet. */
  async processId(): Promise<(ProcessId & { startedAt: number }) | undefined> {
    const file = join(this.path, "pid");
    const text = await textIfThere(file);
    const id = text === undefined ? undefined : parseStat(text);
    return id === undefined ? undefined : { ...id, startedAt: Math.round((await stat(file)).mtimeMs) };
  }

  /** undefined: the task has not ended, or its shim was killed before it wrote the status down. */
  async exitCode(): Promise<number | undefined> {
    const text = await textIfThere(join(this.path, "exit"));
    return text === undefined || text.trim() === "" ? undefined : Number(text);
  }

  /** `exitCode` as a shell has it, above 128 for a signal. `from`: where in the log this run began. */
  async exitOf(exitCode: number | undefined, from: number): Promise<Exit> {
    if (exitCode === undefined) return { exitCode: null, error: "it ended, and its exit status is not known" };
    return describeExit(exitCode, exitCode === 0 ? "" : await this.#tail(from));
  }

  /** Whether the log has grown to its limit. Asked for each task once a second, so it does not wait (see isAlive). */
  isLogFull(): boolean {
    return (statSync(this.log, { throwIfNoEntry: false })?.size ?? 0) > LOG_MAX_BYTES;
  }

  /** Keeps the log, which the task appends to, from growing without end. */
  async limitLog(): Promise<void> {
    if (!this.isLogFull()) return;
    try {
      await copyFile(this.log, `${this.log}.1`);
    } catch (error) {
      await rm(`${this.log}.1`, { force: true }); // on a full disk it would keep the room
      throw error;
    }
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

/** Names of the tasks' directories below `folder`: their ids. */
export async function taskIds(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    return ignoreMissing(error) ?? [];
  }
}

/** Nothing for a file that is not there. */
function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
}
