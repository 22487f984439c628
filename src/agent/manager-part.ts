// Starts what a manager runs besides a node: its keys, its exports, its store, and the face to nodes and other managers.

import type { FastifyInstance } from "fastify";
import type { State } from "../cluster/tables.ts";
import type { AuthorityRotations } from "../leader/authority-rotations.ts";
import { Joining } from "../leader/joining.ts";
import type { Leader } from "../leader/leader.ts";
import { addManagerRoutes, type ManagerFace } from "../leader/manager-routes.ts";
import { serveManager } from "../leader/server.ts";
import { CannotLeadError } from "../leader/store.ts";
import { systemClock } from "../lib/clock.ts";
import { ConfigError } from "../lib/errors.ts";
import type { Session } from "../session/session.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import type { ClientConnections } from "../trust/tls.ts";
import { TrustError } from "../trust/trust-error.ts";
import { ClusterOperations } from "./cluster-operations.ts";
import { Exports } from "./exports.ts";
import { CannotListenError, onceFree, requireListen } from "./listening.ts";
import { Manager } from "./manager.ts";
import { ManagerCalls } from "./manager-calls.ts";
import { NoKeysError, openManagerKeys } from "./manager-keys.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { reportOf } from "./manager-report.ts";
import { managerAddressOf, reachedAt } from "./node-identity.ts";
import type { AgentOptions } from "./options.ts";
import { ownExports } from "./own-exports.ts";
import type { OwnLeader } from "./own-leader.ts";
import { ownMember } from "./own-member.ts";
import type { Parts } from "./parts.ts";
import { pathsOf } from "./paths.ts";
import { takeTrust } from "./store-trust.ts";
import { TookOverFile } from "./took-over.ts";

interface StartOptions extends Pick<AgentOptions, "config" | "identity" | "log" | "newEpoch" | "onStartAgain"> {
  /** The node's own. */
  address: string;
  session: Session;
  ownLeader: OwnLeader;
  connections: ClientConnections;
  /** Adds what users ask from any machine. */
  operator(server: FastifyInstance): void;
}

/** What leads the cluster. */
interface Leads {
  leader: Leader;
  ring: KeyRing;
  joining: Joining;
  rotations: AuthorityRotations;
}

export interface ManagerPart {
  /** undefined: it does not lead. */
  readonly leads: Leads | undefined;
  /** Why it does not; undefined: it does, or stands by. */
  readonly whyNot: string | undefined;
  /** undefined: it does not run. */
  readonly ring: KeyRing | undefined;
  /** Whether that is because its keys cannot be used. */
  readonly lacksKeys: boolean;
  readonly cluster: ClusterOperations | undefined;
}

/**
 * Resolves when this manager leads, or has found that it does not. Keys that are missing or do not open, and an address that is
 * not to be had, keep it from being one, but its node goes on.
 */
export async function startManager(options: StartOptions, parts: Parts): Promise<ManagerPart> {
  try {
    return await start(options, parts);
  } catch (error) {
    const mayGoOn = [CannotLeadError, TrustError, ConfigError].some((kind) => error instanceof kind);
    if (!mayGoOn) throw error;
    const { message } = error as Error;
    options.log.error("this node does not lead, and runs from its snapshot", { reason: message });
    if (error instanceof CannotListenError) {
      parts.add(onceFree(error.listen, () => options.onStartAgain("this manager can answer now")));
    }
    const lacksKeys = error instanceof NoKeysError;
    return { leads: undefined, whyNot: message, ring: undefined, lacksKeys, cluster: undefined };
  }
}

async function start(
  { config, identity, log, newEpoch = false, address, session, ownLeader, connections, operator }: StartOptions,
  parts: Parts,
): Promise<ManagerPart> {
  const paths = pathsOf(config);
  const { credentials } = identity;
  const exports = await ownExports(paths.exports, identity.clusterId, log);
  const { ring, passphrase } = await openManagerKeys({ config, identity, state: session.state, exports, log });
  const clock = systemClock;
  const at = managerAddressOf(config, identity.settings, address);
  await requireListen(at.listen);
  const options: ManagerOptions = {
    ...{ config, identity, log, newEpoch, ring, address, ownLeader },
    self: reachedAt(at, address),
    port: at.listen.port,
    storedVersion: () => session.storedVersion,
    state: () => session.state,
    followed: () => session.manager,
    calls: new ManagerCalls(connections),
    exports: new Exports({ directory: exports, passphrase, keys: () => ring.keys, log }),
    tookOver: new TookOverFile(paths.tookOver, log),
  };
  const manager = new Manager(options);
  const cluster = new ClusterOperations(options, manager);
  const joining = new Joining({ leader: () => manager.requireLeader(), ring, clock, log });
  const face: ManagerFace = {
    report: () => reportOf(options, manager),
    copyFor: async (request) => manager.requireLeader().copies.answer(request),
    takeTrust: (wanted) => takeTrust(manager.member, wanted),
    member: ownMember(options, manager),
  };
  const server = await serveManager({
    ...{ host: at.listen.address, port: at.listen.port, clock, log, credentials, joining, operator },
    state: () => manager.leader?.state ?? session.live,
    calls: () => manager.requireCalls(),
    managers: (routes, requireManager) => addManagerRoutes(routes, face, requireManager),
  });
  parts.add({ stop: () => server.close() });
  parts.add(manager);
  await manager.start();
  options.exports.start(() => cluster.wholeState().catch((): State | undefined => undefined));
  parts.add(options.exports);
  return {
    get leads() {
      const { leader, rotations } = manager;
      return leader === undefined || rotations === undefined ? undefined : { leader, ring, joining, rotations };
    },
    get whyNot() {
      return manager.whyNot;
    },
    ring,
    lacksKeys: false,
    cluster,
  };
}
