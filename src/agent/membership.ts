// The node as a member of its cluster: its session with the leader, the state as it goes by it, and the names in that.
import { Names } from "../dns/names.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { LeaderCalls } from "../session/leader-calls.ts";
import { SecretFiles } from "../session/secret-files.ts";
import { Session } from "../session/session.ts";
import { noTransport, transportOver } from "../session/transport.ts";
import { ClientConnections } from "../trust/tls.ts";
import { ownAmong } from "./dns-section.ts";
import { prepareSecretsPlace } from "./flow-file.ts";
import type { Host } from "./host.ts";
import type { Identity } from "./identity.ts";
import { ManagerAddresses } from "./manager-addresses.ts";
import { managerAddressOf, nodeIdentityOf } from "./node-identity.ts";
import { NodeState } from "./node-state.ts";
import type { AgentOptions } from "./options.ts";
import { OwnLeader } from "./own-leader.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";
import { PeerRefusals } from "./peer-refusals.ts";
import type { Sealing } from "./sealing.ts";

export interface Membership {
  session: Session;
  /** What this node asks of the leader. */
  leaderCalls: LeaderCalls;
  /** How the session reaches this node's own manager. */
  ownLeader: OwnLeader;
  nodeState: NodeState;
  names: Names;
  /** Where this node finds managers. */
  managers: ManagerAddresses;
  /** The way to managers, with this node's certificate. */
  connections: ClientConnections;
}

/** The session follows no leader before its start. */
export function openMembership(
  { config, identity, log }: AgentOptions,
  { address, sealing }: Host & { sealing: Sealing },
  parts: Parts,
): Membership {
  const clock = systemClock;
  const { settings, managers: given } = identity;
  const manager = identity.role === "manager" ? managerAddressOf(config, settings, address) : undefined;
  const connections = new ClientConnections(identity.credentials, {
    role: "manager",
    refusal: (peer, expires) => peers.whyNoManager(peer, expires),
  });
  parts.add({ stop: () => connections.close() });
  const network = identity.damage === undefined ? transportOver(connections) : noTransport(identity.damage);
  const ownLeader = new OwnLeader(network, identity.credentials.subject);
  const session = new Session({
    keepManagers: (managers) => keep(identity, managers, log),
    identity: nodeIdentityOf(config, address, manager, "why" in sealing ? null : sealing.ports),
    managers: given,
    snapshotPath: pathsOf(config).snapshot,
    secrets: new SecretFiles(prepareSecretsPlace(config.dataDir, log), log),
    ...{ clock, log, transport: ownLeader },
  });
  const leaderCalls = new LeaderCalls({ session, clock, transport: ownLeader });
  const peers = new PeerRefusals(session.live);
  const nodeState = parts.add(new NodeState(session, clock));
  nodeState.subscribe((changes) => peers.changed(changes));
  const names = new Names(nodeState.state, settings);
  for (const domain of ownAmong(config.dns.forward, settings.domain)) {
    log.warn("a domain of dns.forward is the overlay's own: no resolver is asked for it", { reason: domain });
  }
  nodeState.subscribe((changes) => names.changed(changes));
  const managers = parts.add(new ManagerAddresses({ managers: given, clock }));
  return { session, leaderCalls, ownLeader, nodeState, names, managers, connections };
}

/** The next start asks these, too. */
function keep({ files }: Identity, managers: readonly string[], log: Log): void {
  if (managers.length === 0) return;
  files.writeManagers(managers).catch((error: unknown) => {
    log.warn("where managers are is not kept for the next start", { reason: messageOf(error) });
  });
}
