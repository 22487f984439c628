// What `init` makes of an empty store, or of that of a version in which clusters had no settings and nodes no certificates.
import { Features } from "../cluster/features.ts";
import { settingsOf } from "../cluster/lookup.ts";
import type { NodeIdentity } from "../cluster/protocol.ts";
import type { ClusterIdentity } from "../cluster/schema.ts";
import type { AskedSettings } from "../cluster/settings.ts";
import { AskedSettings as Settings } from "../cluster/settings.ts";
import { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { Role, type Trust } from "../cluster/trust-rows.ts";
import { check } from "../lib/check.ts";
import { UserError } from "../lib/errors.ts";
import { cidr, contains } from "../lib/ip.ts";
import type { LeaderContext } from "./context.ts";
import { Addresses } from "./ipam.ts";
import { rotateToken } from "./members.ts";
import { createFirstNetworks } from "./networks.ts";
import { putMember } from "./nodes.ts";
import type { Store } from "./store.ts";

/** What the first manager knows and makes. */
export interface Founder {
  settings: AskedSettings;
  /** Its own node. */
  identity: NodeIdentity;
  /** Makes the cluster's certificate authority and the node's own certificate, and keeps them. Called before anything is in the store. */
  certify(
    cluster: ClusterIdentity,
    nodeId: string,
  ): Promise<{
    trust: Trust;
    keyDigest: string;
    certificateExpires: number;
  }>;
}

interface Founded {
  cluster: ClusterIdentity;
  nodeId: string;
  /** Whether the store had the state of a cluster already. */
  isAdopted: boolean;
}

/**
 * Makes a cluster of what the store has, with this node as its first manager. A founding that broke off is begun anew. Throws
 * UserError 400 and 409, and 507 when the store has no room.
 */
export async function foundCluster(
  store: Store,
  founder: Founder,
  chance: Pick<LeaderContext, "now" | "newId" | "newSecret">,
): Promise<Founded> {
  const settings = check(Settings, founder.settings);
  await store.campaign();
  const state = await store.load();
  requireNoOthers(state, founder.identity);
  requirePool(settings.pool, state);
  if (settings.encrypt) requireNoneClear(state);
  const cluster = state.cluster ?? { id: chance.newId(), epoch: 1 };
  const isAdopted = state.networks.size > 0;
  const context: LeaderContext = {
    ...chance,
    pool: cidr(settings.pool),
    domain: settings.domain,
    addresses: new Addresses(),
    features: new Features(),
    reservedPorts: [],
    everywhere: Number.POSITIVE_INFINITY,
    silent: () => true,
  };
  const draft = new Draft(state);
  createFirstNetworks(draft, context, settings.encrypt);
  const member = { identity: founder.identity, role: "manager" as const };
  const { id: nodeId } = putMember(draft, { ...member, keyDigest: null, certificateExpires: null }, context);
  const { trust, ...certified } = await founder.certify(cluster, nodeId);
  putMember(draft, { ...member, ...certified, certificateSigner: trust.signer }, context);
  draft.put("settings", settings);
  draft.put("trust", trust);
  for (const role of Role.options) rotateToken(draft, role, context);
  // A version before wrote secrets in the clear.
  for (const service of state.services.by("kind", "secret")) draft.put("services", service);
  // Rows without an identity would be taken for those of a version that had none.
  await store.identify(cluster);
  await store.commit(draft.changes, draft.revision);
  return { cluster, nodeId, isAdopted };
}

/** Throws UserError 409 when other nodes have joined the cluster that is in the store. */
function requireNoOthers(state: State, { name }: NodeIdentity): void {
  if (settingsOf(state) === undefined) return;
  const other = [...state.nodes.values()].find((node) => node.keyDigest !== null && node.name !== name);
  if (other === undefined) return;
  throw new UserError(
    409,
    `there is a cluster here already, ${state.cluster?.id}, and node '${other.name}' is of it; if this machine has lost its ` +
      "identity, put its data directory back, or run 'overlayctl cluster import FILE' on an empty one",
  );
}

/** Throws UserError 409 when the cluster that is taken over has clear networks. */
function requireNoneClear({ networks }: State): void {
  const clear = [...networks.values()].find(({ encrypted }) => !encrypted);
  if (clear === undefined) return;
  throw new UserError(
    409,
    `network '${clear.name}' is here already and is not encrypted, and no network can become so: run 'overlayctl init' without ` +
      "--encrypt, make encrypted networks beside it, and move the services",
    { field: "encrypt" },
  );
}

/** Throws UserError 409 when a network is not in the pool. */
function requirePool(pool: string, { networks }: State): void {
  const outside = [...networks.values()].find(({ subnet }) => !contains(cidr(pool), cidr(subnet).base));
  if (outside === undefined) return;
  throw new UserError(
    409,
    `the pool ${pool} does not hold ${outside.subnet} of network '${outside.name}', which exists already: ` +
      "'overlayctl init --pool POOL' with the pool that the nodes' configuration had takes the cluster over",
    { field: "pool" },
  );
}
