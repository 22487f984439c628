// What a manager is made of, and what its leader is told of the configuration and the state.
import type { StateVersion } from "../cluster/identity.ts";
import type { State } from "../cluster/tables.ts";
import type { LeaderConfig } from "../leader/leader.ts";
import { CannotLeadError } from "../leader/store.ts";
import type { Log } from "../lib/log.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import type { Config } from "./config.ts";
import type { Exports } from "./exports.ts";
import type { Identity } from "./identity.ts";
import type { ManagerCalls } from "./manager-calls.ts";
import type { OwnLeader } from "./own-leader.ts";
import type { TookOverFile } from "./took-over.ts";

/** Where the state is that this manager leads with or follows. */
export type StoreKind = "file" | "etcd" | "external etcd" | "copy";

/** Why there is no leader, by what the managers share, and what a person may type. */
export const NO_LEADER: Record<StoreKind, string> = {
  file: "this manager does not lead yet",
  etcd: "no manager leads: fewer than a majority of the managers' etcd answers, or they are choosing. 'overlayctl cluster status' shows which; if a majority is gone for good, 'overlayctl cluster recover' on one that lives",
  "external etcd":
    "no manager leads: the external etcd of cluster.etcd.endpoints does not answer, or the managers are choosing",
  copy: "this manager is a standby, and no manager leads. If the leader is gone for good, 'overlayctl cluster takeover' here leads from its copy",
};

export interface ManagerOptions {
  config: Config;
  identity: Identity;
  log: Log;
  /** Whether the store is a backup that was put back; for the first time that it leads. */
  newEpoch: boolean;
  ring: KeyRing;
  /** The node's own address. */
  address: string;
  /** HOST:PORT at which this manager is reached. */
  self: string;
  /** The port on which it listens. */
  port: number;
  /** The version of the state that this node had on its disk; undefined: it had none. */
  storedVersion(): StateVersion | undefined;
  /** The node's own state, which is there also while it does not lead; undefined: it has none. */
  state(): State | undefined;
  /** HOST:PORT of the leader that this node follows. */
  followed(): string | undefined;
  ownLeader: OwnLeader;
  calls: ManagerCalls;
  exports: Exports;
  tookOver: TookOverFile;
}

/** Throws CannotLeadError when the state is not that of this node's cluster. */
export function leaderConfig(
  { config, identity, storedVersion, newEpoch, port }: ManagerOptions,
  { cluster }: State,
): Omit<LeaderConfig, "requireDispensable" | "heardOfNewerEpoch"> {
  if (cluster !== null && cluster.id !== identity.clusterId) {
    throw new CannotLeadError(
      `the store is of cluster ${cluster.id}, and this node is of ${identity.clusterId}`,
      "put the store back from a backup; or 'overlayctl leave --force' makes this node forget its cluster, and 'init', 'join' or 'import' gives it one",
    );
  }
  return {
    newEpoch,
    nodeVersion: storedVersion(),
    reservedPorts: [
      { port, protocol: "tcp", owner: "the cluster's sessions" },
      { port: STORE_PEER_PORT, protocol: "tcp", owner: "the managers' store" },
      { port: config.cluster.etcd.port, protocol: "tcp", owner: "the managers' store" },
      { port: config.vxlan.port, protocol: "udp", owner: "VXLAN" },
    ],
  };
}

/**
 * Only `init`, `join` and `import` make a cluster: the only manager whose store is gone leads nothing, and has no leader to
 * copy. Throws CannotLeadError.
 */
export function requireOtherManager({ identity: { clusterId, nodeId }, state }: ManagerOptions): void {
  const nodes = state()?.nodes;
  if (nodes === undefined || nodes.by("role", "manager").some(({ id }) => id !== nodeId)) return;
  throw new CannotLeadError(
    `no cluster here: the store is empty, and this node is the only manager of cluster ${clusterId}`,
    "put the store back from a backup; or 'overlayctl leave --force' makes this node forget its cluster, and 'init', 'join' or 'import' gives it one",
  );
}
