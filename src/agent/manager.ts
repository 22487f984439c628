// What a manager runs besides: the store, the leader, and the leader's HTTP face.
import type { StateVersion } from "../cluster/identity.ts";
import { settingsOf } from "../cluster/lookup.ts";
import type { State } from "../cluster/tables.ts";
import { openEmbeddedStore } from "../leader/embedded-store.ts";
import { Leader } from "../leader/leader.ts";
import { serveSessions } from "../leader/server.ts";
import { CannotLeadError } from "../leader/store.ts";
import { systemClock } from "../lib/clock.ts";
import { newId } from "../lib/random.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { managerAddressOf, reachedAt } from "./node-identity.ts";
import type { AgentOptions } from "./options.ts";
import type { OwnLeader } from "./own-leader.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";

interface LeadOptions extends Pick<AgentOptions, "config" | "identity" | "log" | "newEpoch"> {
  /** The node's own. */
  address: string;
  /** The identity of the state that this node has on its disk; undefined: it has none. */
  known: StateVersion | undefined;
  /** This node's way to it. */
  ownLeader: OwnLeader;
}

export interface ManagerPart {
  /** undefined: it does not lead. */
  leader: Leader | undefined;
  /** Why it does not. */
  whyNot: string | undefined;
}

/**
 * Begins to lead. A store that is damaged, or not that of this node's cluster, keeps the node from
 * leading but not from carrying packets: then this returns the reason.
 */
export async function leadIfPossible(options: LeadOptions, parts: Parts): Promise<ManagerPart> {
  try {
    return { leader: await lead(options, parts), whyNot: undefined };
  } catch (error) {
    if (!(error instanceof CannotLeadError)) throw error;
    options.log.error("this node does not lead, and runs from its snapshot", { reason: error.message });
    return { leader: undefined, whyNot: error.message };
  }
}

async function lead(
  { config, identity, log, newEpoch = false, known, ownLeader, address }: LeadOptions,
  parts: Parts,
): Promise<Leader> {
  const at = managerAddressOf(config, identity.settings, address);
  const { listen } = at;
  const store = await openEmbeddedStore(pathsOf(config).store);
  parts.add({ stop: () => store.close() });
  requireOwn(await store.load(), identity.clusterId);
  const leader = new Leader({
    store,
    clock: systemClock,
    log,
    newId,
    config: {
      known,
      newEpoch,
      reservedPorts: [
        { port: listen.port, protocol: "tcp", owner: "the cluster's sessions" },
        { port: STORE_PEER_PORT, protocol: "tcp", owner: "the managers' store" },
        { port: config.vxlan.port, protocol: "udp", owner: "VXLAN" },
      ],
    },
  });
  await leader.start();
  const server = await serveSessions(leader, { host: listen.address, port: listen.port, log });
  parts.add({ stop: () => server.close() });
  parts.add(leader);
  ownLeader.begin(reachedAt(at, address), leader, identity.nodeId);
  return leader;
}

/** Only `init`, `join` and `import` make a cluster: a store without one, or with another one, is not led. Throws CannotLeadError. */
function requireOwn(state: State, clusterId: string): void {
  const mend =
    "put the store back from a backup; or 'overlayctl leave --force' makes this node forget its cluster, and 'init', 'join' or 'import' gives it one";
  if (state.cluster === null || settingsOf(state) === undefined) {
    throw new CannotLeadError(`no cluster here: the store is empty, and this node is of cluster ${clusterId}`, mend);
  }
  if (state.cluster.id === clusterId) return;
  throw new CannotLeadError(`the store is of cluster ${state.cluster.id}, and this node is of ${clusterId}`, mend);
}
