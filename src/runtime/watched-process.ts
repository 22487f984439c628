// A task's process, whichever agent started it: learns of its end at once, and stops it.
import { type FSWatcher, watch } from "node:fs";
import { type Clock, delay, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { isAlive, type ProcessId } from "./process-id.ts";
import type { Exit, Running } from "./runtime.ts";
import type { TaskDirectory } from "./task-directory.ts";

/** The file that the shim writes at the end is watched. The poll is for a shim that was killed. */
const POLL_MS = 1000;

interface WatchedProcessOptions {
  directory: TaskDirectory;
  id: ProcessId & { startedAt: number };
  /** The log's size when it started. */
  logFrom: number;
  /** See Running. */
  ready: Promise<void> | null;
  clock: Clock;
  log: Log;
}

export class WatchedProcess implements Running {
  readonly startedAt: number;
  readonly ready: Promise<void> | null;
  readonly exited: Promise<Exit>;
  readonly #directory: TaskDirectory;
  readonly #id: ProcessId;
  readonly #logFrom: number;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #watcher: FSWatcher;
  #timer: Timer | undefined;
  #resolve: (exit: Exit) => void = () => {};
  #looking = false;
  #lookAgain = false;
  /** Whether the process was dead at the last poll and its exit status was missing. */
  #wasDead = false;
  #closed = false;
  /** Why the log could not be cut at the last look. */
  #logProblem: string | undefined;

  constructor({ directory, id, logFrom, ready, clock, log }: WatchedProcessOptions) {
    this.startedAt = id.startedAt;
    this.ready = ready;
    this.#directory = directory;
    this.#id = id;
    this.#logFrom = logFrom;
    this.#clock = clock;
    this.#log = log;
    this.exited = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    this.#watcher = watch(directory.path, { persistent: false }, (_, file) => {
      if (file === "exit") void this.#look(false);
    });
    this.#watcher.on("error", (error) => log.warn("a task's directory is not watched", { reason: messageOf(error) }));
    void this.#look(false);
    this.#poll();
  }

  get pid(): number {
    return this.#id.pid;
  }

  async stop(graceMs: number): Promise<void> {
    await this.#signal("SIGTERM");
    const gone = this.exited.then(() => true);
    if (await Promise.race([gone, delay(this.#clock, graceMs).then(() => false)])) return;
    await this.#signal("SIGKILL");
    await gone;
  }

  /** Stops watching; the process goes on. */
  close(): void {
    this.#closed = true;
    this.#watcher.close();
    this.#timer?.cancel();
  }

  #poll(): void {
    this.#timer = this.#clock.after(POLL_MS, () => {
      this.#poll();
      if (!isAlive(this.#id) || this.#directory.isLogFull()) void this.#look(true);
    });
  }

  async #look(isPoll: boolean): Promise<void> {
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    do {
      this.#lookAgain = false;
      try {
        await this.#lookOnce(isPoll);
      } catch (error) {
        this.#log.warn("a task's files cannot be read", { path: this.#directory.path, reason: messageOf(error) });
      }
    } while (this.#lookAgain);
    this.#looking = false;
  }

  async #lookOnce(isPoll: boolean): Promise<void> {
    if (this.#closed) return;
    const exitCode = await this.#directory.exitCode();
    if (exitCode === undefined) {
      if (isPoll) await this.#limitLog();
      const isDead = isPoll && !isAlive(this.#id);
      // The shim may be about to write the status down: it has until the next poll.
      const isCertain = isDead && this.#wasDead;
      this.#wasDead = isDead;
      if (!isCertain) return;
    }
    const exit = await this.#directory.exitOf(exitCode, this.#logFrom);
    this.close();
    this.#resolve(exit);
  }

  /** A log that cannot be cut, as on a full disk, does not hide the process's end. */
  async #limitLog(): Promise<void> {
    const { log: path } = this.#directory;
    try {
      await this.#directory.limitLog();
      this.#logProblem = undefined;
    } catch (error) {
      const reason = messageOf(error);
      if (reason !== this.#logProblem) this.#log.warn("a task's log cannot be cut", { path, reason });
      this.#logProblem = reason;
    }
  }

  /** Sends the signal to the whole process group. */
  async #signal(signal: NodeJS.Signals): Promise<void> {
    if (!isAlive(this.#id)) return;
    try {
      process.kill(-this.#id.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}
