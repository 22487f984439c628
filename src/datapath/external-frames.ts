// Frames of VTEPs that run no agent: a kernel's vxlan device, a switch. Their ARP requests are answered here. A vxlan device on the same
// machine leaves checksums and segments to a network card: such packets are recognized, as the kernel's own receiver would.
import type { Ipv4 } from "../lib/ip.ts";
import { answerArp, arpSender, arpTarget, isArpRequest } from "../packet/arp.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import { Gso } from "../packet/virtio-net.ts";
import { VXLAN_BYTES } from "../packet/vxlan.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import type { PeerHealth } from "./peer-health.ts";
import type { PeerRow } from "./rows.ts";
import { isSuperPacket } from "./segmenter.ts";
import type { Tables } from "./tables.ts";

export class ExternalFrames {
  readonly #u8: Uint8Array;
  readonly #tables: Tables;
  readonly #health: PeerHealth;

  constructor(u8: Uint8Array, tables: Tables, health: PeerHealth) {
    this.#u8 = u8;
    this.#tables = tables;
    this.#health = health;
  }

  /**
   * Whether a message is one frame, though the kernel says that it is a train: a kernel's vxlan device on the same machine hands on a
   * super-packet of UDP as it is, and the kernel tells the size of the segments inside.
   */
  isOneFrame(at: number, length: number, vtep: Ipv4): boolean {
    if (this.#tables.peers.get(vtep)?.agent !== false || length < ENCAPSULATION_BYTES + ip.IPV4_BYTES) return false;
    return ip.totalLength(this.#u8, at + ENCAPSULATION_BYTES) === length - ENCAPSULATION_BYTES;
  }

  /**
   * Verifies the transport checksum, which no outer checksum covers; only the receiver can verify that of a fragment. A packet that a
   * network card was to cut becomes a super-packet. `cut` is the segment size that the kernel tells, or 0.
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

  /**
   * Turns the ARP request in the datagram at `at` into its answer. It answers for every address of the network (RFC 7348 section 4.1
   * leaves that open), because the VTEP may know no other node, but not for addresses behind that VTEP itself.
   */
  answerArp(at: number, length: number, network: number, peer: PeerRow): Drop {
    const u8 = this.#u8;
    const arp = at + ENCAPSULATION_BYTES;
    if (!isArpRequest(u8, arp, length - ENCAPSULATION_BYTES)) return Drop.ArpNotOurs;
    const { endpoints, networks, vips } = this.#tables;
    const sender = endpoints.get(arpSender(u8, arp));
    if (sender === undefined || sender.vni !== network || sender.vtep !== peer.vtep) return Drop.SpoofedSource;
    const target = arpTarget(u8, arp);
    const endpoint = endpoints.get(target);
    const isThere =
      (endpoint !== undefined && endpoint.vni === network && endpoint.vtep !== peer.vtep) ||
      vips.get(target)?.vni === network ||
      networks.get(network)?.gateway === target;
    if (!isThere) return Drop.ArpNotOurs;
    answerArp(u8, at + VXLAN_BYTES);
    return Drop.None;
  }
}
