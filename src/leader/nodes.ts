// Nodes as the leader knows them: joining, coming back, leaving, being drained and removed.
import { isDeepStrictEqual } from "node:util";
import { findByName, rowsNamed, sameName } from "../cluster/lookup.ts";
import { nodePorts } from "../cluster/node-ports.ts";
import type { NodeIdentity } from "../cluster/protocol.ts";
import { INGRESS_NETWORK, type Node, type Task } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { NodeVersion, Role } from "../cluster/trust-rows.ts";
import { UserError } from "../lib/errors.ts";
import { contains, formatCidr, ipv4 } from "../lib/ip.ts";
import type { LeaderContext } from "./context.ts";
import { removeEndpoint } from "./endpoints.ts";
import { releaseAddress } from "./ipam.ts";
import { removeTask } from "./tasks.ts";
import { holdVtep, moveVtep, requireVtepFree, takeVtep } from "./vteps.ts";

/** A node's new certificate. */
export interface Certified {
  /** When it ends. */
  certificateExpires: number;
  /** The digest of the public key of the authority that signs it. */
  certificateSigner?: string;
}

/** A node that asks to be of the cluster, and showed the token of the role. */
export interface Joining extends Certified {
  identity: NodeIdentity;
  role: Role;
  /** The digest of the public key of the certificate that it gets. */
  keyDigest: string;
}

/** A member whose certificate is not made yet has neither. */
type Member = Pick<Joining, "identity" | "role"> & Pick<Node, "keyDigest" | "certificateExpires" | "certificateSigner">;

/**
 * Gives a node that joins its row, which is down until its session begins. A node that comes again with its own key gets its
 * own row back, with its tasks; so does one from before nodes had keys, by its name. Throws UserError 400 and 409.
 */
export function admitNode(draft: Draft, joining: Joining, context: LeaderContext): Node {
  const { identity, keyDigest } = joining;
  const [known] = rowsNamed(draft.state.nodes, identity.name);
  if (known !== undefined && known.keyDigest !== null && known.keyDigest !== keyDigest) {
    throw new UserError(
      409,
      `the name '${identity.name}' is that of a node with another key; if that machine was installed anew, ` +
        `'overlayctl node rm ${known.name}' on a manager removes it, and then this one can join`,
      { field: "name" },
    );
  }
  // The row decides what a node is, once it has its key: `node promote` and `node demote` change that.
  const role = known === undefined || known.keyDigest === null ? joining.role : known.role;
  return putMember(draft, { ...joining, role }, context);
}

/** Gives the node its row, whatever its key was before. Throws UserError 400 and 409. */
export function putMember(draft: Draft, { identity, ...rest }: Member, context: LeaderContext): Node {
  const [known] = rowsNamed(draft.state.nodes, identity.name);
  requireIdentity(draft.state, identity, known, context);
  if (known !== undefined) moveVtep(draft, known, identity.address);
  const words = ownWords(identity, rest.role);
  const node: Node = { ...(known ?? addNode(draft, identity, context)), ...words, ...rest };
  draft.put("nodes", node);
  return node;
}

/** The node has a new certificate; its key stays. Throws UserError 404 when the node was removed. */
export function renewNode(draft: Draft, nodeId: string, certified: Certified): void {
  draft.put("nodes", { ...requireMember(draft.state, nodeId), ...certified });
}

/** What a node may say of itself: a worker runs no manager, whatever it says. */
function ownWords(identity: NodeIdentity, role: Role): NodeIdentity {
  return role === "manager" ? identity : { ...identity, manager: false, listen: null, advertise: null };
}

/** A node's session begins. `from`: see SessionPeer. Throws UserError 400, 403, 404 and 409. */
export function beginSession(
  draft: Draft,
  nodeId: string,
  { identity, version, from }: { identity: NodeIdentity; version: NodeVersion; from: string | null },
  context: LeaderContext,
): void {
  const known = requireMember(draft.state, nodeId);
  if (!sameName(identity.name, known.name)) {
    throw new UserError(
      409,
      `this node joined as '${known.name}', and its name is '${identity.name}' now: set 'node.name: ${known.name}' in its ` +
        "configuration, or run 'overlayctl leave --force' on it and join again",
      { field: "name" },
    );
  }
  requireOwnVtep(known, identity, from);
  requireIdentity(draft.state, identity, known, context);
  moveVtep(draft, known, identity.address);
  // Its name may have other capitals than before: the host's are those that people see there.
  const node: Node = { ...known, ...ownWords(identity, known.role), version, state: "ready" };
  if (!isDeepStrictEqual(node, known)) draft.put("nodes", node);
  if (known.state === "down" && node.availability === "active") reviveTasks(draft, node);
}

/**
 * A node has the VTEP that it joined with, for its token vouched for that, or moves to the address that it connects from.
 * So it sends other nodes' packets to no address where it is not, and behind an address translator it keeps its own.
 */
function requireOwnVtep({ name, address }: Node, identity: NodeIdentity, from: string | null): void {
  if (identity.address === address || from === null || identity.address === from) return;
  throw new UserError(
    403,
    `node '${name}' joined with the address ${address} and its connection comes from ${from}, so its address cannot be ` +
      `${identity.address}: set 'node.address' to one of the two, or let it leave and join again`,
    { field: "address" },
  );
}

function requireMember({ nodes }: State, nodeId: string): Node {
  const node = nodes.get(nodeId);
  if (node !== undefined) return node;
  throw new UserError(
    404,
    "this node was removed from the cluster: 'overlayctl leave --force' on it forgets that, and 'overlayctl join' brings it back",
  );
}

export function setAvailability(draft: Draft, name: string, availability: Node["availability"]): string {
  const node = findByName("node", draft.state.nodes, name);
  if (node.availability !== availability) draft.put("nodes", { ...node, availability });
  return node.id;
}

/** The node is down without having been silent. Its row stays until it is removed. Throws UserError 404. */
export function leaveNode(draft: Draft, nodeId: string): string {
  const node = requireMember(draft.state, nodeId);
  if (node.state !== "down") draft.put("nodes", { ...node, state: "down", health: "well" });
  return nodeId;
}

/**
 * Forgets a node, with all that it holds: its certificate is worth nothing from now. Throws UserError 409 while it is alive,
 * unless it is forced out, and when no manager would be left.
 */
export function removeNode(
  draft: Draft,
  { name, force }: { name: string; force: boolean },
  { silent }: LeaderContext,
): string {
  const node = findByName("node", draft.state.nodes, name);
  if (!force && node.state === "ready" && !silent(node.id)) {
    throw new UserError(
      409,
      `node '${node.name}' is up: run 'overlayctl leave' on it and wait until it is down, or force it out with '--force'`,
    );
  }
  requireOtherManager(draft.state, node);
  for (const task of draft.state.tasks.by("node", node.id)) removeTask(draft, task);
  for (const endpoint of draft.state.endpoints.by("node", node.id)) removeEndpoint(draft, endpoint.id);
  holdVtep(draft, node);
  releaseAddress(draft, node.ingressAddress);
  draft.remove("nodes", node.id);
  return node.id;
}

/** Throws UserError 409 when the node is a manager, and the only one. */
export function requireOtherManager({ nodes }: Pick<State, "nodes">, { id, name, role }: Node): void {
  if (role !== "manager" || nodes.by("role", "manager").some((other) => other.id !== id)) return;
  throw new UserError(
    409,
    `node '${name}' is the only manager: 'overlayctl node promote NAME' makes another one first`,
  );
}

function addNode(draft: Draft, identity: NodeIdentity, { now, newId, addresses }: LeaderContext): Node {
  const id = newId();
  const ingress = findByName("network", draft.state.networks, INGRESS_NETWORK);
  const ingressAddress = addresses.allocate(draft, ingress, { kind: "node", id });
  takeVtep(draft, identity.address);
  const node: Node = {
    id,
    ...identity,
    ingressAddress,
    role: "worker",
    keyDigest: null,
    certificateExpires: null,
    version: { protocol: 0, features: [] },
    availability: "active",
    state: "down",
    health: "well",
    heldPorts: [],
    addresses: [],
    docker: false,
    createdAt: now,
  };
  draft.put("nodes", node);
  return node;
}

/** Throws UserError 400 and 409 when the node cannot be what it says. */
function requireIdentity(state: State, identity: NodeIdentity, known: Node | undefined, context: LeaderContext): void {
  const { name, address } = identity;
  if (contains(context.pool, ipv4(address))) {
    const pool = formatCidr(context.pool);
    throw new UserError(400, `the node's address ${address} is in the overlay's pool ${pool}`, { field: "address" });
  }
  if (known !== undefined && known.address !== address && known.state === "ready" && !context.silent(known.id)) {
    throw new UserError(409, `the name '${name}' is in use by the node at ${known.address}, which is up`, {
      field: "name",
    });
  }
  const [external] = state.endpoints.by("vtep", address);
  if (external !== undefined) {
    const what = external.name ?? external.address;
    throw new UserError(409, `the address ${address} is the VTEP of the external endpoint '${what}'`, {
      field: "address",
    });
  }
  const neighbour = state.nodes.by("address", address).find(({ id }) => id !== known?.id);
  if (neighbour !== undefined) {
    throw new UserError(
      409,
      `the address ${address} is that of node '${neighbour.name}'; if that is gone, 'overlayctl node rm ${neighbour.name}' removes it`,
      { field: "address" },
    );
  }
  requireVtepFree(state, { nodeId: known?.id, address, everywhere: context.everywhere });
  for (const { port, protocol, what } of nodePorts(identity)) {
    const [claim] = state.ports.by("number", `${port}/${protocol}`);
    if (claim === undefined) continue;
    const service = state.services.get(claim.serviceId)?.name;
    throw new UserError(409, `the ${what} ${port} is published by service '${service}'`);
  }
}

/**
 * The tasks that the node was given before it was lost are wanted again, where others stand in for them or are missing.
 * The scheduler lets the stand-ins go when these run.
 */
function reviveTasks(draft: Draft, node: Node): void {
  const newestFirst = draft.state.tasks
    .by("node", node.id)
    .filter(({ desired }) => desired === "shutdown")
    .toSorted((a, b) => b.createdAt - a.createdAt);
  for (const task of newestFirst) {
    const service = draft.state.services.get(task.serviceId);
    const lastState = draft.state.statuses.get(task.id)?.state;
    if (service === undefined || lastState === "shutdown" || lastState === "complete") continue;
    const wanted = draft.state.tasks.by("service", service.id).filter(({ desired }) => desired === "running");
    const standIns = wanted.filter(({ slot }) => slot === task.slot);
    const isMissing = standIns.length === 0 && new Set(wanted.map(({ slot }) => slot)).size < service.replicas;
    if (!isMissing && (standIns.length === 0 || standIns.some(({ nodeId }) => nodeId === node.id))) continue;
    draft.put("tasks", { ...task, desired: "running", drain: null } satisfies Task);
    for (const standIn of standIns) if (standIn.nodeId === null) removeTask(draft, standIn);
  }
}
