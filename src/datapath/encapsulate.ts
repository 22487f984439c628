// From an inner packet to VXLAN datagrams, RFC 7348 section 5. A super-packet is cut without copying its payload: each segment is a
// header that is written here and a slice of the super-packet, and one message carries many segments.
import type { Sum } from "../packet/checksum.ts";
import { ETHERNET_BYTES, EtherType, setDestination, writeEthernet } from "../packet/ethernet.ts";
import { finishFragmentHeader, startFragmentHeader } from "../packet/fragment.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as udp from "../packet/udp.ts";
import { Gso } from "../packet/virtio-net.ts";
import { Note, VXLAN_BYTES, writeNote, writeVxlan } from "../packet/vxlan.ts";
import type { UnderlayQueue } from "./batch.ts";
import { SOURCE_PORTS } from "./ports.ts";
import type { PeerRow } from "./rows.ts";
import { MAX_SUPER_PACKET_BYTES, Segmenter } from "./segmenter.ts";
import type { Tables } from "./tables.ts";

/** Bytes before the inner IP packet: VXLAN and Ethernet. */
export const ENCAPSULATION_BYTES = VXLAN_BYTES + ETHERNET_BYTES;
/** Bytes that VXLAN takes of the underlay's MTU: outer IPv4, UDP, VXLAN, inner Ethernet. */
export const OVERHEAD_BYTES = ip.IPV4_BYTES + udp.UDP_BYTES + ENCAPSULATION_BYTES;

const HEADER_STRIDE = 192; // encapsulation, IP and TCP header at their longest: 22 + 60 + 60
const HEADERS = 2048;
/** Bytes of UDP payload that one send takes. */
const MESSAGE_BYTES = MAX_SUPER_PACKET_BYTES - ip.IPV4_BYTES - udp.UDP_BYTES;
const ECN_MASK = 3;

export class Encapsulator {
  readonly #u8: Uint8Array;
  readonly #segmenter: Segmenter;
  readonly #tables: Tables;
  readonly #queue: UnderlayQueue;
  readonly #flush: () => void;
  readonly #maxSegments: number;
  readonly #headers: number;
  /** The headers of a segment that is being cut. */
  readonly #segment: number;
  #header = 0;
  // Where the packet in hand goes: aim() says it.
  #peer!: PeerRow;
  #vni = 0;
  #sourcePort = 0;
  /** The last message of segments: its place in the queue, or -1; how many segments it has, and how long they are. */
  #last = -1;
  #lastSegments = 0;
  #lastSegmentBytes = 0;

  /** `flush` empties the queue when it is full. */
  constructor(
    memory: PacketMemory,
    sum: Sum,
    tables: Tables,
    queue: UnderlayQueue,
    maxSegments: number,
    flush: () => void,
  ) {
    this.#tables = tables;
    this.#u8 = memory.u8;
    this.#segmenter = new Segmenter(memory, sum);
    this.#queue = queue;
    this.#flush = flush;
    this.#maxSegments = maxSegments;
    this.#headers = memory.alloc(HEADERS * HEADER_STRIDE);
    this.#segment = memory.alloc(HEADER_STRIDE);
  }

  /** Says where the packets go that are queued next: to `peer`, on `vni`, from the source port that `hash` gives. */
  aim(peer: PeerRow, vni: number, hash: number): void {
    this.#peer = peer;
    this.#vni = vni;
    this.#sourcePort = hash & (SOURCE_PORTS - 1);
  }

  /** Queues a whole packet, in place: there is head-room before it. Hot path: must not allocate. */
  single(packet: Packet): void {
    if (packet.partialChecksum) packet.completeChecksum();
    if (!this.#queue.fits(1)) this.#flush();
    const start = packet.at - ENCAPSULATION_BYTES;
    this.#writeHeaders(start, packet);
    if (packet.asksLane) writeNote(this.#u8, start, Note.AsksLane);
    this.#queue.slice(start, ENCAPSULATION_BYTES + packet.length);
    this.#finish(0, packet.u8[packet.at + ip.TOS_AT]!);
  }

  /** Queues a super-packet as segments of `gsoBytes` payload. Its checksum is partial. Hot path: must not allocate. */
  segments(packet: Packet, gsoBytes: number): void {
    const segmentBytes = ENCAPSULATION_BYTES + packet.headerBytes + gsoBytes;
    const most = Math.min(this.#maxSegments, Math.floor(MESSAGE_BYTES / segmentBytes));
    const payload = packet.payloadBytes;
    const tos = this.#u8[packet.at + ip.TOS_AT]! & ECN_MASK;
    this.#segmenter.begin(packet);
    for (let offset = 0, number = 0; offset < payload; ) {
      const wanted = Math.ceil((payload - offset) / gsoBytes);
      if (this.#header + Math.min(most, wanted) > HEADERS || !this.#queue.fits(2 * Math.min(most, wanted)))
        this.#flush();
      const room = this.#roomInLast(segmentBytes, tos, most);
      const count = Math.min(room > 0 ? room : most, wanted);
      for (let i = 0; i < count; i++, number++, offset += gsoBytes) {
        const bytes = Math.min(gsoBytes, payload - offset);
        const header = this.#headers + this.#header++ * HEADER_STRIDE;
        this.#writeHeaders(header, packet);
        this.#segmenter.write(header + ENCAPSULATION_BYTES, offset, bytes, number);
        this.#queue.slice(header, ENCAPSULATION_BYTES + packet.headerBytes);
        this.#queue.slice(packet.at + packet.headerBytes + offset, bytes);
      }
      if (room > 0) this.#queue.extendLast(segmentBytes);
      else this.#finish(count > 1 ? segmentBytes : 0, tos);
      this.#lastSegments = room > 0 ? this.#lastSegments + count : count;
      this.#lastSegmentBytes = segmentBytes;
      // A message whose last segment is short can take no more.
      this.#last = offset > payload ? -1 : this.#queue.messages - 1;
    }
  }

  /**
   * How many segments the last message still takes, if these go the same way: a super-packet of 64 KiB does not fit one message, and
   * what is left over goes with the next super-packet.
   */
  #roomInLast(segmentBytes: number, tos: number, most: number): number {
    const queue = this.#queue;
    const last = queue.messages - 1;
    const isOpen =
      last >= 0 &&
      last === this.#last &&
      segmentBytes === this.#lastSegmentBytes &&
      queue.address[last] === this.#peer.vtep &&
      queue.port[last] === this.#peer.port &&
      queue.sourcePort[last] === this.#sourcePort &&
      queue.tos[last] === tos;
    return isOpen ? most - this.#lastSegments : 0;
  }

  /**
   * Queues a packet that is larger than `mtu`, and whose DF is clear, as fragments. Each segment of a super-packet becomes fragments of
   * its own.
   */
  fragments(packet: Packet, mtu: number): void {
    const { at, headerBytes, payloadBytes, gsoBytes } = packet;
    if (packet.gso === Gso.None) {
      if (packet.partialChecksum) packet.completeChecksum();
      this.#cut(packet, at, at + headerBytes, payloadBytes, mtu);
      return;
    }
    this.#segmenter.begin(packet);
    for (let offset = 0, number = 0; offset < payloadBytes; offset += gsoBytes, number++) {
      const bytes = Math.min(gsoBytes, payloadBytes - offset);
      this.#segmenter.write(this.#segment, offset, bytes, number);
      this.#cut(packet, this.#segment, at + headerBytes + offset, bytes, mtu);
    }
  }

  /**
   * Cuts a datagram that has its headers at `from`, as long as the packet's, and its payload elsewhere: each fragment is a header that
   * is written here and a slice of the payload.
   */
  #cut(packet: Packet, from: number, payloadAt: number, payloadBytes: number, mtu: number): void {
    const u8 = this.#u8;
    const ipBytes = packet.transport - packet.at;
    const transportBytes = packet.headerBytes - ipBytes; // goes into the first fragment
    const dataBytes = transportBytes + payloadBytes;
    for (let offset = 0, bytes = 0; offset < dataBytes; offset += bytes) {
      if (this.#header === HEADERS || !this.#queue.fits(2)) this.#flush();
      const start = this.#headers + this.#header++ * HEADER_STRIDE;
      const at = start + ENCAPSULATION_BYTES;
      const headerBytes = startFragmentHeader(u8, at, from, offset);
      bytes = Math.min((mtu - headerBytes) & ~7, dataBytes - offset);
      finishFragmentHeader(u8, at, offset, bytes, offset + bytes === dataBytes);
      const copied = offset === 0 ? transportBytes : 0;
      u8.copyWithin(at + headerBytes, from + ipBytes, from + ipBytes + copied);
      this.#writeHeaders(start, packet);
      this.#queue.slice(start, ENCAPSULATION_BYTES + headerBytes + copied);
      if (bytes > copied) this.#queue.slice(payloadAt + offset + copied - transportBytes, bytes - copied);
      this.#finish(0, u8[at + ip.TOS_AT]!);
    }
  }

  /** After the queue was flushed: the headers may be written over. */
  flushed(): void {
    this.#header = 0;
    this.#last = -1;
  }

  #finish(segmentBytes: number, tos: number): void {
    const { vtep, port } = this.#peer;
    this.#queue.finish(vtep, port, this.#sourcePort, segmentBytes, tos & ECN_MASK);
  }

  #writeHeaders(at: number, packet: Packet): void {
    writeVxlan(this.#u8, at, this.#vni);
    writeEthernet(this.#u8, at + VXLAN_BYTES, packet.destination, packet.source, EtherType.Ipv4);
    if (this.#peer.agent) return;
    const mac = this.#tables.endpoints.get(packet.destination)?.mac;
    if (mac !== undefined) setDestination(this.#u8, at + VXLAN_BYTES, mac.high, mac.low);
  }
}
