// What virtual links leave unfinished. A packet whose way from its sender to this node had no network card on it may lack its transport
// checksum, or be one super-packet in one frame: senders leave both to a card. Such packets are recognized, as the kernel's own receiver
// would. All others are verified, because an outer checksum may be 0, which says nothing; gro-run.ts does so for the rest of a train.
import { Drop } from "../packet/drop.ts";
import { EtherType, etherType } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import { Gso } from "../packet/virtio-net.ts";
import { VXLAN_BYTES } from "../packet/vxlan.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import type { PeerHealth } from "./peer-health.ts";
import { isSuperPacket } from "./segmenter.ts";
import type { Tables } from "./tables.ts";

export class UnfinishedFrames {
  readonly #u8: Uint8Array;
  readonly #tables: Tables;
  readonly #health: PeerHealth;

  constructor(u8: Uint8Array, tables: Tables, health: PeerHealth) {
    this.#u8 = u8;
    this.#tables = tables;
    this.#health = health;
  }

  /**
   * Whether a message is one frame, though the kernel says that it is a train: a super-packet of UDP comes as it is, and the kernel tells
   * the size of the segments inside. No datagram of a train has a packet that is as long as all of the train.
   */
  isOneFrame(at: number, length: number): boolean {
    if (length < ENCAPSULATION_BYTES + ip.IPV4_BYTES || etherType(this.#u8, at + VXLAN_BYTES) !== EtherType.Ipv4)
      return false;
    return ip.totalLength(this.#u8, at + ENCAPSULATION_BYTES) === length - ENCAPSULATION_BYTES;
  }

  /**
   * Verifies the transport checksum; only the receiver can verify that of a fragment. A packet that a network card was to cut becomes a
   * super-packet. `cut` is the segment size that the kernel tells, or 0.
   */
  take(packet: Packet, cut: number): Drop {
    if (packet.fragment || packet.transportChecksumIsRight()) return Drop.None;
    packet.partialChecksum = packet.transportChecksumIsPartial();
    if (!packet.partialChecksum) return Drop.BadTransportChecksum;
    packet.gsoBytes = this.#segmentBytes(packet, cut);
    if (packet.gsoBytes === 0) return Drop.None;
    packet.gso = packet.protocol === ip.Protocol.Tcp ? Gso.Tcp4 : Gso.Udp4;
    return isSuperPacket(packet) ? Drop.None : Drop.BadSuperPacket;
  }

  /** Payload bytes of each segment; 0: the packet is none that is to be cut. For TCP the kernel tells no size, and any that fits will do. */
  #segmentBytes(packet: Packet, cut: number): number {
    if (packet.protocol !== ip.Protocol.Tcp) return cut;
    const mtu = Math.min(this.#tables.node.mtu, this.#health.smallestMtu);
    return packet.length > mtu ? mtu - packet.headerBytes : 0;
  }
}
