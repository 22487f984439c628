// Joins consecutive packets of one flow into one super-packet for the device, as the kernel's GRO does: one writev of the first header
// and the payloads. Packets are joined if they agree in everything but length, checksum, sequence number and id.
import { get16, get32, set16 } from "../lib/bytes.ts";
import { fold } from "../packet/checksum.ts";
import * as ip from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { Gso, MIN_SEGMENT_BYTES } from "../packet/virtio-net.ts";
import type { DeviceQueue } from "./batch.ts";
import type { DeviceOffloads } from "./ports.ts";
import { MAX_SUPER_PACKET_BYTES } from "./segmenter.ts";

const MAX_PACKETS = 64;

export class Coalescer {
  readonly #u8: Uint8Array;
  readonly #queue: DeviceQueue;
  readonly #offloads: DeviceOffloads;
  readonly #flush: () => void;
  // The super-packet under way: its first packet's header, and what the next packet must continue.
  #packets = 0;
  #at = 0;
  #headerBytes = 0;
  #ipBytes = 0;
  #protocol = 0;
  #payload = 0;
  #segment = 0;
  #nextSequence = 0;
  #flags = 0;
  /** Offset of the packet that was taken last. */
  last = 0;

  constructor(u8: Uint8Array, queue: DeviceQueue, offloads: DeviceOffloads, flush: () => void) {
    this.#u8 = u8;
    this.#queue = queue;
    this.#offloads = offloads;
    this.#flush = flush;
  }

  /**
   * Queues a packet whose transport checksum is right, joined to the one before where it continues that.
   * Call end() before anything else is queued. Hot path: must not allocate.
   */
  add(packet: Packet): void {
    this.last = packet.at;
    if (this.#packets > 0) {
      if (this.#continues(packet)) {
        this.extend(packet.at + packet.headerBytes, packet.payloadBytes, packet.tcpFlags);
        return;
      }
      this.end();
    }
    if (!this.#queue.fits(MAX_PACKETS + 1)) this.#flush();
    this.#begin(packet);
    if (!this.#mayGrow(packet)) this.end();
  }

  /** Ends the super-packet under way. */
  end(): void {
    if (this.#packets === 0) return;
    const u8 = this.#u8;
    const transport = this.#at + this.#ipBytes;
    const isTcp = this.#protocol === ip.Protocol.Tcp;
    const transportBytes = this.#headerBytes - this.#ipBytes + this.#payload;
    if (this.#packets > 1) {
      set16(u8, this.#at + ip.TOTAL_LENGTH_AT, this.#headerBytes + this.#payload);
      ip.writeHeaderChecksum(u8, this.#at);
      if (isTcp) u8[transport + tcp.FLAGS_AT] = this.#flags;
      else set16(u8, transport + udp.LENGTH_AT, transportBytes);
    }
    const offset = isTcp ? tcp.CHECKSUM_AT : udp.CHECKSUM_AT;
    const pseudo = ip.pseudoHeaderSum(
      get32(u8, this.#at + ip.SOURCE_AT),
      get32(u8, this.#at + ip.DESTINATION_AT),
      this.#protocol,
      transportBytes,
    );
    set16(u8, transport + offset, fold(pseudo));
    const gso = this.#packets === 1 ? Gso.None : isTcp ? Gso.Tcp4 : Gso.Udp4;
    this.#queue.finishPartial(gso, this.#segment, this.#headerBytes, this.#ipBytes, offset);
    this.#packets = 0;
    this.last = 0;
  }

  #begin(packet: Packet): void {
    this.#packets = 1;
    this.#at = packet.at;
    this.#headerBytes = packet.headerBytes;
    this.#ipBytes = packet.transport - packet.at;
    this.#protocol = packet.protocol;
    this.#payload = this.#segment = packet.payloadBytes;
    this.#flags = packet.tcpFlags;
    if (packet.protocol === ip.Protocol.Tcp)
      this.#nextSequence = (tcp.sequence(packet.u8, packet.transport) + packet.payloadBytes) | 0;
    this.#queue.slice(packet.at, packet.length);
  }

  /** Whether a super-packet is under way that may take a packet of `bytes` payload. */
  canExtend(bytes: number): boolean {
    return (
      this.#packets > 0 &&
      this.#packets < MAX_PACKETS &&
      bytes <= this.#segment &&
      this.#headerBytes + this.#payload + bytes <= MAX_SUPER_PACKET_BYTES
    );
  }

  /** Adds a packet that continues the super-packet under way: its payload and its TCP flags. */
  extend(payloadAt: number, bytes: number, tcpFlags: number): void {
    this.#queue.slice(payloadAt, bytes);
    this.#packets++;
    this.#payload += bytes;
    this.#nextSequence = (this.#nextSequence + bytes) | 0;
    this.#flags |= tcpFlags & tcp.Flag.Psh;
    // A short one can only be the last, and PSH asks for delivery.
    if (bytes < this.#segment || (tcpFlags & tcp.Flag.Psh) !== 0) this.end();
  }

  /** Whether a packet may be the first of several. */
  #mayGrow(packet: Packet): boolean {
    if (packet.payloadBytes < MIN_SEGMENT_BYTES || this.#ipBytes !== ip.IPV4_BYTES) return false;
    if (packet.protocol === ip.Protocol.Tcp)
      return this.#offloads.tcp && (packet.tcpFlags & ~(tcp.Flag.Ack | tcp.Flag.Ece)) === 0;
    return this.#offloads.udp && get16(packet.u8, packet.transport + udp.CHECKSUM_AT) !== 0;
  }

  #continues(packet: Packet): boolean {
    const { u8, at, transport } = packet;
    const first = this.#at;
    const bytes = packet.payloadBytes;
    if (
      packet.protocol !== this.#protocol ||
      packet.headerBytes !== this.#headerBytes ||
      transport - at !== this.#ipBytes ||
      bytes === 0 ||
      !this.canExtend(bytes) ||
      packet.source !== get32(u8, first + ip.SOURCE_AT) ||
      packet.destination !== get32(u8, first + ip.DESTINATION_AT) ||
      packet.ports !== get32(u8, first + this.#ipBytes) ||
      u8[at + ip.TOS_AT] !== u8[first + ip.TOS_AT] ||
      u8[at + ip.TTL_AT] !== u8[first + ip.TTL_AT] ||
      get16(u8, at + ip.FRAGMENT_AT) !== get16(u8, first + ip.FRAGMENT_AT)
    )
      return false;
    if (this.#protocol === ip.Protocol.Udp) return get16(u8, transport + udp.CHECKSUM_AT) !== 0;
    return (
      tcp.sequence(u8, transport) === this.#nextSequence &&
      tcp.acknowledgment(u8, transport) === tcp.acknowledgment(u8, first + this.#ipBytes) &&
      get16(u8, transport + tcp.WINDOW_AT) === get16(u8, first + this.#ipBytes + tcp.WINDOW_AT) &&
      (packet.tcpFlags & ~tcp.Flag.Psh) === this.#flags &&
      this.#sameOptions(transport)
    );
  }

  #sameOptions(transport: number): boolean {
    const u8 = this.#u8;
    const first = this.#at + this.#ipBytes;
    for (let i = tcp.TCP_BYTES, end = this.#headerBytes - this.#ipBytes; i < end; i++) {
      if (u8[transport + i] !== u8[first + i]) return false;
    }
    return true;
  }
}
