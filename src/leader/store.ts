// Where the leader keeps the state. The leader is the only writer; a store that several managers share fences its
// commits by leadership, and tells a leader when it is one no longer.

import type { Change, ClusterIdentity } from "../cluster/schema.ts";
import type { LiveState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { PlatformError } from "../lib/errors.ts";

export interface Leadership {
  /** Aborted, with the reason, when this process leads no longer. */
  readonly lost: AbortSignal;
  /**
   * Whether surely no other process leads at this moment. A process that was frozen finds false here before a timer has
   * told it anything.
   */
  isCertain(): boolean;
  /** Gives the leadership back, so that another process leads at once. Resolves also when nothing could be told. */
  resign(): Promise<void>;
}

export interface Store {
  /** Resolves when this process leads: no other one does until leadership is lost or given back. Rejects when the store is closed. */
  campaign(): Promise<Leadership>;
  /** The state of the last commit, the caller's own. To be called by the leader. */
  load(): Promise<LiveState>;
  /**
   * Keeps `changes` as `revision`, all or none, durable when it resolves. Throws UserError 507 when there is no room, 413
   * when the store never takes as much at once, and 503 when this process does not lead; then nothing has changed.
   * Throws UserError 504 when it cannot be known whether it was kept; then leadership is lost.
   */
  commit(changes: readonly Change[], revision: number): Promise<void>;
  /** Keeps which cluster the state is of. Throws as `commit` does. */
  identify(cluster: ClusterIdentity): Promise<void>;
  /**
   * Makes the store hold this state, with its identity and revision, and nothing else. To be called by the leader. It may
   * take several steps: a store whose `fill` failed is thrown away.
   */
  fill(state: State): Promise<void>;
  /** Gives back a leadership that this process has. */
  close(): Promise<void>;
}

/** The leadership of a store that no other process can open. */
export function soleLeadership(): Leadership {
  return { lost: new AbortController().signal, isCertain: () => true, resign: async () => {} };
}

/** The error of a node that cannot lead until an operator has decided; it may go on without leading. */
export class CannotLeadError extends PlatformError {
  override name = "CannotLeadError";
}
