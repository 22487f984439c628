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

/** Why `offered` is not what comes after `known`; undefined when it may be. The offered revision is not in the text: it moves. */
export function whyNotAfter(known: StateVersion, offered: StateVersion): string | undefined {
  if (offered.id !== known.id) {
    return `it leads another cluster (${offered.id}) than that of this node (${known.id}); run 'overlayctl leave' on the node to join that one`;
  }
  const isOlder = offered.epoch < known.epoch || (offered.epoch === known.epoch && offered.revision < known.revision);
  if (!isOlder) return undefined;
  return `its state is older than that of this node (revision ${known.revision} of epoch ${known.epoch}); if it was restored from a backup on purpose, start it once with 'overlayd --new-epoch'`;
}
