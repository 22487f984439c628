// What a manager runs besides: the store, the leader, and the leader's HTTP face.
import { join } from "node:path";
import { DamagedStoreError, openEmbeddedStore } from "../cluster/embedded-store.ts";
import { Leader } from "../cluster/leader.ts";
import { serveSessions } from "../cluster/session-server.ts";
import { systemClock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import type { Config } from "./config.ts";
import type { Stops } from "./stops.ts";

/** A damaged store keeps the node from leading, and not from carrying what it carries. */
export async function leadIfPossible(config: Config, log: Log, stops: Stops): Promise<void> {
  try {
    await lead(config, log, stops);
  } catch (error) {
    if (!(error instanceof DamagedStoreError)) throw error;
    log.error("this node does not lead, and runs from its snapshot", { reason: error.message });
  }
}

async function lead(config: Config, log: Log, stops: Stops): Promise<void> {
  const listen = config.cluster.listen!;
  const store = await openEmbeddedStore(join(config.dataDir, "store"));
  stops.push(() => store.close());
  const leader = new Leader({
    store,
    clock: systemClock,
    log,
    newId,
    config: {
      pool: config.pool,
      livenessMs: config.cluster.sessionTimeoutMs,
      domain: config.dns.domain,
      reservedPorts: [
        { port: listen.port, protocol: "tcp", owner: "the cluster's sessions" },
        { port: config.vxlan.port, protocol: "udp", owner: "VXLAN" },
      ],
    },
  });
  await leader.start();
  const server = await serveSessions(leader, { ...listen, log });
  stops.push(() => server.close());
  stops.push(() => leader.stop());
}
