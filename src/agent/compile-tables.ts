// The cluster's state as one node's data path needs it: pure functions, a unit each, so that what is in force never
// depends on how the cluster came to where it is.
import { takesLane } from "../cluster/features.ts";
import { type HeldPort, INGRESS_NETWORK, type Network, type Node, type Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import {
  DEVICE,
  type EndpointRow,
  type HeldPortRow,
  type Mac,
  type NodeRow,
  type Port,
  rowKey,
  type TableRow,
} from "../datapath/rows.ts";
import { cidr, ipv4, maskOf } from "../lib/ip.ts";
import {
  deniedByExternal,
  deniedByGateway,
  deniedByNode,
  deniedHere,
  managerPorts,
  mergeDenied,
  type SessionAddress,
} from "./compile-denied.ts";
import { heldPortsOf, ownHeldPorts } from "./compile-held.ts";
import { mappings, vipRows } from "./compile-vips.ts";
import { rowOfUnit, type Unit } from "./units.ts";

/** The node for which rows are computed: what it knows of itself, and the state does not say. */
export interface Viewpoint {
  nodeId: string;
  pool: string;
  /** Addresses of its own links. */
  hostAddresses: readonly string[];
  /** The overlay's MTU. */
  mtu: number;
  /** Whether it answers published ports. */
  meshOn: boolean;
  /** The published ports that it leaves to processes of its own. */
  heldPorts: readonly HeldPort[];
  /** Where this node finds managers, as its configuration says. */
  managers: readonly SessionAddress[];
  /** Whether containers reach what processes of this node serve. */
  nodeServices: boolean;
  /** The state is the one on disk, and may lack what was made last. */
  isProvisional: boolean;
}

/** What all units of one node go by. */
interface Basis extends Viewpoint {
  own: Node;
  ingress: Network;
  managerPorts: ReadonlySet<number>;
}

/** undefined while the cluster does not know the node: then it has no rows. */
export function basisOf(state: State, viewpoint: Viewpoint): Basis | undefined {
  const own = state.nodes.get(viewpoint.nodeId);
  const ingress = state.networks.by("name", INGRESS_NETWORK).find(({ name }) => name === INGRESS_NETWORK);
  if (own === undefined || ingress === undefined) return undefined;
  return { ...viewpoint, own, ingress, managerPorts: managerPorts(state, viewpoint.managers) };
}

/** Ports that another node holds, which are part of this node's row. */
interface HeldPart {
  kind: "held";
  ports: readonly HeldPortRow[];
}

/** What a unit gives for one key: a row, or its part of a row to which several units add. */
export type Part = TableRow | HeldPart;

const NODE_KEY = "node";

/** The key of the row that it is, or is a part of. */
export function partKey(part: Part): string {
  return part.kind === "held" ? NODE_KEY : rowKey(part);
}

/** The row that units make together; `parts` are in the order of their units' names, which decides between whole rows. */
export function mergeParts(parts: readonly [Part, ...Part[]]): TableRow | undefined {
  const [first] = parts;
  if (first.kind === "denied") return mergeDenied(parts.filter((part) => part.kind === "denied") as [typeof first]);
  const node = parts.find((part): part is NodeRow => part.kind === "node");
  if (first.kind !== "held" && node === undefined) return first;
  if (node === undefined) return undefined;
  const others = parts.flatMap((part) => (part.kind === "held" ? part.ports : []));
  return others.length === 0 ? node : { ...node, heldPorts: [...node.heldPorts, ...others] };
}

/** What a unit gives; nothing when its row is not there. */
export function partsOf(unit: Unit, state: State, basis: Basis): readonly Part[] {
  if (unit === "self") return [nodeRow(basis), ...deniedHere(basis, basis.managerPorts)];
  const [kind, key] = rowOfUnit(unit);
  switch (kind) {
    case "nodes": {
      const node = state.nodes.get(key);
      return node === undefined ? [] : nodeParts(node, state, basis);
    }
    case "networks": {
      const network = state.networks.get(key);
      return network === undefined ? [] : networkRows(network, basis);
    }
    case "services": {
      const service = state.services.get(key);
      return service === undefined ? [] : vipRows(service, state, basis.nodeId, basis.ingress.vni);
    }
    case "tasks":
      return taskRows(key, state, basis.nodeId);
    case "endpoints":
      return endpointRows(key, state, basis.nodeId);
  }
}

function nodeRow({ own, ingress, ...self }: Basis): NodeRow {
  const pool = cidr(self.pool);
  return {
    kind: "node",
    vtep: ipv4(own.address),
    ingress: ipv4(own.ingressAddress),
    ingressVni: ingress.vni,
    poolBase: pool.base,
    poolMask: maskOf(pool.bits),
    hostAddresses: self.hostAddresses.map(ipv4),
    mesh: self.meshOn,
    heldPorts: ownHeldPorts(self.heldPorts),
    nodeServices: self.nodeServices,
    mtu: self.mtu,
    isProvisional: self.isProvisional,
  };
}

function nodeParts(node: Node, state: State, basis: Basis): Part[] {
  const denied = deniedByNode(node, basis.managerPorts);
  if (node.id === basis.nodeId) return denied;
  const { address, vxlanPort, sealed, ingressAddress, mesh } = node;
  const own = { vtep: ipv4(address), port: vxlanPort, ingress: ipv4(ingressAddress) };
  const held = heldPortsOf(node, state, basis);
  return [
    { kind: "peer", ...own, agent: true, lane: takesLane(node), mesh, ...(sealed && { sealedPort: sealed.port }) },
    ...(held.length === 0 ? [] : [{ kind: "held", ports: held } as const]),
    ...denied,
  ];
}

function networkRows(network: Network, { ingress, managerPorts }: Basis): TableRow[] {
  const { id, vni, internal, encrypted } = network;
  const gateway = ipv4(network.gateway);
  const denied = deniedByGateway(network.gateway, managerPorts);
  if (id === ingress.id) return denied;
  const { base, bits } = cidr(network.subnet);
  const row = { kind: "network", vni, base, mask: maskOf(bits), gateway, internal } as const;
  return [encrypted ? { ...row, sealed: true } : row, ...denied];
}

function taskRows(id: string, state: State, ownId: string): EndpointRow[] {
  const task = state.tasks.get(id);
  if (task === undefined || task.nodeId === null) return [];
  const service = state.services.get(task.serviceId);
  const more = service === undefined ? {} : asPublished(service);
  const { nodeId, addresses } = task;
  return Object.entries(addresses).flatMap(([networkId, address]) => {
    const row = endpointRow(address, networkId, nodeId, state, ownId);
    return row === undefined ? [] : [{ ...row, ...more }];
  });
}

function endpointRow(
  address: string,
  networkId: string,
  nodeId: string,
  state: State,
  ownId: string,
): EndpointRow | undefined {
  const network = state.networks.get(networkId);
  const node = state.nodes.get(nodeId);
  if (network === undefined || node === undefined) return undefined;
  return {
    kind: "endpoint",
    ip: ipv4(address),
    vni: network.vni,
    vtep: nodeId === ownId ? DEVICE : ipv4(node.address),
    ...(network.encrypted && { sealed: true }),
  };
}

/**
 * The ports that a task's service publishes, from when the task is placed: another node may send it clients before this node
 * hears that it runs.
 */
function asPublished(service: Service): Partial<EndpointRow> {
  const published: Port[] = mappings(service, "ingress").map(({ protocol, target }) => ({ protocol, port: target }));
  return {
    ...(published.length > 0 && { published }),
    ...(service.ingressSourceNat && { sourceNat: true }),
  };
}

/** An external endpoint brings its VTEP, which is no node: what comes from there is as good as its checksums. */
function endpointRows(id: string, state: State, ownId: string): TableRow[] {
  const endpoint = state.endpoints.get(id);
  if (endpoint === undefined) return [];
  const { address, networkId, nodeId, external } = endpoint;
  if (external === null) {
    const row = nodeId === null ? undefined : endpointRow(address, networkId, nodeId, state, ownId);
    return row === undefined ? [] : [row];
  }
  const denied = deniedByExternal(external);
  const network = state.networks.get(networkId);
  if (network === undefined) return denied;
  const vtep = ipv4(external.vtep);
  return [
    { kind: "endpoint", ip: ipv4(address), vni: network.vni, vtep, mac: macOf(external.mac) },
    { kind: "peer", vtep, port: external.port, ingress: 0, agent: false, lane: false, mesh: false },
    ...denied,
  ];
}

function macOf(text: string): Mac {
  const bytes = text.split(":").map((byte) => Number.parseInt(byte, 16));
  const [a, b, c, d, e, f] = bytes as [number, number, number, number, number, number];
  return { high: (a << 8) | b, low: (c << 24) | (d << 16) | (e << 8) | f };
}
