// The rows of the data path's tables: what the workers of a node need of the cluster's state. Rows are plain values, so that two
// sets of them can be compared and the difference sent.
import type { Ipv4 } from "../lib/ip.ts";

/** Where packets come from and go to when it is not a peer's VTEP: this node's device. */
export const DEVICE = 0;

/** Schedulers, by the names that IPVS gives them. */
export type SchedulerName = "rr" | "wrr" | "lc" | "sh" | "maglev";

/** One overlay segment that this node takes part in. */
export interface NetworkRow {
  kind: "network";
  vni: number;
  base: Ipv4;
  mask: Ipv4;
  gateway: Ipv4;
  /** Whether its endpoints have no way out through the node. */
  internal: boolean;
  /** Its packets go between nodes sealed, or not at all; left out: they go clear. */
  sealed?: true;
}

/** One address of a network. */
export interface EndpointRow {
  kind: "endpoint";
  ip: Ipv4;
  vni: number;
  /** The VTEP that the endpoint is behind, or DEVICE. */
  vtep: Ipv4;
  /** The MAC of an external endpoint; left out: the MAC that is made from the address. */
  mac?: Mac;
  /** The endpoint sees clients from outside its network as its gateway; left out: it sees their own addresses. */
  sourceNat?: true;
  /** The endpoint's ports that every node publishes, and that the ingress network may reach; left out: none. */
  published?: readonly Port[];
  /** Its network is sealed, and so is all that it sends to and gets from other nodes, on the ingress VNI too. */
  sealed?: true;
}

export interface Port {
  /** Protocol.Tcp or Protocol.Udp. */
  protocol: number;
  port: number;
}

/** An Ethernet address: its first 16 bits and its last 32. */
export interface Mac {
  high: number;
  low: number;
}

/** Another node, or a VTEP that runs no agent. */
export interface PeerRow {
  kind: "peer";
  vtep: Ipv4;
  port: number;
  /** The node's address on the ingress network; 0: it has none. */
  ingress: Ipv4;
  /** Whether it runs this agent, and answers probes. */
  agent: boolean;
  /**
   * Whether its agent takes what an express lane sends, at any moment: partial checksums, super-packets in one frame. Such an agent
   * verifies the checksums of what its containers send.
   */
  lane: boolean;
  /** Whether it answers published ports. */
  mesh: boolean;
  /** The UDP port that takes sealed packets; left out: the peer cannot seal. */
  sealedPort?: number;
}

/** An address that stands for the tasks of a service. */
export interface VipRow {
  kind: "vip";
  ip: Ipv4;
  /** The network whose endpoints may use it; the ingress VNI for a mesh VIP. */
  vni: number;
  service: string;
  /** The addresses that new flows are balanced over. */
  tasks: readonly Ipv4[];
  balancing: Balancing;
  /** Tasks that keep their flows and get no new ones. */
  draining: readonly Ipv4[];
  /** The ports of a mesh VIP; null: the VIP has every port, unchanged. */
  ports: readonly PortMapping[] | null;
  /** Whether its tasks are all on this node, and its ports answer on this node only. */
  hostMode: boolean;
}

/** How new flows are spread over tasks. */
export interface Balancing {
  scheduler: SchedulerName;
  /** The weight of each task, in the order of `VipRow.tasks`; a task of weight 0 gets no new flows. */
  weights: readonly number[];
  /** A client that makes no flow for this time loses its task; 0: clients keep no task. */
  affinitySeconds: number;
  /** Whether tasks on this node go before all others. */
  preferLocal: boolean;
}

export interface PortMapping {
  /** Protocol.Tcp or Protocol.Udp. */
  protocol: number;
  published: number;
  target: number;
  /** The address of a node on which the port answers; 0: it answers on all. */
  address: Ipv4;
}

/** A published port that a node leaves to a process of its own. */
export interface HeldPortRow {
  protocol: number;
  port: number;
  /** The address that the process listens on; 0: all addresses of this node. */
  address: Ipv4;
}

/** This node. There is exactly one such row. */
export interface NodeRow {
  kind: "node";
  vtep: Ipv4;
  /** This node's address on the ingress network. */
  ingress: Ipv4;
  ingressVni: number;
  poolBase: Ipv4;
  poolMask: Ipv4;
  /** Addresses of the node's own links, on which published ports answer. */
  hostAddresses: readonly Ipv4[];
  /** Whether this node answers published ports. */
  mesh: boolean;
  /** The held ports of this node and of the others. */
  heldPorts: readonly HeldPortRow[];
  /** Whether containers reach what processes of this node serve. Containers of internal networks never do. */
  nodeServices: boolean;
  /** Bytes that an IP packet of the overlay may have. */
  mtu: number;
  /** Whether the rows may lack the newest changes: then no flow ends because a row is missing. */
  isProvisional: boolean;
}

/** Ports of an address that no container reaches, whatever its network: the cluster's own. */
export interface DeniedRow {
  kind: "denied";
  ip: Ipv4;
  ports: readonly Port[];
}

export type TableRow = NodeRow | NetworkRow | EndpointRow | PeerRow | VipRow | DeniedRow;

/** All rows of a data path, keyed by rowKey(). */
export type TableRows = ReadonlyMap<string, TableRow>;

export interface TableDiff {
  put: TableRow[];
  delete: string[];
  /** `put` has all rows: every other row goes. */
  isWhole?: true;
}

export function rowKey(row: TableRow): string {
  if (row.kind === "node") return "node";
  if (row.kind === "network") return `network ${row.vni}`;
  return `${row.kind} ${row.kind === "peer" ? row.vtep : row.ip}`;
}

/** The rowKey() of the endpoint with that address. */
export function endpointKey(ip: Ipv4): string {
  return `endpoint ${ip}`;
}

/** The difference that makes any tables into `rows`. */
export function wholeOf(rows: TableRows): TableDiff {
  return { put: [...rows.values()], delete: [], isWhole: true };
}
