// A process that the agent itself needs, run as tasks are: it outlives the agent and is adopted by the next one. When it
// ends it is started again with back-off; after five ends in ten minutes it is left alone, and its status says so.
//
//   stopped --run--> running --exit--> waiting --back-off--> running
//                       |                 '--fifth exit--> failed
//                       '--stop, leave--> stopped
import { createHash } from "node:crypto";
import { Backoff } from "../lib/backoff.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { beginProcess } from "./begin-process.ts";
import { isAlive, type ProcessId } from "./process-id.ts";
import { ProcessWatch } from "./process-watch.ts";
import { shim } from "./shim.ts";
import { TaskDirectory } from "./task-directory.ts";
import { WatchedProcess } from "./watched-process.ts";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
const MAX_CRASHES = 5;
const CRASH_PERIOD_MS = 600_000;
const STOP_GRACE_MS = 10_000;

export type ChildStatus =
  | { state: "stopped" }
  | { state: "running"; pid: number; startedAt: number; error: string | null }
  /** It ended, and is started again soon. */
  | { state: "waiting"; error: string }
  /** It ended too often, or cannot be started: it is not started again by itself. */
  | { state: "failed"; error: string };

interface ChildCommand {
  command: readonly string[];
  env: Record<string, string>;
  /** A process whose identity is another is started again; left out: the command. */
  identity?: readonly string[];
}

interface SupervisedChildOptions {
  /** What it is called in the agent's log. */
  name: string;
  /** Its pid, exit status, log and the hash of its command are files in it. */
  directory: string;
  clock: Clock;
  log: Log;
}

export class SupervisedChild {
  readonly #options: SupervisedChildOptions;
  readonly #directory: TaskDirectory;
  readonly #hashPath: string;
  readonly #pause = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  // BOUNDED: by MAX_CRASHES. When it ended, monotonic milliseconds.
  #crashes: number[] = [];
  #status: ChildStatus = { state: "stopped" };
  #running: WatchedProcess | undefined;
  readonly #processes: ProcessWatch;
  #supervision: { abort: AbortController; done: Promise<void> } | undefined;

  constructor(options: SupervisedChildOptions) {
    this.#options = options;
    this.#processes = new ProcessWatch(options);
    this.#directory = new TaskDirectory(options.directory);
    this.#hashPath = `${options.directory}/command`;
  }

  get status(): ChildStatus {
    return this.#status;
  }

  /** The path of what it prints. */
  get log(): string {
    return this.#directory.log;
  }

  /**
   * Has it run from now on. A process that runs from before is adopted when `identity` is the same, and ended otherwise.
   * Resolves when it runs. Throws when it cannot be started at all; then it is not supervised.
   */
  async run({ command, env, identity = command }: ChildCommand): Promise<void> {
    const begin = () => this.#begin(command, env, hashOf(identity));
    await this.leave();
    this.#crashes = [];
    this.#pause.succeeded();
    try {
      this.#watched((await this.#adopted(hashOf(identity))) ?? (await begin()));
    } catch (error) {
      this.#status = { state: "failed", error: messageOf(error) };
      throw error;
    }
    const abort = new AbortController();
    const done = this.#supervise(begin, abort.signal).catch((error: unknown) => {
      this.#status = { state: "failed", error: messageOf(error) };
      this.#options.log.error(`${this.#options.name} is not supervised any more`, this.#fields(messageOf(error)));
    });
    this.#supervision = { abort, done };
  }

  /** Ends it, also when an earlier agent started it. */
  async stop(): Promise<void> {
    await this.leave();
    const found = await this.#found();
    await found?.stop(STOP_GRACE_MS);
    found?.close();
  }

  /** Ends the supervision; the process goes on. */
  async leave(): Promise<void> {
    this.#supervision?.abort.abort();
    this.#running?.close();
    await this.#supervision?.done;
    this.#supervision = undefined;
    this.#running = undefined;
    this.#status = { state: "stopped" };
  }

  async #supervise(begin: () => Promise<WatchedProcess>, signal: AbortSignal): Promise<void> {
    const left = new Promise<undefined>((resolve) => signal.addEventListener("abort", () => resolve(undefined)));
    for (;;) {
      const exit = await Promise.race([this.#running!.exited, left]);
      if (exit === undefined) return;
      const runs = await this.#beginAgain(begin, exit.error ?? "it ended by itself", signal);
      if (!runs) return;
    }
  }

  /** Resolves with true when it runs again, and with false when it is left alone. One that cannot be started has ended. */
  async #beginAgain(begin: () => Promise<WatchedProcess>, ended: string, signal: AbortSignal): Promise<boolean> {
    const { name, clock, log } = this.#options;
    for (let error = ended; ; ) {
      const now = clock.monotonic();
      const since = now - CRASH_PERIOD_MS;
      const crashes = [...this.#crashes.filter((at) => at > since), now];
      if (crashes.length === 1) this.#pause.succeeded();
      this.#crashes = crashes;
      if (crashes.length >= MAX_CRASHES) {
        const reason = `it ended ${counted(crashes.length, "time")} in ten minutes and is not started again: ${error}`;
        this.#status = { state: "failed", error: reason };
        log.error(`${name} is left alone`, this.#fields(reason));
        return false;
      }
      this.#status = { state: "waiting", error };
      log.warn(`${name} ended, and is started again`, this.#fields(error));
      await delay(clock, this.#pause.failed(), signal);
      if (signal.aborted) return false;
      try {
        this.#watched(await begin(), error);
        return true;
      } catch (failure) {
        error = messageOf(failure);
      }
    }
  }

  async #begin(command: readonly string[], env: Record<string, string>, hash: string): Promise<WatchedProcess> {
    const { directory: path, clock } = this.#options;
    const { argv, env: shimEnv } = shim(path, command, env);
    await replaceFile(this.#hashPath, hash);
    const { id, logFrom } = await beginProcess({ directory: this.#directory, argv, env: shimEnv, cwd: path, clock });
    return this.#watch({ id, logFrom });
  }

  /** The process that runs from before with this hash. One that runs with another is ended. */
  async #adopted(hash: string): Promise<WatchedProcess | undefined> {
    const found = await this.#found();
    if (found === undefined) return undefined;
    if ((await textIfThere(this.#hashPath)) === hash) return found;
    this.#options.log.info(`${this.#options.name} is started again with other options`, this.#fields());
    await found.stop(STOP_GRACE_MS);
    found.close();
    return undefined;
  }

  /** The process that runs from before, whatever its command. */
  async #found(): Promise<WatchedProcess | undefined> {
    const id = await this.#directory.processId();
    if (id === undefined || !isAlive(id)) return undefined;
    return this.#watch({ id, logFrom: await this.#directory.logBytes() });
  }

  #watch({ id, logFrom }: { id: ProcessId & { startedAt: number }; logFrom: number }): WatchedProcess {
    const { clock, log } = this.#options;
    const options = { directory: this.#directory, id, logFrom, ready: null, clock, log, processes: this.#processes };
    return new WatchedProcess(options);
  }

  #watched(running: WatchedProcess, error: string | null = null): void {
    this.#running = running;
    const { startedAt, pid } = running;
    this.#status = { state: "running", pid, startedAt, error };
  }

  #fields(reason?: string): Record<string, string> {
    return { path: this.#directory.log, ...(reason === undefined ? {} : { reason }) };
  }
}

function hashOf(identity: readonly string[]): string {
  return createHash("sha256").update(JSON.stringify(identity)).digest("hex");
}
