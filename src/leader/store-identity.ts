// Whether a manager may lead with what its store has, and which cluster that is.
import { type StateVersion, versionOf, whyNotAfter } from "../cluster/identity.ts";
import { settingsOf } from "../cluster/lookup.ts";
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { CannotLeadError } from "./store.ts";

/** What a person may do about a store that is not the node's. */
const RESTORE =
  "put a backup of the store back and start once with 'overlayd --new-epoch', or run 'overlayctl leave --force' to forget the node's cluster";

interface StoreIdentityOptions {
  /** The version of the state that is on this manager's node's disk; undefined: there is none. */
  nodeVersion: StateVersion | undefined;
  /** The store is a backup that was put back: nodes are to take it though it is older than what they have. */
  newEpoch: boolean;
  /** Wall-clock milliseconds. */
  now: number;
  log: Log;
}

/** What makes a cluster, or finds one. */
const BEGIN =
  "run 'overlayctl init' to make a cluster, 'overlayctl join ADDRESS --token TOKEN' to join one, or 'overlayctl cluster import FILE' to bring one back";

/** The identity of the state that was loaded. Throws CannotLeadError, also when there is no state: only `init` makes a cluster. */
export function identityOf(state: State, { nodeVersion, newEpoch, now, log }: StoreIdentityOptions): ClusterIdentity {
  const stored = versionOf(state);
  if (stored === undefined) {
    if (newEpoch) throw new PlatformError("the store is empty: a new epoch is for one that was restored", RESTORE);
    if (nodeVersion === undefined) throw new CannotLeadError("no cluster is here", BEGIN);
    throw new CannotLeadError(`the store is empty, but this node is of cluster ${nodeVersion.id}`, RESTORE);
  }
  if (settingsOf(state) === undefined) {
    throw new CannotLeadError(
      "the cluster in the store is of a version before nodes had certificates",
      "'overlayctl init' on this node takes it over, with its services and tasks",
    );
  }
  if (nodeVersion !== undefined && nodeVersion.id !== stored.id) {
    const which = `the store is of cluster ${stored.id}, but this node is of cluster ${nodeVersion.id}`;
    throw new CannotLeadError(which, RESTORE);
  }
  if (newEpoch) {
    // Higher than that of an earlier restore, which the backup and this node may know nothing of.
    const epoch = Math.max(stored.epoch, nodeVersion?.epoch ?? 0, Math.floor(now / 1000)) + 1;
    log.warn("this manager begins a new epoch: nodes take its state even if theirs is newer", { count: epoch });
    return { id: stored.id, epoch };
  }
  const reason = nodeVersion === undefined ? undefined : whyNotAfter(nodeVersion, stored);
  if (reason !== undefined) throw new CannotLeadError(`the store cannot be used: ${reason}`, RESTORE);
  return { id: stored.id, epoch: stored.epoch };
}
