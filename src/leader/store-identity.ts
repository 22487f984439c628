// Whether a manager may lead with what its store has, and which cluster that is.
import { type StateVersion, versionOf, whyNotAfter } from "../cluster/identity.ts";
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { ConfigError, PlatformError } from "../lib/errors.ts";
import { cidr, contains } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { CannotLeadError } from "./store.ts";

/** What a person may do about a store that is not the node's. */
const RESTORE =
  "put a backup of the store back and start once with 'overlayd --new-epoch', or run 'overlayctl leave --force' to forget the node's cluster";

interface StoreIdentityOptions {
  /** What this manager's node has seen of a cluster; undefined: nothing. */
  known: StateVersion | undefined;
  /** The store is a backup that was put back: nodes are to take it though it is older than what they have. */
  newEpoch: boolean;
  newId: () => string;
  /** Wall-clock milliseconds. */
  now: number;
  log: Log;
}

/** The identity of the state that was loaded, or of a new cluster when there is no state. Throws CannotLeadError and PlatformError. */
export function identityOf(state: State, { known, newEpoch, newId, now, log }: StoreIdentityOptions): ClusterIdentity {
  const stored = versionOf(state);
  if (stored === undefined) {
    if (newEpoch) throw new PlatformError("the store is empty: a new epoch is for one that was restored", RESTORE);
    if (known === undefined) return { id: newId(), epoch: 1 };
    throw new CannotLeadError(`the store is empty, but this node is of cluster ${known.id}`, RESTORE);
  }
  if (known !== undefined && known.id !== stored.id) {
    const which = `the store is of cluster ${stored.id}, but this node is of cluster ${known.id}`;
    throw new CannotLeadError(which, RESTORE);
  }
  if (newEpoch) {
    // Higher than that of an earlier restore, which the backup and this node may know nothing of.
    const epoch = Math.max(stored.epoch, known?.epoch ?? 0, Math.floor(now / 1000)) + 1;
    log.warn("this manager begins a new epoch: nodes take its state even if theirs is newer", { count: epoch });
    return { id: stored.id, epoch };
  }
  const reason = known === undefined ? undefined : whyNotAfter(known, stored);
  if (reason !== undefined) throw new CannotLeadError(`the store cannot be used: ${reason}`, RESTORE);
  return { id: stored.id, epoch: stored.epoch };
}

/** Throws ConfigError when a network is not in the pool. */
export function requirePool(pool: string, { networks }: State): void {
  const outside = [...networks.values()].find(({ subnet }) => !contains(cidr(pool), cidr(subnet).base));
  if (outside === undefined) return;
  throw new ConfigError(
    "pool",
    `'${pool}' does not hold ${outside.subnet} of network '${outside.name}', which exists already`,
  );
}
