// What the data path knows of the cluster: rows that agent/sync.ts computes from a snapshot, and the maps that a
// worker looks them up in. Rows are plain values, so that two sets can be compared and the difference sent.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { PublishedPorts } from "./published-ports.ts";
import type { SchedulerName } from "./schedulers/all.ts";

/** One overlay segment that this node takes part in. */
export interface NetworkRow {
  kind: "network";
  vni: number;
  base: Ipv4;
  mask: Ipv4;
  gateway: Ipv4;
  /** No way out through the node. */
  internal: boolean;
}

/** One address of a network. */
export interface EndpointRow {
  kind: "endpoint";
  ip: Ipv4;
  vni: number;
  /** The VTEP behind which it is; 0: on this node. */
  vtep: Ipv4;
  /** Its MAC, of an external one; left out: the one that its address makes. */
  mac?: Mac;
  /** Clients from outside its network show themselves to it as its gateway; left out: as they are. */
  sourceNat?: true;
  /** The endpoint's ports that every node publishes, which the ingress network may reach. Without it there are none. */
  published?: readonly Port[];
}

export interface Port {
  /** 6 or 17. */
  protocol: number;
  port: number;
}

/** An Ethernet address: its first 16 bits and its last 32. */
export interface Mac {
  high: number;
  low: number;
}

/** Another node. */
export interface PeerRow {
  kind: "peer";
  vtep: Ipv4;
  port: number;
  /** Its own address on the ingress network; 0: it has none. */
  ingress: Ipv4;
  /** It runs this agent, answers probes, and its outer checksums vouch for the inner ones. */
  agent: boolean;
  /** It answers published ports. */
  mesh: boolean;
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
  /** A mesh VIP's ports; null: every port, unchanged. */
  ports: readonly PortMapping[] | null;
  /** Its tasks are this node's own, and its ports answer on this node only. */
  hostMode: boolean;
}

/** How new flows are spread over tasks. */
export interface Balancing {
  scheduler: SchedulerName;
  /** Of each task, in the order of the row's; one of weight 0 gets no new flows. */
  weights: readonly number[];
  /** A client keeps its task until it has made no flow for so long; 0: it does not. */
  affinitySeconds: number;
  /** Tasks on this node before all others. */
  preferLocal: boolean;
}

export interface PortMapping {
  /** 6 or 17. */
  protocol: number;
  published: number;
  target: number;
  /** Of nodes, on which it answers; 0: all. */
  address: Ipv4;
}

/** A published port that a node leaves to a process of its own. */
export interface HeldPortRow {
  protocol: number;
  port: number;
  /** 0: all of this node's. */
  address: Ipv4;
}

/** What the node itself is. Always exactly one row. */
export interface NodeRow {
  kind: "node";
  vtep: Ipv4;
  /** Its own address on the ingress network. */
  ingress: Ipv4;
  ingressVni: number;
  poolBase: Ipv4;
  poolMask: Ipv4;
  /** Addresses of the node's own links, on which published ports answer. */
  hostAddresses: readonly Ipv4[];
  /** Whether this node answers published ports. */
  mesh: boolean;
  /** Of this and the other nodes. */
  heldPorts: readonly HeldPortRow[];
  /** Whether containers reach what processes of this node serve, those of internal networks apart. */
  nodeServices: boolean;
  /** Bytes an IP packet of the overlay may have. */
  mtu: number;
  /** Whether the rows may lack what was made last: then no flow ends because of a row that is missing. */
  isProvisional: boolean;
}

/** Ports of an address that no container reaches, whatever its network: those by which nodes make up the cluster. */
export interface DeniedRow {
  kind: "denied";
  ip: Ipv4;
  ports: readonly Port[];
}

export type TableRow = NodeRow | NetworkRow | EndpointRow | PeerRow | VipRow | DeniedRow;

/** All that the data path knows, keyed by rowKey(). */
export type TableRows = ReadonlyMap<string, TableRow>;

export interface TableDiff {
  put: TableRow[];
  delete: string[];
  /** Whether `put` has all rows: every other row goes. */
  isWhole?: true;
}

export function rowKey(row: TableRow): string {
  if (row.kind === "node") return "node";
  if (row.kind === "network") return `network ${row.vni}`;
  return `${row.kind} ${row.kind === "peer" ? row.vtep : row.ip}`;
}

/** As rowKey(), of the endpoint with that address. */
export function endpointKey(ip: Ipv4): string {
  return `endpoint ${ip}`;
}

export function rowsOf(rows: Iterable<TableRow>): TableRows {
  const map = new Map<string, TableRow>();
  for (const row of rows) map.set(rowKey(row), row);
  return map;
}

/** What makes `before` into `after`. Rows are compared by value. */
export function diffTables(before: TableRows, after: TableRows): TableDiff {
  const diff: TableDiff = { put: [], delete: [] };
  for (const [key, row] of after) {
    const old = before.get(key);
    if (old === undefined || !isSame(old, row)) diff.put.push(row);
  }
  for (const key of before.keys()) if (!after.has(key)) diff.delete.push(key);
  return diff;
}

/** The change that makes any tables into `rows`. */
export function wholeOf(rows: TableRows): TableDiff {
  return { put: [...rows.values()], delete: [], isWhole: true };
}

/** The rows, as a worker looks them up. Only apply() writes. */
export class Tables {
  /** Counts applied diffs: a flow decided under an earlier epoch is checked again before it is used. */
  epoch: number;
  node: NodeRow = {
    kind: "node",
    vtep: 0,
    ingress: 0,
    ingressVni: 0,
    poolBase: 0,
    poolMask: -1,
    hostAddresses: [],
    mesh: true,
    heldPorts: [],
    nodeServices: true,
    mtu: 1450,
    isProvisional: true,
  };
  readonly #rows = new Map<string, TableRow>(); // BOUNDED: by the cluster's state; keyed by rowKey()
  readonly networks = new Map<number, NetworkRow>(); // BOUNDED: as #rows; keyed by VNI
  readonly networksByGateway = new Map<Ipv4, NetworkRow>(); // BOUNDED: as #rows
  readonly endpoints = new Map<Ipv4, EndpointRow>(); // BOUNDED: as #rows; keyed by address
  readonly peers = new Map<Ipv4, PeerRow>(); // BOUNDED: as #rows; keyed by VTEP
  readonly peersByIngress = new Map<Ipv4, PeerRow>(); // BOUNDED: as #rows
  readonly vips = new Map<Ipv4, VipRow>(); // BOUNDED: as #rows; keyed by address
  readonly denied = new Map<Ipv4, DeniedRow>(); // BOUNDED: as #rows; keyed by address
  readonly published = new PublishedPorts();
  readonly hostAddresses = new Set<Ipv4>(); // BOUNDED: the node's own links

  constructor(epoch = 1) {
    this.epoch = epoch;
  }

  /** Whether the rows are all that the cluster wants: an agent that has just started has none, or those on its disk. */
  get areWhole(): boolean {
    return !this.node.isProvisional;
  }

  apply(diff: TableDiff): void {
    this.epoch = (this.epoch + 1) | 0;
    for (const key of diff.isWhole === true ? [...this.#rows.keys()] : diff.delete) {
      const row = this.#rows.get(key);
      this.#rows.delete(key);
      if (row !== undefined) this.#forget(row);
    }
    for (const row of diff.put) {
      const old = this.#rows.get(rowKey(row));
      if (old !== undefined) this.#forget(old);
    }
    // All old rows are gone: what one row gave up another may have.
    for (const row of diff.put) {
      this.#rows.set(rowKey(row), row);
      this.#learn(row);
    }
  }

  #learn(row: TableRow): void {
    switch (row.kind) {
      case "node":
        this.node = row;
        for (const address of row.hostAddresses) this.hostAddresses.add(address);
        this.published.learnNode(row);
        return;
      case "network":
        this.networks.set(row.vni, row);
        this.networksByGateway.set(row.gateway, row);
        return;
      case "endpoint":
        this.endpoints.set(row.ip, row);
        return;
      case "peer":
        this.peers.set(row.vtep, row);
        if (row.ingress !== 0) this.peersByIngress.set(row.ingress, row);
        return;
      case "vip":
        this.vips.set(row.ip, row);
        this.published.learn(row);
        return;
      case "denied":
        this.denied.set(row.ip, row);
    }
  }

  #forget(row: TableRow): void {
    switch (row.kind) {
      case "node":
        this.hostAddresses.clear();
        return;
      case "network":
        this.networks.delete(row.vni);
        this.networksByGateway.delete(row.gateway);
        return;
      case "endpoint":
        this.endpoints.delete(row.ip);
        return;
      case "peer":
        this.peers.delete(row.vtep);
        this.peersByIngress.delete(row.ingress);
        return;
      case "vip":
        this.vips.delete(row.ip);
        this.published.forget(row);
        return;
      case "denied":
        this.denied.delete(row.ip);
    }
  }

  /** Whether the endpoint is behind a VTEP that runs no agent. */
  isExternal({ vtep }: EndpointRow): boolean {
    return this.peers.get(vtep)?.agent === false;
  }

  /**
   * Whether the endpoint's packets may come from `vtep`. It is the VTEP that the endpoint is behind; for an external endpoint it is
   * also the node that its VTEP knows, which forwards them.
   */
  mayComeFrom(endpoint: EndpointRow, vtep: Ipv4): boolean {
    return endpoint.vtep === vtep || (this.isExternal(endpoint) && this.peers.get(vtep)?.agent === true);
  }

  /** Whether no container may reach this port. Hot path for new flows: must not allocate. */
  isDenied(ip: Ipv4, protocol: number, port: number): boolean {
    const denied = this.denied.get(ip);
    return denied !== undefined && hasPort(denied.ports, protocol, port);
  }

  /** Whether every node publishes this port of the endpoint. Hot path for new flows: must not allocate. */
  publishes(endpoint: EndpointRow, protocol: number, port: number): boolean {
    const { published } = endpoint;
    if (published === undefined) return false;
    return protocol === Protocol.Icmp || hasPort(published, protocol, port); // a ping has no port
  }

  inPool(ip: Ipv4): boolean {
    return (ip & this.node.poolMask) === this.node.poolBase;
  }
}

function hasPort(ports: readonly Port[], protocol: number, port: number): boolean {
  for (let i = 0; i < ports.length; i++) {
    const own = ports[i]!;
    if (own.port === port && own.protocol === protocol) return true;
  }
  return false;
}

/** Whether two plain values are equal in all their parts. */
function isSame(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  return keys.every((key) => isSame((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
}
