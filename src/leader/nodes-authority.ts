// Nodes as holders of the nodes' CA: what the state and their sessions say of the certificates that they show and trust.
import type { Node } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import type { AuthorityHolders } from "./authority-rotation.ts";
import type { Leader } from "./leader.ts";

/** A node that puts nothing in force for longer does not hold up the others. */
const IN_FORCE_MS = 60_000;

interface NodesAuthorityOptions {
  readonly leader: Pick<Leader, "state" | "waitApplied">;
  readonly clock: Clock;
  readonly log: Log;
}

/** The nodes of the cluster, those that are off among them. */
export function nodesAuthority({ leader, clock, log }: NodesAuthorityOptions): AuthorityHolders {
  return {
    async requireReady() {},
    /** Every node that has the step in force trusts both. */
    async notTrustingBoth() {
      const behind = await leader.waitApplied(leader.state.revision, IN_FORCE_MS);
      if (behind.length > 0)
        log.warn("the change of the CA goes on without nodes that are behind", { reason: behind.join(" ") });
      return [];
    },
    async notRenewed(digest) {
      const now = clock.now();
      const isOld = ({ certificateExpires, certificateSigner }: Node) =>
        (certificateExpires ?? 0) > now && certificateSigner !== digest;
      return [...leader.state.nodes.values()].filter(isOld).map(({ name }) => name);
    },
    /** No old certificate is left that a node could take. */
    async trustingAnother() {
      return [];
    },
    /** Those that have not renewed are all that there is to say. */
    async behind() {
      return { names: [], reason: null };
    },
  };
}
