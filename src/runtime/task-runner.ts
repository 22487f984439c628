// Keeps one task running until it is to stop:
//
//   preparing -> starting -> running -> complete | failed --back-off--> preparing
//       |            +-> rejected ------------------------back-off----> preparing
//       +-> failed
//   to be stopped, in any of them -> shutdown
import type { TaskState, TaskStatus } from "../cluster/schema.ts";
import type { Workload } from "../cluster/workload.ts";
import { Backoff } from "../lib/backoff.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { AwayError, NotYetError, RejectedError, type Running, type TaskSpec } from "./runtime.ts";
import type { AnyRuntime, AnyTask } from "./runtimes.ts";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;
/** After a run of this length the next pause is the first again. */
const HEALTHY_MS = 10_000;
/** For a task whose service is gone, and its grace with it. */
const STOP_GRACE_MS = 10_000;
const NEVER = new Promise<void>(() => {});

export interface TaskRunnerOptions {
  runtime: AnyRuntime;
  clock: Clock;
  log: Log;
  /** The node's id now. */
  nodeId: () => string;
  /** Makes the links into the task's network namespace. Called before each start and each adoption, also when they are there. */
  link(task: AnyTask, netns: string): Promise<void>;
  /** Resolves when a running task may be stopped. */
  drain(task: AnyTask): Promise<void>;
  report(status: TaskStatus): void;
}

export class TaskRunner {
  #spec: TaskSpec<Workload | null>;
  readonly #options: TaskRunnerOptions;
  /** undefined: the task is to run. */
  #order: "stop" | "leave" | undefined;
  readonly #unwanted = new AbortController();
  #resolveUpdated: () => void = () => {};
  #resolveOrdered: () => void = () => {};
  readonly #whenOrdered: Promise<void>;
  #resolveLeft: () => void = () => {};
  readonly #whenLeft: Promise<void>;
  #restarts = 0;
  /** Why it is not running, until it is. */
  #error: string | null = null;
  #hasEnded = false;
  /** How far its preparation is; undefined while nothing is being prepared. */
  #progress: string | undefined;

  constructor(spec: TaskSpec<Workload | null>, options: TaskRunnerOptions) {
    this.#spec = spec;
    this.#options = { ...options, log: options.log.with({ task: spec.name }) };
    this.#whenOrdered = new Promise((resolve) => {
      this.#resolveOrdered = resolve;
    });
    this.#whenLeft = new Promise((resolve) => {
      this.#resolveLeft = resolve;
    });
  }

  /** The task was to stop, and nothing of it is left. */
  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** How far the task's preparation is; undefined while nothing is being prepared. */
  get progress(): string | undefined {
    return this.#progress;
  }

  /** The row of the task's service may have changed: the next preparation and start go by that. */
  update(spec: TaskSpec<Workload | null>): void {
    if (spec.workload === null || spec.workload === this.#spec.workload) return;
    this.#spec = spec;
    this.#resolveUpdated();
  }

  /** Begins to stop and remove the task. */
  stop(): void {
    this.#order ??= "stop";
    this.#unwanted.abort();
    this.#resolveOrdered();
  }

  /** The agent goes; the task stays. */
  leave(): void {
    this.#order = "leave";
    this.#unwanted.abort();
    this.#resolveOrdered();
    this.#resolveLeft();
  }

  /** Resolves when the task was stopped, or is left alone. */
  async run(): Promise<void> {
    const { clock } = this.#options;
    const backoff = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    while (this.#order === undefined) {
      const { ranMs, back = NEVER, goesOn = false } = await this.#runOnce();
      if (this.#order !== undefined) break;
      if (ranMs >= HEALTHY_MS) backoff.succeeded();
      await this.#unlessOrdered(Promise.race([delay(clock, backoff.failed()), back]));
      if (!goesOn) this.#restarts++;
    }
    backoff.succeeded();
    while (this.#order === "stop") {
      if ((await this.#end()) || this.#isLeft()) return;
      await Promise.race([delay(clock, backoff.failed()), this.#whenLeft]);
    }
  }

  /**
   * One run, from sandbox to exit; an order ends it early. `back` resolves when another try is worth it; `goesOn`: the task
   * runs, out of reach, or waits for what it needs.
   */
  async #runOnce(): Promise<{ ranMs: number; back?: Promise<void>; goesOn?: boolean }> {
    const { clock, log } = this.#options;
    let running: Running | undefined;
    try {
      running = await this.#begin();
    } catch (error) {
      if (this.#order !== undefined) return { ranMs: 0 };
      const again = { ranMs: 0, ...(error instanceof AwayError && { back: error.back }) };
      if (error instanceof AwayError && error.runningSince !== undefined) {
        this.#report("running", { since: error.runningSince });
        return { ...again, goesOn: true };
      }
      if (error instanceof NotYetError) {
        return {
          ranMs: 0,
          goesOn: true,
          back: new Promise((resolve) => {
            this.#resolveUpdated = resolve;
          }),
        };
      }
      const reason = messageOf(error);
      log.warn("task cannot be started", { reason });
      this.#report(error instanceof RejectedError ? "rejected" : "failed", { error: reason });
      return again;
    }
    if (running === undefined || this.#order !== undefined) return { ranMs: 0 };
    const began = clock.monotonic();
    const ended = await Promise.race([running.exited, Promise.resolve()]);
    if (ended === undefined) this.#report("running", { since: running.startedAt });
    const exit = await this.#unlessOrdered(running.exited);
    const ranMs = clock.monotonic() - began;
    if (exit === undefined) return { ranMs };
    log.info("task ended", { reason: exit.error ?? "exit status 0" });
    this.#report(exit.error === null ? "complete" : "failed", { ...exit, since: clock.now() });
    return { ranMs };
  }

  async #begin(): Promise<Running | undefined> {
    const { runtime, link } = this.#options;
    const adopted = await runtime.adopt(this.#spec);
    if (adopted === undefined) this.#report("preparing");
    const netns = await this.#prepare();
    await link(this.#spec, netns);
    if (this.#order !== undefined) return adopted;
    if (adopted?.ready !== null) this.#report("starting");
    const running = adopted ?? (await runtime.start(this.#spec));
    if (running.ready !== null) await this.#unlessOrdered(Promise.race([running.exited, running.ready]));
    return running;
  }

  async #prepare(): Promise<string> {
    const progress = (message: string): void => {
      if (this.#progress === undefined) this.#report("preparing", { message });
      this.#progress = message;
    };
    try {
      return await this.#options.runtime.prepare(this.#spec, { progress, signal: this.#unwanted.signal });
    } finally {
      this.#progress = undefined;
    }
  }

  /** Whether the agent goes. That may become so during any wait. */
  #isLeft(): boolean {
    return this.#order === "leave";
  }

  /** Stops and removes the task. Returns false when something of it is left. */
  async #end(): Promise<boolean> {
    const { runtime, log, drain } = this.#options;
    try {
      const running = await runtime.adopt(this.#spec);
      if (running !== undefined) {
        await Promise.race([drain(this.#spec), running.exited, this.#whenLeft]);
        if (this.#isLeft()) return false;
        await running.stop(this.#spec.workload?.stopGracePeriodMs ?? STOP_GRACE_MS);
      }
      await runtime.remove(this.#spec);
    } catch (error) {
      log.error("task cannot be removed, and will be tried again", { reason: messageOf(error) });
      return false;
    }
    this.#hasEnded = true;
    this.#report("shutdown");
    return true;
  }

  /** Resolves as `wait` does; to undefined when an order comes first. */
  #unlessOrdered<T>(wait: Promise<T>): Promise<T | undefined> {
    return Promise.race([wait, this.#whenOrdered.then(() => undefined)]);
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
