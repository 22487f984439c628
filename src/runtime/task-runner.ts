// Keeps one task running until it is told to stop:
//
//   preparing -> starting -> running -> complete | failed --back-off--> preparing
//       |            +-> rejected ------------------------back-off----> preparing
//       +-> failed
//   told to stop, in any of them -> shutdown
import type { TaskState, TaskStatus } from "../cluster/schema.ts";
import type { Workload } from "../cluster/workload.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { AwayError, RejectedError, type Running, type TaskSpec } from "./runtime.ts";
import type { AnyRuntime, AnyTask } from "./runtimes.ts";

const BACKOFF_FIRST_MS = 100;
const BACKOFF_MAX_MS = 30_000;
/** A task that ran so long starts with a short back-off again. */
const HEALTHY_MS = 10_000;
/** For a task whose service is gone: nobody knows what it was given. */
const STOP_GRACE_MS = 10_000;
const NEVER = new Promise<void>(() => {});

export interface TaskRunnerOptions {
  runtime: AnyRuntime;
  clock: Clock;
  log: Log;
  /** The node's id now. */
  nodeId: () => string;
  /** Links the task's network namespace. Called before each start and each adoption: it must not mind twice. */
  attach(task: AnyTask, netns: string): Promise<void>;
  detach(task: AnyTask): Promise<void>;
  /** Resolves when a running task that is to stop may be told to. */
  drain(task: AnyTask): Promise<void>;
  report(status: TaskStatus): void;
}

export class TaskRunner {
  readonly #spec: TaskSpec<Workload | null>;
  readonly #options: TaskRunnerOptions;
  #told: "stop" | "leave" | undefined;
  #tell: () => void = () => {};
  readonly #unwanted = new AbortController();
  readonly #whenTold: Promise<void>;
  #tellLeave: () => void = () => {};
  readonly #whenLeft: Promise<void>;
  #restarts = 0;
  /** Why it is not running, until it is. */
  #error: string | null = null;
  #hasEnded = false;

  constructor(spec: TaskSpec<Workload | null>, options: TaskRunnerOptions) {
    this.#spec = spec;
    this.#options = { ...options, log: options.log.with({ task: spec.name }) };
    this.#whenTold = new Promise((resolve) => {
      this.#tell = resolve;
    });
    this.#whenLeft = new Promise((resolve) => {
      this.#tellLeave = resolve;
    });
  }

  /** It was told to stop, and nothing of it is left. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** To be stopped and removed. */
  stop(): void {
    this.#told ??= "stop";
    this.#unwanted.abort();
    this.#tell();
  }

  /** The agent goes; the task stays. */
  leave(): void {
    this.#told = "leave";
    this.#unwanted.abort();
    this.#tell();
    this.#tellLeave();
  }

  /** Resolves when it was told to stop and has, or was told to leave. */
  async run(): Promise<void> {
    const { clock } = this.#options;
    let backoffMs = BACKOFF_FIRST_MS;
    while (this.#told === undefined) {
      const { ranMs, back = NEVER, goesOn = false } = await this.#runOnce();
      if (this.#told !== undefined) break;
      if (ranMs >= HEALTHY_MS) backoffMs = BACKOFF_FIRST_MS;
      await this.#orTold(Promise.race([delay(clock, backoffMs), back]));
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS);
      if (!goesOn) this.#restarts++;
    }
    for (backoffMs = BACKOFF_FIRST_MS; this.#told === "stop"; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
      if ((await this.#end()) || this.#isLeft()) return;
      await Promise.race([delay(clock, backoffMs), this.#whenLeft]);
    }
  }

  /**
   * From sandbox to exit. Returns early when it is told something. `back`: when it is worth another try; `goesOn`: the
   * task runs, out of reach.
   */
  async #runOnce(): Promise<{ ranMs: number; back?: Promise<void>; goesOn?: boolean }> {
    const { clock, log, attach } = this.#options;
    let running: Running | undefined;
    try {
      running = await this.#begin(attach);
    } catch (error) {
      if (this.#told !== undefined) return { ranMs: 0 };
      const again = { ranMs: 0, ...(error instanceof AwayError && { back: error.back }) };
      if (error instanceof AwayError && error.runningSince !== undefined) {
        this.#report("running", { since: error.runningSince });
        return { ...again, goesOn: true };
      }
      const reason = messageOf(error);
      log.warn("task cannot be started", { reason });
      this.#report(error instanceof RejectedError ? "rejected" : "failed", { error: reason });
      return again;
    }
    if (running === undefined || this.#told !== undefined) return { ranMs: 0 };
    const began = clock.monotonic();
    const ended = await Promise.race([running.exited, Promise.resolve()]);
    if (ended === undefined) this.#report("running", { since: running.startedAt });
    const exit = await this.#orTold(running.exited);
    const ranMs = clock.monotonic() - began;
    if (exit === undefined) return { ranMs };
    log.info("task ended", { reason: exit.error ?? "exit status 0" });
    this.#report(exit.error === null ? "complete" : "failed", { ...exit, since: clock.now() });
    return { ranMs };
  }

  async #begin(attach: TaskRunnerOptions["attach"]): Promise<Running | undefined> {
    const { runtime } = this.#options;
    const adopted = await runtime.adopt(this.#spec);
    if (adopted === undefined) this.#report("preparing");
    const netns = await runtime.prepare(this.#spec, {
      progress: (message) => this.#report("preparing", { message }),
      signal: this.#unwanted.signal,
    });
    await attach(this.#spec, netns);
    if (this.#told !== undefined) return adopted;
    if (adopted?.ready !== null) this.#report("starting");
    const running = adopted ?? (await runtime.start(this.#spec));
    if (running.ready !== null) await this.#orTold(Promise.race([running.exited, running.ready]));
    return running;
  }

  /** Whether the agent goes; that can come about during any wait. */
  #isLeft(): boolean {
    return this.#told === "leave";
  }

  /** False when something of it is left. */
  async #end(): Promise<boolean> {
    const { runtime, log, drain, detach } = this.#options;
    try {
      const running = await runtime.adopt(this.#spec);
      if (running !== undefined) {
        await Promise.race([drain(this.#spec), running.exited, this.#whenLeft]);
        if (this.#isLeft()) return false;
        await running.stop(this.#spec.workload?.stopGracePeriodMs ?? STOP_GRACE_MS);
      }
      await detach(this.#spec);
      await runtime.remove(this.#spec);
    } catch (error) {
      log.error("task cannot be removed, and will be tried again", { reason: messageOf(error) });
      return false;
    }
    this.#hasEnded = true;
    this.#report("shutdown");
    return true;
  }

  /** What comes first; undefined when that is being told. */
  #orTold<T>(wait: Promise<T>): Promise<T | undefined> {
    return Promise.race([wait, this.#whenTold.then(() => undefined)]);
  }

  #report(state: TaskState, details: Partial<Pick<TaskStatus, "since" | "error" | "exitCode" | "message">> = {}): void {
    const { nodeId, clock, report } = this.#options;
    const { since = clock.now(), error = null, exitCode = null, message = null } = details;
    const isOnItsWay = state === "preparing" || state === "starting";
    this.#error = isOnItsWay ? this.#error : error;
    const taskId = this.#spec.id;
    report({ taskId, nodeId: nodeId(), state, since, error: this.#error, exitCode, message, restarts: this.#restarts });
  }
}
