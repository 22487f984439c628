// What a manager runs besides: the keys of the certificate authorities, the store, the leader, and the HTTP face for nodes,
// users and other managers.
import type { FastifyInstance } from "fastify";
import type { StateVersion } from "../cluster/identity.ts";
import { settingsOf } from "../cluster/lookup.ts";
import type { State } from "../cluster/tables.ts";
import { AuthorityRotation } from "../leader/authority-rotation.ts";
import { openEmbeddedStore } from "../leader/embedded-store.ts";
import { Joining } from "../leader/joining.ts";
import { Leader } from "../leader/leader.ts";
import { PeerCalls } from "../leader/peer-calls.ts";
import { serveManager } from "../leader/server.ts";
import { CannotLeadError } from "../leader/store.ts";
import { systemClock } from "../lib/clock.ts";
import { ConfigError } from "../lib/errors.ts";
import { newId } from "../lib/random.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { KeyRing } from "../trust/key-ring.ts";
import { unlockManagerKeys } from "../trust/passphrase.ts";
import { TrustError } from "../trust/trust-error.ts";
import { managerAddressOf, reachedAt } from "./node-identity.ts";
import type { AgentOptions } from "./options.ts";
import type { OwnLeader } from "./own-leader.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";

interface ManagerOptions extends Pick<AgentOptions, "config" | "identity" | "log" | "newEpoch"> {
  /** The node's own. */
  address: string;
  /** The identity of the state that this node has on its disk; undefined: it has none. */
  known: StateVersion | undefined;
  /** This node's way to it. */
  ownLeader: OwnLeader;
  /** Adds what users ask from any machine. */
  operator(server: FastifyInstance): void;
}

/** What leads the cluster. */
interface Leads {
  leader: Leader;
  ring: KeyRing;
  joining: Joining;
  rotation: AuthorityRotation;
}

export interface ManagerPart {
  /** undefined: it does not lead. */
  leads: Leads | undefined;
  /** Why it does not. */
  whyNot: string | undefined;
}

/**
 * Begins to lead. A store that is damaged, or not that of this node's cluster, and keys that do not open keep the node from
 * leading but not from carrying packets: then this returns the reason.
 */
export async function leadIfPossible(options: ManagerOptions, parts: Parts): Promise<ManagerPart> {
  try {
    return { leads: await lead(options, parts), whyNot: undefined };
  } catch (error) {
    const mayGoOn = [CannotLeadError, TrustError, ConfigError].some((kind) => error instanceof kind);
    if (!mayGoOn) throw error;
    const { message } = error as Error;
    options.log.error("this node does not lead, and runs from its snapshot", { reason: message });
    return { leads: undefined, whyNot: message };
  }
}

async function lead(options: ManagerOptions, parts: Parts): Promise<Leads> {
  const { config, identity, log, newEpoch = false, known, ownLeader, address, operator } = options;
  const clock = systemClock;
  const at = managerAddressOf(config, identity.settings, address);
  const { address: host, port } = at.listen;
  const ring = await openKeyRing(options);
  const store = await openEmbeddedStore(pathsOf(config).store);
  parts.add({ stop: () => store.close() });
  requireOwn(await store.load(), identity.clusterId);
  const reservedPorts = [
    { port, protocol: "tcp", owner: "the cluster's sessions" },
    { port: STORE_PEER_PORT, protocol: "tcp", owner: "the managers' store" },
    { port: config.vxlan.port, protocol: "udp", owner: "VXLAN" },
  ] as const;
  const leader = new Leader({ store, clock, log, newId, config: { known, newEpoch, reservedPorts } });
  await leader.start();
  const calls = new PeerCalls({ leader, clock, log });
  const joining = new Joining({ leader: () => leader, ring, clock, log });
  const { credentials } = identity;
  const faces = { state: () => leader.state, calls: () => calls, joining, operator };
  const server = await serveManager({ ...{ host, port, clock, log, credentials }, ...faces });
  parts.add({ stop: () => server.close() });
  parts.add(leader);
  const rotation = new AuthorityRotation({ leader, ring, ownNodeId: identity.nodeId, clock, log });
  parts.add(rotation);
  ownLeader.begin(reachedAt(at, address), calls);
  rotation.resume();
  return { leader, ring, joining, rotation };
}

/** Throws CannotLeadError when this node has no keys, and TrustError when they do not open. */
async function openKeyRing({ config, identity: { files } }: ManagerOptions): Promise<KeyRing> {
  const { passphrase, keys } = await unlockManagerKeys(files, pathsOf(config).identity, config.cluster.passphrase);
  if (keys !== undefined) return new KeyRing({ keys, write: (changed) => files.writeManagerKeys(passphrase, changed) });
  throw new CannotLeadError(
    "this manager has no keys of the certificate authorities",
    "put the identity directory back from a backup, or run 'overlayctl leave --force' and join with a manager's token",
  );
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
