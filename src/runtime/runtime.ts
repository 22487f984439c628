// What runs a task: the supervisor asks, a runtime does. Tasks outlive the agent, and are adopted by the next one.
import type { Process } from "../cluster/schema.ts";

export interface TaskSpec {
  readonly id: string;
  /** SERVICE.SLOT */
  readonly name: string;
  readonly process: Process;
  /** For its resolv.conf. */
  readonly nameservers: readonly string[];
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
  readonly exited: Promise<Exit>;
  /** Asks it to end, and after `graceMs` makes it. Resolves when it is gone. */
  stop(graceMs: number): Promise<void>;
}

/** A task that cannot be started as it is described. */
export class RejectedError extends Error {
  override name = "RejectedError";
}

export interface Runtime {
  /** Makes its sandbox, or finds it. Returns the network namespace's name under /run/netns. */
  prepare(spec: TaskSpec): Promise<string>;
  /** Throws RejectedError. */
  start(spec: TaskSpec): Promise<Running>;
  /** Resolves when the task just started takes connections, or has had time enough to. */
  ready(spec: TaskSpec): Promise<void>;
  /** The task, if it still runs from before. */
  adopt(id: string): Promise<Running | undefined>;
  /** Removes what is left of it. */
  remove(id: string): Promise<void>;
  /** Ends and removes all of this node's tasks but those of `keep()`, which is asked before each. */
  prune(keep: () => Iterable<string>): Promise<void>;
  /** Looks after nothing any more; tasks go on. */
  close(): void;
}
