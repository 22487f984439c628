// The way out of sealed packets: each datagram is written once into a ring in packet memory, VXLAN in UDP as ESP's transport mode carries
// it, sealed there, and queued for sockets of its own. The underlay joins datagrams of one length to one message.
//
//   ESP 16 | UDP 8 | VXLAN 8 | Ethernet 14 | packet | padding 0 to 3, pad length 1, next header 1 | ICV 16
import type { Ipv4 } from "../lib/ip.ts";
import type { Sum } from "../packet/checksum.ts";
import { Drop } from "../packet/drop.ts";
import { ESP_BYTES, ICV_BYTES } from "../packet/esp.ts";
import { ETHERNET_BYTES, EtherType, writeEthernet } from "../packet/ethernet.ts";
import { finishFragmentHeader, startFragmentHeader } from "../packet/fragment.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as udp from "../packet/udp.ts";
import { Gso } from "../packet/virtio-net.ts";
import { VXLAN_BYTES, writeVxlan } from "../packet/vxlan.ts";
import type { OutboundAssociation } from "./association.ts";
import type { Associations, SealedPeer } from "./associations.ts";
import { UnderlayQueue } from "./batch.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import { SOURCE_PORTS, type Underlay } from "./ports.ts";
import type { PeerRow } from "./rows.ts";
import { bareVni, LEAD_BYTES } from "./sealed-way.ts";
import { Segmenter } from "./segmenter.ts";

const QUEUE_MESSAGES = 256;
const RING_BYTES = 512 * 1024;
/** A place in the ring is so aligned. */
const CACHE_LINE_BYTES = 64;
/** What a datagram has around its inner IP packet, at most. */
const AROUND_BYTES = LEAD_BYTES + ENCAPSULATION_BYTES + 3 + 2 + ICV_BYTES;
/** RFC 7348 section 5: the inner UDP header's source port is one of these. It is encrypted. */
const FIRST_SOURCE_PORT = 49152;
/** The longest IP and TCP headers together. */
const HEADER_BYTES = 120;
const ECN_MASK = 3;

interface SealerOptions {
  memory: PacketMemory;
  sum: Sum;
  associations: Associations;
  /** undefined: this node cannot seal. */
  underlay: Underlay | undefined;
  /** Called before datagrams are written out, with none of them sent. */
  beforeFlush: () => void;
  /** Called with the number of datagrams that the underlay refused. */
  refused: (drop: Drop, count: number) => void;
}

export class Sealer {
  /** Peers that packets have no key for, or an old one, since it was cleared last. BOUNDED: by the peers. */
  readonly wanted = new Set<Ipv4>();
  readonly #u8: Uint8Array;
  readonly #associations: Associations;
  readonly #underlay: Underlay | undefined;
  readonly #beforeFlush: () => void;
  readonly #refused: (drop: Drop, count: number) => void;
  readonly #segmenter: Segmenter;
  readonly #queue = new UnderlayQueue(QUEUE_MESSAGES, QUEUE_MESSAGES);
  readonly #ring: number;
  /** The headers of a segment that is being cut into fragments. */
  readonly #segment: number;
  #next = 0;
  #slot = 0;
  // Where the packet in hand goes: #aim() says it.
  #peer!: PeerRow;
  #sealedPeer!: SealedPeer;
  #association!: OutboundAssociation;
  #sourcePort = 0;
  #vni = 0;

  constructor({ memory, sum, associations, underlay, beforeFlush, refused }: SealerOptions) {
    this.#u8 = memory.u8;
    this.#associations = associations;
    this.#underlay = underlay;
    this.#beforeFlush = beforeFlush;
    this.#refused = refused;
    this.#segmenter = new Segmenter(memory, sum);
    this.#ring = memory.alloc(RING_BYTES);
    this.#segment = memory.alloc(HEADER_BYTES);
  }

  /**
   * Queues the packet for a peer, on `vni`; `hash` is of its flow, and `mtu` is not 0 when the packet is larger than what the peer gets
   * whole. Without a key nothing is queued, and the peer is one that keys are wanted for. Hot path: must not allocate.
   */
  send(packet: Packet, peer: PeerRow, vni: number, hash: number, mtu: number): Drop {
    if (!this.#aim(peer, vni, hash)) return Drop.NoKey;
    if (packet.gso === Gso.None) {
      if (packet.partialChecksum) packet.completeChecksum();
      return mtu === 0 ? this.#single(packet) : this.#fragments(packet, packet.at, 0, packet.payloadBytes, mtu);
    }
    if (mtu === 0) return this.#segments(packet, packet.gsoBytes);
    if (packet.gso === Gso.Tcp4) return this.#segments(packet, mtu - packet.headerBytes);
    return this.#fragmentsOfSegments(packet, mtu);
  }

  /** Whether there is a key for what is no flow's, as probes are. */
  canSend(peer: PeerRow): boolean {
    return this.#associations.peer(peer.vtep)?.outbound[0] !== undefined && peer.sealedPort !== undefined;
  }

  /** Queues a VXLAN datagram that is whole but for the `padding` of zeros behind it. canSend() is true. */
  datagram(offset: number, length: number, padding: number, peer: PeerRow): void {
    if (!this.#aim(peer, 0, 0)) return;
    const bytes = length - ENCAPSULATION_BYTES + padding;
    const at = this.#place(bytes) - ENCAPSULATION_BYTES;
    this.#u8.copyWithin(at, offset, offset + length);
    this.#u8.fill(0, at + length, at + length + padding);
    this.#finish(bytes, 0);
  }

  /** Writes out what is queued. */
  flush(): void {
    if (this.#queue.messages > 0) {
      this.#beforeFlush();
      this.#refused(Drop.UnderlayRefused, this.#underlay!.send(this.#queue));
    }
    this.#next = 0;
  }

  #aim(peer: PeerRow, vni: number, hash: number): boolean {
    if (peer.sealedPort === undefined) return false;
    const sourcePort = hash & (SOURCE_PORTS - 1);
    const sealedPeer = this.#associations.peer(peer.vtep);
    const association = sealedPeer?.outbound[sourcePort];
    if (association === undefined) {
      this.wanted.add(peer.vtep);
      return false;
    }
    if (association.isOld) this.wanted.add(peer.vtep);
    this.#peer = peer;
    this.#sealedPeer = sealedPeer!;
    this.#association = association;
    this.#sourcePort = sourcePort;
    this.#vni = bareVni(vni);
    return true;
  }

  #single(packet: Packet): Drop {
    const { at, length } = packet;
    const to = this.#place(length);
    this.#u8.copyWithin(to, at, at + length);
    return this.#seal(to, length, packet);
  }

  #segments(packet: Packet, gsoBytes: number): Drop {
    const { headerBytes, payloadBytes } = packet;
    const payloadAt = packet.at + headerBytes;
    this.#segmenter.begin(packet);
    for (let offset = 0, number = 0; offset < payloadBytes; offset += gsoBytes, number++) {
      const bytes = Math.min(gsoBytes, payloadBytes - offset);
      const to = this.#place(headerBytes + bytes);
      this.#segmenter.write(to, offset, bytes, number);
      this.#u8.copyWithin(to + headerBytes, payloadAt + offset, payloadAt + offset + bytes);
      const drop = this.#seal(to, headerBytes + bytes, packet);
      if (drop !== Drop.None) return drop;
    }
    return Drop.None;
  }

  #fragmentsOfSegments(packet: Packet, mtu: number): Drop {
    const { payloadBytes, gsoBytes } = packet;
    this.#segmenter.begin(packet);
    for (let offset = 0, number = 0; offset < payloadBytes; offset += gsoBytes, number++) {
      const bytes = Math.min(gsoBytes, payloadBytes - offset);
      this.#segmenter.write(this.#segment, offset, bytes, number);
      const drop = this.#fragments(packet, this.#segment, offset, bytes, mtu);
      if (drop !== Drop.None) return drop;
    }
    return Drop.None;
  }

  /** Cuts a datagram that has its headers at `from`, as long as the packet's, and `payloadBytes` of the packet's payload from `payload` on. */
  #fragments(packet: Packet, from: number, payload: number, payloadBytes: number, mtu: number): Drop {
    const u8 = this.#u8;
    const ipBytes = packet.transport - packet.at;
    const transportBytes = packet.headerBytes - ipBytes; // goes into the first fragment
    const payloadAt = packet.at + packet.headerBytes + payload;
    const dataBytes = transportBytes + payloadBytes;
    for (let offset = 0, bytes = 0; offset < dataBytes; offset += bytes) {
      const to = this.#place(mtu);
      const headerBytes = startFragmentHeader(u8, to, from, offset);
      bytes = Math.min((mtu - headerBytes) & ~7, dataBytes - offset);
      finishFragmentHeader(u8, to, offset, bytes, offset + bytes === dataBytes);
      const copied = offset === 0 ? transportBytes : 0;
      const data = to + headerBytes;
      u8.copyWithin(data, from + ipBytes, from + ipBytes + copied);
      const rest = payloadAt + offset + copied - transportBytes;
      u8.copyWithin(data + copied, rest, rest + bytes - copied);
      const drop = this.#seal(to, headerBytes + bytes, packet);
      if (drop !== Drop.None) return drop;
    }
    return Drop.None;
  }

  /** Takes room in the ring for an inner IP packet of `bytes`, and returns where that is to begin. */
  #place(bytes: number): number {
    const room = (bytes + AROUND_BYTES + CACHE_LINE_BYTES - 1) & -CACHE_LINE_BYTES;
    if (this.#next + room > RING_BYTES || !this.#queue.fits(1)) this.flush();
    this.#slot = this.#ring + this.#next;
    this.#next += room;
    return this.#slot + LEAD_BYTES + ENCAPSULATION_BYTES;
  }

  /** Seals the inner IP packet that is in its place at `at`: one of `packet`, whose addresses it has. */
  #seal(at: number, bytes: number, { destination, source }: Packet): Drop {
    const u8 = this.#u8;
    writeVxlan(u8, at - ENCAPSULATION_BYTES, this.#vni);
    writeEthernet(u8, at - ETHERNET_BYTES, destination, source, EtherType.Ipv4);
    return this.#finish(bytes, u8[at + ip.TOS_AT]! & ECN_MASK);
  }

  /** Seals and queues the datagram in the ring whose inner IP packet has `bytes`. */
  #finish(bytes: number, tos: number): Drop {
    const slot = this.#slot;
    const { vtep, port, sealedPort } = this.#peer;
    const payload = VXLAN_BYTES + ETHERNET_BYTES + bytes;
    udp.writeUdp(this.#u8, slot + ESP_BYTES, FIRST_SOURCE_PORT + this.#sourcePort, port, payload);
    const sealed = this.#association.seal(slot, udp.UDP_BYTES + payload);
    if (sealed === 0) {
      this.wanted.add(vtep);
      return Drop.NoKey;
    }
    this.#sealedPeer.sealed++;
    this.#queue.slice(slot, sealed);
    this.#queue.finish(vtep, sealedPort!, this.#sourcePort, 0, tos);
    return Drop.None;
  }
}
