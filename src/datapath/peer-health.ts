// What a worker knows of the peers' health. The first worker probes them (probes.ts); the others get its reports.
import type { Ipv4 } from "../lib/ip.ts";
import { Drop } from "../packet/drop.ts";
import type { Grounds } from "./ports.ts";
import type { PeerRow } from "./rows.ts";
import type { Tables } from "./tables.ts";

export interface PeerHealth {
  /** Whether new flows may go to the peer. */
  isReachable(vtep: Ipv4): boolean;
  /** Bytes that an inner packet may have to reach the peer whole. */
  mtuOf(vtep: Ipv4): number;
  /** The lowest mtuOf() of all peers. A packet that is no larger passes everywhere. */
  readonly smallestMtu: number;
  /** A frame of the management VNI, its inner packet at `at`. A clear one is of a peer with which there are no keys. */
  receive(at: number, etherType: number, bytes: number, peer: PeerRow, isSealed: boolean): Drop;
  /** A clear frame of the management VNI of a peer with which there are keys: it says that clear packets pass, and nothing else is believed. */
  receiveClear(at: number, etherType: number, bytes: number, peer: PeerRow): Drop;
}

/** What the first worker found out. */
export interface HealthReport {
  unreachable: readonly Ipv4[];
  /** Path MTUs that are lower than the node's own MTU. */
  mtus: readonly (readonly [vtep: Ipv4, mtu: number])[];
}

/** For every worker but the first. */
export class ReportedHealth implements PeerHealth {
  readonly #tables: Tables;
  readonly #lane: Grounds | undefined;
  #unreachable = new Set<Ipv4>(); // BOUNDED: by the peers
  #mtus = new Map<Ipv4, number>(); // BOUNDED: by the peers; keyed by VTEP
  #smallest = Number.POSITIVE_INFINITY;

  /** `lane` hears of each peer whose path MTU changed. */
  constructor(tables: Tables, lane?: Grounds) {
    this.#tables = tables;
    this.#lane = lane;
  }

  set({ unreachable, mtus }: HealthReport): void {
    const before = this.#mtus;
    this.#unreachable = new Set(unreachable);
    this.#mtus = new Map(mtus);
    for (const vtep of new Set([...before.keys(), ...this.#mtus.keys()])) {
      if (before.get(vtep) !== this.#mtus.get(vtep)) this.#lane?.lose(vtep);
    }
    this.#smallest = Math.min(...this.#mtus.values());
  }

  isReachable(vtep: Ipv4): boolean {
    return !this.#unreachable.has(vtep);
  }

  mtuOf(vtep: Ipv4): number {
    return this.#mtus.get(vtep) ?? this.#tables.node.mtu;
  }

  get smallestMtu(): number {
    return Math.min(this.#smallest, this.#tables.node.mtu);
  }

  /** Probes are steered to the first worker. */
  receive(): Drop {
    return Drop.BadBfd;
  }

  receiveClear(): Drop {
    return Drop.ClearPacket;
  }
}
