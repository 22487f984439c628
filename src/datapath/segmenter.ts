// Super-packets: whether one may be cut, and the headers of its segments, which the kernel leaves to a network card with TSO or
// USO. What is the same in all segments is summed once.

import { fold, type Sum } from "../packet/checksum.ts";
import { ETHERNET_BYTES } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import * as udp from "../packet/udp.ts";
import { Gso, MAX_UDP_SEGMENTS, MIN_SEGMENT_BYTES, NO_SEGMENT_BYTES } from "../packet/virtio-net.ts";

/**
 * The longest IP packet that the kernel hands on in one piece: with an Ethernet header it stays below a link's
 * gso_max_size of 65,536. What is longer the kernel cuts itself.
 */
export const MAX_SUPER_PACKET_BYTES = 65_535 - ETHERNET_BYTES;

const LAST_ONLY = tcp.Flag.Fin | tcp.Flag.Psh;

/** Whether what the kernel says of a super-packet is true. Only then it may be cut or passed on. */
export function isSuperPacket(packet: Packet): boolean {
  const { gso, gsoBytes, payloadBytes } = packet;
  if (!packet.partialChecksum || packet.fragment || packet.hasSurplus || payloadBytes <= 0) return false;
  if (gsoBytes < MIN_SEGMENT_BYTES || gsoBytes === NO_SEGMENT_BYTES) return false;
  if (gso === Gso.Tcp4) return packet.protocol === ip.Protocol.Tcp;
  return gso === Gso.Udp4 && packet.protocol === ip.Protocol.Udp && payloadBytes <= gsoBytes * MAX_UDP_SEGMENTS;
}

export class Segmenter {
  readonly #view: DataView;
  readonly #sum: Sum;
  // The super-packet in hand.
  #isTcp = false;
  #at = 0;
  #ipBytes = 0;
  #headerBytes = 0;
  #payloadBytes = 0;
  #id = 0;
  /** The IP header's sum without total length, id and checksum. */
  #ipSum = 0;
  /** The sum of pseudo-header and transport header without length, checksum and, of TCP, sequence number and flags. */
  #transportSum = 0;
  #sequence = 0;
  /** Data offset, reserved bits and flags. */
  #flags = 0;

  constructor(memory: PacketMemory, sum: Sum) {
    this.#view = memory.view;
    this.#sum = sum;
  }

  /** Takes a super-packet in hand. Its transport checksum field holds the pseudo-header's sum. */
  begin(packet: Packet): void {
    const view = this.#view;
    const { at, transport, headerBytes } = packet;
    this.#isTcp = packet.gso === Gso.Tcp4;
    this.#at = at;
    this.#ipBytes = transport - at;
    this.#headerBytes = headerBytes;
    this.#payloadBytes = packet.payloadBytes;
    this.#id = view.getUint16(at + ip.ID_AT);
    const length = view.getUint16(at + ip.TOTAL_LENGTH_AT);
    const checksum = view.getUint16(at + ip.CHECKSUM_AT);
    this.#ipSum = fold(this.#sum(at, this.#ipBytes, 0) + without(length) + without(this.#id) + without(checksum));
    const transportBytes = packet.length - this.#ipBytes;
    const headerSum = this.#sum(transport, headerBytes - this.#ipBytes, 0) + without(transportBytes);
    if (!this.#isTcp) {
      this.#transportSum = fold(headerSum + without(view.getUint16(transport + udp.LENGTH_AT)));
      return;
    }
    this.#sequence = view.getInt32(transport + tcp.SEQUENCE_AT);
    this.#flags = view.getUint16(transport + tcp.DATA_OFFSET_AT);
    const rest = without(this.#sequence >>> 16) + without(this.#sequence & 0xffff) + without(this.#flags);
    this.#transportSum = fold(headerSum + rest);
  }

  /** Writes at `at` the headers of the segment that carries `bytes` of payload from `offset`. Must not allocate. */
  write(at: number, offset: number, bytes: number, number: number): void {
    const view = this.#view;
    const headerBytes = this.#headerBytes;
    const from = this.#at;
    for (let i = 0; i < headerBytes; i += 4) view.setInt32(at + i, view.getInt32(from + i));
    const length = headerBytes + bytes;
    const id = (this.#id + number) & 0xffff;
    view.setUint16(at + ip.TOTAL_LENGTH_AT, length);
    view.setUint16(at + ip.ID_AT, id);
    view.setUint16(at + ip.CHECKSUM_AT, ~fold(this.#ipSum + length + id));
    const transport = at + this.#ipBytes;
    const transportBytes = length - this.#ipBytes;
    const sum = this.#transportSum + transportBytes + this.#sum(from + headerBytes + offset, bytes, 0);
    if (this.#isTcp) this.#finishTcp(transport, offset, bytes, sum);
    else this.#finishUdp(transport, transportBytes, sum);
  }

  #finishTcp(transport: number, offset: number, bytes: number, sum: number): void {
    const view = this.#view;
    const sequence = (this.#sequence + offset) | 0;
    let flags = this.#flags;
    if (offset + bytes < this.#payloadBytes) flags &= ~LAST_ONLY;
    if (offset > 0) flags &= ~tcp.Flag.Cwr; // RFC 3168 section 6.1.2: once
    view.setInt32(transport + tcp.SEQUENCE_AT, sequence);
    view.setUint16(transport + tcp.DATA_OFFSET_AT, flags);
    view.setUint16(transport + tcp.CHECKSUM_AT, ~fold(sum + (sequence >>> 16) + (sequence & 0xffff) + flags));
  }

  #finishUdp(transport: number, transportBytes: number, sum: number): void {
    const view = this.#view;
    view.setUint16(transport + udp.LENGTH_AT, transportBytes);
    const value = ~fold(sum + transportBytes) & 0xffff;
    view.setUint16(transport + udp.CHECKSUM_AT, value === 0 ? 0xffff : value);
  }
}

/** The addend that takes a word out of a sum, RFC 1624. */
function without(word: number): number {
  return ~word & 0xffff;
}
