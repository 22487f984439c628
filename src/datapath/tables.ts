// The rows as a worker looks them up (rows.ts). They are a function of the rows alone, whatever diffs led to them.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { LostGround } from "./lost-ground.ts";
import type { Grounds } from "./ports.ts";
import { PublishedPorts } from "./published-ports.ts";
import {
  type DeniedRow,
  type EndpointRow,
  type NetworkRow,
  type NodeRow,
  type PeerRow,
  type Port,
  rowKey,
  type TableDiff,
  type TableRow,
  type VipRow,
} from "./rows.ts";

/** What a difference has done. */
interface AppliedDiff {
  /** Whether flows may have lost what they stand on. */
  hasLostGround: boolean;
  /** VTEPs of the peers that came, went or changed. */
  peers: ReadonlySet<Ipv4>;
}

/** The rows, as a worker looks them up. Only apply() writes. */
export class Tables {
  /** What flows lost with the rows that went. */
  readonly ground: LostGround;
  /** Counts the differences that were applied, from 0. Workers that apply the same count the same. */
  revision = 0;
  /** VIPs whose scheduler asks for the load of tasks. */
  leastConnectionVips = 0;
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

  /** `epoch` is that of the first rows; `lane` hears what flows lose. */
  constructor(epoch = 1, lane?: Grounds) {
    this.ground = new LostGround(epoch, lane);
  }

  get epoch(): number {
    return this.ground.epoch;
  }

  /** Whether no row is missing. An agent that has just started has no rows, or those from its disk. */
  get areWhole(): boolean {
    return !this.node.isProvisional;
  }

  /** Makes the difference true. The work is that of the difference. */
  apply(diff: TableDiff): AppliedDiff {
    this.revision = (this.revision + 1) | 0;
    const peers = new Set<Ipv4>();
    const isWhole = diff.isWhole === true;
    const gone = isWhole ? [...this.#rows.keys()] : diff.delete;
    // A whole set follows a failure: workers that failed at different rows must count the same epochs from here on.
    if (isWhole) this.ground.loseAll();
    else {
      for (const key of gone) this.ground.compare(this.#rows.get(key), undefined);
      for (const row of diff.put) this.ground.compare(this.#rows.get(rowKey(row)), row);
    }
    const hasLostGround = this.ground.settle();
    for (const key of gone) {
      const row = this.#rows.get(key);
      this.#rows.delete(key);
      if (row !== undefined) this.#forget(row);
      if (row?.kind === "peer") peers.add(row.vtep);
    }
    for (const row of diff.put) {
      const old = this.#rows.get(rowKey(row));
      if (old !== undefined) this.#forget(old);
    }
    // All old rows are gone: what one row gave up another may have.
    for (const row of diff.put) {
      this.#rows.set(rowKey(row), row);
      this.#learn(row);
      if (row.kind === "peer") peers.add(row.vtep);
    }
    return { hasLostGround, peers };
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
        if (row.balancing.scheduler === "lc") this.leastConnectionVips++;
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
        if (row.balancing.scheduler === "lc") this.leastConnectionVips--;
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
   * also any node, which forwards them.
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
