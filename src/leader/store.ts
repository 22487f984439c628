// Where the leader keeps the state. The leader is the only writer; a store that several managers share fences its
// commits by leadership, and tells a leader when it is one no longer.

import type { Change, ClusterIdentity } from "../cluster/schema.ts";
import type { LiveState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { PlatformError } from "../lib/errors.ts";

export interface Leadership {
  /** Aborted, with the reason, when this process leads no longer. */
  readonly lost: AbortSignal;
}

export interface Store {
  /** Resolves when this process leads. No other process leads until `close()`, or until leadership is lost. */
  campaign(): Promise<Leadership>;
  /** The state of the last commit, the caller's own. To be called by the leader. */
  load(): Promise<LiveState>;
  /**
   * Keeps `changes` as `revision`, all or none, durable when it resolves. Throws UserError 507 when there is no room
   * and 503 when this process does not lead; then nothing has changed.
   */
  commit(changes: readonly Change[], revision: number): Promise<void>;
  /** Keeps which cluster the state is of. Throws as `commit` does. */
  identify(cluster: ClusterIdentity): Promise<void>;
  /**
   * Makes the store hold this state, with its identity and revision, and nothing else. To be called by the leader. It may
   * take several steps: a store whose `fill` failed is thrown away.
   */
  fill(state: State): Promise<void>;
  close(): Promise<void>;
}

/** The error of a node that cannot lead until an operator has decided; it may go on without leading. */
export class CannotLeadError extends PlatformError {
  override name = "CannotLeadError";
}
