// What runs a task: the supervisor asks, a runtime does. Tasks outlive the agent, and are adopted by the next one.
import type { Readable } from "node:stream";
import type { ContainerNaming } from "../cluster/container-naming.ts";
import type { LogQuery } from "../cluster/protocol.ts";
import type { Workload } from "../cluster/workload.ts";

export interface TaskSpec<W = Workload> {
  readonly id: string;
  /** SERVICE.SLOT */
  readonly name: string;
  readonly workload: W;
  /** Of its first network; null while it has none. */
  readonly address: string | null;
  readonly naming: ContainerNaming;
  /** TCP ports that its service publishes: it is ready when it listens on one of them. */
  readonly ports: readonly number[];
}

export interface Exit {
  /** null: not known. */
  exitCode: number | null;
  /** Why, with the end of what it printed; null when it ended well. */
  error: string | null;
}

export interface Running {
  /** Wall-clock milliseconds. */
  readonly startedAt: number;
  /** Resolves when it takes connections, or has had time enough to. null: it does, or did before. Never rejects. */
  readonly ready: Promise<void> | null;
  readonly exited: Promise<Exit>;
  /** Asks it to end, and after `graceMs` makes it. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>;
}

/** A task that cannot be started as it is described. */
export class RejectedError extends Error {
  override name = "RejectedError";
}

/** What runs tasks cannot be reached. */
export class AwayError extends Error {
  override name = "AwayError";
  /** Resolves when it can be. */
  readonly back: Promise<void>;
  /** Since when the task it was about is seen to run all the same, wall-clock milliseconds. */
  readonly runningSince: number | undefined;

  constructor(message: string, back: Promise<void>, options: ErrorOptions & { runningSince?: number } = {}) {
    super(message, options);
    this.back = back;
    this.runningSince = options.runningSince;
  }
}

/** For whoever waits while a task is prepared. */
export interface Preparation {
  /** Says what is being done. */
  progress(message: string): void;
  /** Nobody wants the task any more. */
  readonly signal: AbortSignal;
}

/** A task that may be there, or what is left of it. */
export type TaskId = Pick<TaskSpec, "id">;

/** `R` is how it is told which task is meant, once it may be there. */
export interface Runtime<W = Workload, R extends TaskId = TaskId> {
  /** Makes its sandbox, or finds it. Returns the network namespace's name under /run/netns. Throws AwayError. */
  prepare(spec: TaskSpec<W>, preparation: Preparation): Promise<string>;
  /** Throws RejectedError, AwayError. */
  start(spec: TaskSpec<W>): Promise<Running>;
  /** The task, if it still runs from before. Throws AwayError. */
  adopt(task: R): Promise<Running | undefined>;
  /** Removes what is left of it. */
  remove(task: R): Promise<void>;
  /** Ends and removes all of this node's tasks but those of `keep()`, which is asked before each. */
  prune(keep: () => Iterable<string>): Promise<void>;
  /** What it printed, as it printed it; undefined when there is no such task here. */
  logs(task: R, query: LogQuery): Promise<Readable | undefined>;
  /** Looks after nothing any more; tasks go on. */
  close(): void;
}
