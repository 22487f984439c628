// A cluster's first state in a store, without real certificates.
import { PROTOCOL } from "../../src/cluster/features.ts";
import { NodeIdentity, type SessionRequest } from "../../src/cluster/protocol.ts";
import type { AskedSettings } from "../../src/cluster/settings.ts";
import { foundCluster } from "../../src/leader/first-state.ts";
import type { Leader } from "../../src/leader/leader.ts";
import type { Joining } from "../../src/leader/nodes.ts";
import type { SessionSink } from "../../src/leader/sessions.ts";
import type { Store } from "../../src/leader/store.ts";

/** What seals secrets in stores. */
export const SEAL_KEY = `${"k".repeat(42)}A`;

/** When all certificates end here. */
export const EXPIRES = Date.UTC(2100);

/** The digest of a node's key: each node keeps its key. */
function keyOf({ name }: NodeIdentity): string {
  return `key-of-${name.toLowerCase()}`;
}

/** The node as it asks to be of the cluster. */
export function joining(identity: NodeIdentity): Joining {
  const role = identity.manager ? "manager" : "worker";
  return { identity, role, keyDigest: keyOf(identity), certificateExpires: EXPIRES };
}

interface FoundingOptions {
  /** Of the first manager's node. */
  identity: NodeIdentity;
  newId: () => string;
  now?: number;
  settings?: AskedSettings;
}

/** Makes a cluster of what the store has, and returns the id of its first manager's node. */
export async function found(
  store: Store,
  { identity, newId, now = 0, settings = {} }: FoundingOptions,
): Promise<string> {
  const certify = async () => ({
    trust: { bundle: ["the first authority"], signer: "first" },
    keyDigest: keyOf(identity),
    certificateExpires: EXPIRES,
  });
  const chance = { now, newId, newSecret: () => "s".repeat(25) };
  const { nodeId } = await foundCluster(store, { settings, identity, certify }, chance);
  return nodeId;
}

/** Begins the session of a node, which joins before, and returns the session's id. */
export async function openSession(leader: Leader, request: SessionRequest, sink: SessionSink): Promise<string> {
  const { id } = await leader.admit(joining(NodeIdentity.parse(request)));
  return leader.sessions.open({ id }, { protocol: PROTOCOL, ...request }, sink);
}
