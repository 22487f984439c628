// What a manager runs besides: the store, the leader, and the leader's HTTP face.
import { join } from "node:path";
import type { StateVersion } from "../cluster/identity.ts";
import { rowsNamed } from "../cluster/lookup.ts";
import { openEmbeddedStore } from "../leader/embedded-store.ts";
import { Leader } from "../leader/leader.ts";
import { serveSessions } from "../leader/server.ts";
import { CannotLeadError } from "../leader/store.ts";
import { systemClock } from "../lib/clock.ts";
import { newId } from "../lib/random.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import type { AgentOptions } from "./options.ts";
import type { OwnLeader } from "./own-leader.ts";
import type { Parts } from "./parts.ts";

interface LeadOptions extends Pick<AgentOptions, "config" | "log" | "newEpoch"> {
  /** The identity of the state that this node has on its disk; undefined: it has none. */
  known: StateVersion | undefined;
  /** This node's way to it. */
  ownLeader: OwnLeader;
}

/**
 * Begins to lead, and returns undefined. A store that is damaged, or not that of this node's cluster, keeps the node from
 * leading but not from carrying packets: then this returns the reason.
 */
export async function leadIfPossible(options: LeadOptions, parts: Parts): Promise<string | undefined> {
  try {
    await lead(options, parts);
    return undefined;
  } catch (error) {
    if (!(error instanceof CannotLeadError)) throw error;
    options.log.error("this node does not lead, and runs from its snapshot", { reason: error.message });
    return error.message;
  }
}

async function lead({ config, log, newEpoch = false, known, ownLeader }: LeadOptions, parts: Parts): Promise<void> {
  const listen = config.cluster.listen!;
  const store = await openEmbeddedStore(join(config.dataDir, "store"));
  parts.add({ stop: () => store.close() });
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
  const server = await serveSessions(leader, { ...listen, log });
  parts.add({ stop: () => server.close() });
  parts.add(leader);
  const [own] = rowsNamed(leader.state.nodes, config.node.name);
  ownLeader.begin(`${listen.host}:${listen.port}`, leader, own?.id ?? "");
}
