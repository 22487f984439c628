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
  /** The task's address on its first network; null while it has none. */
  readonly address: string | null;
  readonly naming: ContainerNaming;
  /** TCP ports that its service publishes: the task is ready when it listens on one of them. */
  readonly ports: readonly number[];
}

export interface Exit {
  /** null: it is not known. */
  exitCode: number | null;
  /** Why the task ended, with the end of what it printed; null when it ended well. */
  error: string | null;
}

export interface Running {
  /** Wall-clock milliseconds. */
  readonly startedAt: number;
  /** Resolves when the task takes connections, or has had time enough to. null: it does, or did before. Never rejects. */
  readonly ready: Promise<void> | null;
  readonly exited: Promise<Exit>;
  /** Asks the task to end, and ends it after `graceMs`. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>;
}

/** A task cannot be started as it is described. */
export class RejectedError extends Error {
  override name = "RejectedError";
}

/** What the task needs has not come yet; it said so as its progress, and tries again, at once when its row changes. */
export class NotYetError extends Error {
  override name = "NotYetError";
}

/** The program that runs tasks, such as Docker, cannot be reached. */
export class AwayError extends Error {
  override name = "AwayError";
  /** Resolves when it can be reached again. */
  readonly back: Promise<void>;
  /** When the task began, if it is seen to run all the same, in wall-clock milliseconds. */
  readonly runningSince: number | undefined;

  constructor(message: string, back: Promise<void>, options: ErrorOptions & { runningSince?: number } = {}) {
    super(message, options);
    this.back = back;
    this.runningSince = options.runningSince;
  }
}

/** What the caller of prepare gives with it. */
export interface Preparation {
  /**
   * Takes a message about what is being done. The first one goes to every node of the cluster; those after it say how far it
   * is, and are kept on this node for clients that ask.
   */
  progress(message: string): void;
  /** Aborted when the task is not wanted any more. */
  readonly signal: AbortSignal;
}

/** A task that may run, or may have left something. */
export type TaskId = Pick<TaskSpec, "id">;

/** Starts, finds and removes tasks. `R` names a task that may run already. */
export interface Runtime<W = Workload, R extends TaskId = TaskId> {
  /** Makes or finds the task's sandbox. Returns the network namespace's name under /run/netns. Throws AwayError. */
  prepare(spec: TaskSpec<W>, preparation: Preparation): Promise<string>;
  /** Throws RejectedError, AwayError. */
  start(spec: TaskSpec<W>): Promise<Running>;
  /** The task, if it still runs from before. Throws AwayError. */
  adopt(task: R): Promise<Running | undefined>;
  /** Removes what is left of the task. */
  remove(task: R): Promise<void>;
  /** Ends and removes all of this node's tasks but those of `keep()`, which is asked before each. */
  prune(keep: () => Iterable<string>): Promise<void>;
  /** The bytes that the task printed; undefined when there is no such task here. */
  logs(task: R, query: LogQuery): Promise<Readable | undefined>;
  /** Stops watching; tasks go on. */
  close(): void;
}
