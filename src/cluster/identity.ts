// Which cluster a state is of. A node asks this before it takes a leader's state for its own: a manager with an empty
// disk, or with a backup of yesterday, must not end what runs.
import { z } from "zod";
import { ClusterIdentity, INGRESS_NETWORK } from "./schema.ts";
import type { State } from "./tables.ts";

/** A state by its cluster and its age. */
export const StateVersion = ClusterIdentity.extend({ revision: z.int().min(0) });
export type StateVersion = z.infer<typeof StateVersion>;

/** undefined: the state is empty. */
export function versionOf({ cluster, revision }: State): StateVersion | undefined {
  return cluster === null ? undefined : { ...cluster, revision };
}

/**
 * The identity of a state that was written before clusters had ids: its ingress network is made with the cluster and
 * never removed, so the store and the snapshots of one cluster come to the same id.
 */
export function derivedIdentity({ networks }: Pick<State, "networks">): ClusterIdentity | null {
  const ingress = [...networks.values()].find(({ name }) => name === INGRESS_NETWORK);
  return ingress === undefined ? null : { id: ingress.id, epoch: 1 };
}

/** Whether `said` is a newer epoch of the cluster than `own`. */
export function isNewerEpoch(said: ClusterIdentity, own: ClusterIdentity): boolean {
  return said.id === own.id && said.epoch > own.epoch;
}

/** Why `offered` is not what comes after `own`; undefined when it may be. The offered revision is not in the text: it moves. */
export function whyNotAfter(own: StateVersion, offered: StateVersion): string | undefined {
  if (offered.id !== own.id) {
    return `it leads another cluster (${offered.id}) than that of this node (${own.id}); run 'overlayctl leave' on the node to join that one`;
  }
  const isOlder = offered.epoch < own.epoch || (offered.epoch === own.epoch && offered.revision < own.revision);
  if (!isOlder) return undefined;
  return `its state is older than that of this node (revision ${own.revision} of epoch ${own.epoch}); if it was restored from a backup on purpose, start it once with 'overlayd --new-epoch'`;
}
