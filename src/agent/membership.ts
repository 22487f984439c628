// The node as a member of its cluster: its session with the leader, the state as it goes by it, and the names in that.
import { Names } from "../dns/names.ts";
import { systemClock } from "../lib/clock.ts";
import { Session } from "../session/session.ts";
import { httpTransport } from "../session/transport.ts";
import type { SessionAddress } from "./compile-denied.ts";
import type { Config } from "./config.ts";
import type { Host } from "./host.ts";
import { ManagerAddresses } from "./manager-addresses.ts";
import { NodeState } from "./node-state.ts";
import type { AgentOptions } from "./options.ts";
import { OwnLeader } from "./own-leader.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";

export interface Membership {
  session: Session;
  /** How the session reaches this node's own manager. */
  ownLeader: OwnLeader;
  nodeState: NodeState;
  names: Names;
  /** Where this node finds managers. */
  managers: ManagerAddresses;
}

/** The session follows no leader before its start. */
export function openMembership({ config, log }: AgentOptions, { address }: Host, parts: Parts): Membership {
  const clock = systemClock;
  const { node, vxlan, mesh, cluster } = config;
  const ownLeader = new OwnLeader(httpTransport);
  const session = new Session({
    identity: {
      ...{ name: node.name, address, vxlanPort: vxlan.port, mesh },
      manager: cluster.listen !== undefined,
      listen: sessionAddress(cluster.listen),
      advertise: sessionAddress(cluster.advertise),
    },
    managers: managersOf(config),
    snapshotPath: pathsOf(config).snapshot,
    ...{ clock, log, transport: ownLeader },
  });
  const nodeState = parts.add(new NodeState(session, clock));
  const names = new Names(nodeState.state, { pool: config.pool, domain: config.dns.domain });
  nodeState.subscribe((changes) => names.changed(changes));
  const managers = parts.add(new ManagerAddresses({ managers: managersOf(config), clock }));
  return { session, ownLeader, nodeState, names, managers };
}

function sessionAddress(configured: { host: string; port: number } | undefined): SessionAddress | null {
  return configured === undefined ? null : { address: configured.host, port: configured.port };
}

/** HOST:PORT of each. A manager's own sessions are answered here first. */
function managersOf({ cluster: { listen, managers } }: Config): string[] {
  return [...new Set([...(listen === undefined ? [] : [`${listen.host}:${listen.port}`]), ...managers])];
}
