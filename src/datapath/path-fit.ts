// Whether a packet passes on the way that its flow takes: its size, and the hops that it has left.
import { get16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import type { FlowTable } from "./flow-table.ts";
import type { PeerHealth } from "./peer-health.ts";
import { DEVICE } from "./rows.ts";
import { isSealed, sealedMtu } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

const NO_LIMIT = 65535;

export class PathFit {
  /** The largest packet that passes where the last packet goes that look() was given. */
  mtu = NO_LIMIT;
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #health: PeerHealth;

  constructor(flows: FlowTable, tables: Tables, health: PeerHealth) {
    this.#flows = flows;
    this.#tables = tables;
    this.#health = health;
  }

  /**
   * Whether a packet of this flow is stopped. For a super-packet the size is that of its segments. A packet for a local endpoint is
   * looked at too, though the kernel forwards it: the kernel's answer would go past the agent, and name addresses that the sender has
   * never seen.
   */
  look(packet: Packet, entry: number): Drop {
    const to = this.#flows.toOf(entry);
    this.mtu = NO_LIMIT;
    if (to === DEVICE) {
      const receiver = this.#tables.endpoints.get(this.#flows.sourceOf(entry ^ 1));
      if (receiver === undefined) return Drop.None; // the host, or the world outside
      if (packet.u8[packet.at + ip.TTL_AT]! <= 1) return Drop.TtlExpired;
      this.mtu = this.#tables.node.mtu;
      if (receiver.sealed === true) this.mtu = sealedMtu(this.mtu);
    } else this.mtu = this.#mtuTo(to, entry);
    const mayBeCut = (get16(packet.u8, packet.at + ip.FRAGMENT_AT) & ip.DONT_FRAGMENT) === 0;
    return packet.segmentBytes > this.mtu && !mayBeCut ? Drop.TooBig : Drop.None;
  }

  /** The largest packet that passes both ways between the two ends. */
  mtuOfFlow(entry: number): number {
    return Math.min(this.#mtuTo(this.#flows.toOf(entry), entry), this.#mtuTo(this.#flows.fromOf(entry), entry));
  }

  #mtuTo(vtep: Ipv4, entry: number): number {
    const mtu = vtep === DEVICE ? this.#tables.node.mtu : this.#health.mtuOf(vtep);
    return isSealed(this.#flows.vniOf(entry)) ? sealedMtu(mtu) : mtu;
  }
}
