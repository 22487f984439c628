// Makes this node's tasks what the state asks for: starts, adopts, restarts and stops them, and reports their states.
import type { Task } from "../cluster/schema.ts";
import type { Workload } from "../cluster/workload.ts";
import { messageOf } from "../lib/errors.ts";
import type { TaskSpec } from "./runtime.ts";
import { TaskRunner, type TaskRunnerOptions } from "./task-runner.ts";

export interface DesiredTask extends TaskSpec<Workload | null> {
  readonly desired: Task["desired"];
}

export class Supervisor {
  readonly #options: TaskRunnerOptions;
  // BOUNDED: by the node's desired tasks, and those that are being stopped; keyed by task id.
  readonly #runners = new Map<string, TaskRunner>();
  // BOUNDED: as #runners.
  readonly #running = new Set<Promise<void>>();
  #desired: ReadonlyMap<string, DesiredTask> | undefined;
  #isPruned = false;

  constructor(options: TaskRunnerOptions) {
    this.#options = options;
  }

  /** Takes all tasks of this node. */
  apply(tasks: readonly DesiredTask[]): void {
    this.#desired = new Map(tasks.map((task) => [task.id, task]));
    for (const task of tasks) {
      const runner = this.#runners.get(task.id);
      if (runner === undefined || (runner.hasEnded && task.desired === "running")) this.#start(task);
      else runner.update(task);
    }
    for (const [id, runner] of this.#runners) {
      const task = this.#desired.get(id);
      if (task === undefined || task.desired === "shutdown") runner.stop();
      if (task === undefined && runner.hasEnded) this.#runners.delete(id);
    }
  }

  /** How far the task's preparation is; undefined while nothing is being prepared. */
  progressOf(taskId: string): string | undefined {
    return this.#runners.get(taskId)?.progress;
  }

  /** Ends tasks that earlier agents started and that are not desired. Call it once the desired tasks are a leader's. */
  removeOthers(): void {
    if (this.#isPruned) return;
    this.#isPruned = true;
    this.#own(this.#options.runtime.prune(() => this.#runners.keys()));
  }

  /** Tasks go on without the agent. */
  async close(): Promise<void> {
    this.#desired = new Map();
    for (const runner of this.#runners.values()) runner.leave();
    await Promise.all(this.#running);
    this.#options.runtime.close();
  }

  #start(task: DesiredTask): void {
    const runner = new TaskRunner(task, this.#options);
    if (task.desired === "shutdown") runner.stop();
    this.#runners.set(task.id, runner);
    this.#own(runner.run().then(() => this.#ended(runner, task.id)));
  }

  /** After a runner's end its task may be wanted again: a node that came back has its tasks again. */
  #ended(runner: TaskRunner, id: string): void {
    if (!runner.hasEnded || this.#runners.get(id) !== runner) return;
    const task = this.#desired?.get(id);
    if (task === undefined) this.#runners.delete(id);
    else if (task.desired === "running") this.#start(task);
  }

  #own(work: Promise<void>): void {
    const owned: Promise<void> = work
      .catch((error: unknown) => this.#options.log.error("supervision failed", { reason: messageOf(error) }))
      .finally(() => this.#running.delete(owned));
    this.#running.add(owned);
  }
}
