// What a worker knows of the peers' health. The first worker asks them itself (probes.ts); the others are told.
import type { Ipv4 } from "../lib/ip.ts";
import { Drop } from "../packet/drop.ts";
import type { PeerRow } from "./tables.ts";

export interface PeerHealth {
  /** Whether new flows may go to the peer. */
  isReachable(vtep: Ipv4): boolean;
  /** A frame of the management VNI, its inner packet at `at`. */
  receive(at: number, etherType: number, bytes: number, peer: PeerRow): Drop;
}

/** What the first worker tells the others. */
export interface HealthReport {
  unreachable: readonly Ipv4[];
}

/** For every worker but the first. */
export class ToldHealth implements PeerHealth {
  #unreachable = new Set<Ipv4>(); // BOUNDED: by the peers

  tell({ unreachable }: HealthReport): void {
    this.#unreachable = new Set(unreachable);
  }

  isReachable(vtep: Ipv4): boolean {
    return !this.#unreachable.has(vtep);
  }

  /** Probes are steered to the first worker. */
  receive(): Drop {
    return Drop.BadBfd;
  }
}
