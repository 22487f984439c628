// A task's process, whichever agent started it: learns of its end at once, and stops it.
import { type FSWatcher, watch } from "node:fs";
import { type Clock, delay, type Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { isAlive, type ProcessId } from "./process-id.ts";
import type { ProcessWatch } from "./process-watch.ts";
import type { Exit, Running } from "./runtime.ts";
import type { TaskDirectory } from "./task-directory.ts";

/** How long a log that grows waits for a look at its size. */
const LOG_MS = 1000;

interface WatchedProcessOptions {
  directory: TaskDirectory;
  id: ProcessId & { startedAt: number };
  /** The log's size when it started. */
  logFrom: number;
  /** See Running. */
  ready: Promise<void> | null;
  clock: Clock;
  log: Log;
  /** Tells of its end, for a shim that was killed writes no exit status. */
  processes: ProcessWatch;
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
  readonly #ends: { close(): void };
  /** It looks at the log's size. */
  #logLook: Timer | undefined;
  /** Nothing tells that the log grows. */
  #isUnwatched = false;
  #resolve: (exit: Exit) => void = () => {};
  #looking = false;
  #lookAgain = false;
  /** Whether the process was seen to be dead while its exit status was missing. */
  #wasDead = false;
  #closed = false;
  /** Why the log could not be cut at the last look. */
  #logProblem: string | undefined;

  constructor({ directory, id, logFrom, ready, clock, log, processes }: WatchedProcessOptions) {
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
      if (file === "log") this.#lookAtLogLater();
    });
    this.#watcher.on("error", (error) => {
      log.warn("a task's directory is not watched", { reason: messageOf(error) });
      this.#isUnwatched = true;
      this.#lookAtLogLater();
    });
    this.#ends = processes.watch(id, () => void this.#look(true));
    void this.#look(false);
    this.#lookAtLogLater(); // it may be full already
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
    this.#ends.close();
    this.#logLook?.cancel();
  }

  #lookAtLogLater(): void {
    if (this.#closed) return;
    this.#logLook ??= this.#clock.after(LOG_MS, () => {
      this.#logLook = undefined;
      const isFull = this.#directory.isLogFull();
      if (isFull) void this.#limitLog();
      if (isFull || this.#isUnwatched) this.#lookAtLogLater();
    });
  }

  /** `hasEnded`: the process is gone, as far as its number tells. */
  async #look(hasEnded: boolean): Promise<void> {
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = true;
    let isEnd = hasEnded;
    do {
      this.#lookAgain = false;
      try {
        await this.#lookOnce(isEnd);
      } catch (error) {
        this.#log.warn("a task's files cannot be read", { path: this.#directory.path, reason: messageOf(error) });
      }
      isEnd = false; // the second that the shim has is not over
    } while (this.#lookAgain);
    this.#looking = false;
  }

  async #lookOnce(hasEnded: boolean): Promise<void> {
    if (this.#closed) return;
    const exitCode = await this.#directory.exitCode();
    if (exitCode === undefined) {
      if (!hasEnded) return;
      // The shim may be about to write the status down: it has a second.
      const isCertain = this.#wasDead;
      this.#wasDead = true;
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
