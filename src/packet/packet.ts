// One IPv4 packet, parsed in place and overwritten for the next. parse() checks every length once; after it the
// fields are right and the codecs of the protocols cannot read past the end.
import { get16, set16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { deltaOf, fold, type Sum, sum32, updateChecksum, updateSum } from "./checksum.ts";
import { Drop } from "./drop.ts";
import * as icmp from "./icmp.ts";
import * as ip from "./ipv4.ts";
import type { PacketMemory } from "./memory.ts";
import * as tcp from "./tcp.ts";
import * as udp from "./udp.ts";
import { Gso } from "./virtio-net.ts";

export class Packet {
  readonly u8: Uint8Array;
  readonly view: DataView;
  readonly #sum: Sum;
  /** Offset of the IP header. */
  at = 0;
  /** The IP header's total length. Padding may come behind the packet. */
  length = 0;
  /** Offset of the transport header. */
  transport = 0;
  /** IP and transport header together. */
  headerBytes = 0;
  protocol = 0;
  source: Ipv4 = 0;
  destination: Ipv4 = 0;
  /** Source port << 16 | destination port; an ICMP query's identifier twice; 0 where there are none. */
  ports = 0;
  /** The flags of TCP; 0 for other protocols. */
  tcpFlags = 0;
  /** Whether it is a fragment after the first, which has no transport header. */
  laterFragment = false;
  /** Whether it is a fragment, the first or a later one. */
  fragment = false;
  /** Whether it is an ICMP message that quotes the packet which it is about. */
  icmpError = false;
  /** Whether the transport checksum field holds only the pseudo-header's sum, not complemented. */
  partialChecksum = false;
  /** Other than None: a super-packet that is to be cut into segments of `gsoBytes` payload. */
  gso: Gso = Gso.None;
  gsoBytes = 0;
  /** Whether its frame asks for the express lane, or is to: Note.AsksLane. */
  asksLane = false;

  constructor(memory: PacketMemory, sum: Sum) {
    this.u8 = memory.u8;
    this.view = memory.view;
    this.#sum = sum;
  }

  /** Reads the packet at `at`; `available` bytes of it are there. Hot path: must not allocate. */
  parse(at: number, available: number): Drop {
    const { view } = this;
    if (available < ip.IPV4_BYTES) return Drop.TooShort;
    const first = view.getInt32(at);
    if (first >>> 28 !== 4) return Drop.BadVersion;
    const headerBytes = ((first >>> 24) & 15) * 4;
    if (headerBytes < ip.IPV4_BYTES || headerBytes > available) return Drop.BadHeaderLength;
    const length = first & 0xffff;
    if (length < headerBytes || length > available) return Drop.BadTotalLength;
    this.at = at;
    this.length = length;
    this.transport = at + headerBytes;
    this.protocol = view.getUint8(at + ip.PROTOCOL_AT);
    this.source = view.getInt32(at + ip.SOURCE_AT);
    this.destination = view.getInt32(at + ip.DESTINATION_AT);
    const fragment = view.getUint16(at + ip.FRAGMENT_AT);
    this.laterFragment = (fragment & ip.OFFSET_MASK) !== 0;
    this.fragment = this.laterFragment || (fragment & ip.MORE_FRAGMENTS) !== 0;
    this.partialChecksum = false;
    this.gso = Gso.None;
    this.gsoBytes = 0;
    this.asksLane = false;
    this.icmpError = false;
    this.tcpFlags = 0;
    this.ports = 0;
    this.headerBytes = headerBytes;
    return this.laterFragment ? Drop.None : this.#parseTransport(length - headerBytes);
  }

  #parseTransport(available: number): Drop {
    const { u8, view, transport } = this;
    if (this.protocol === ip.Protocol.Tcp) {
      if (available < tcp.TCP_BYTES) return Drop.BadTransportHeader;
      const offsetAndFlags = view.getUint16(transport + tcp.DATA_OFFSET_AT);
      const bytes = (offsetAndFlags >>> 12) * 4;
      if (bytes < tcp.TCP_BYTES || bytes > available) return Drop.BadTransportHeader;
      this.headerBytes += bytes;
      this.tcpFlags = offsetAndFlags & 0xff;
      this.ports = view.getInt32(transport);
    } else if (this.protocol === ip.Protocol.Udp) {
      if (available < udp.UDP_BYTES) return Drop.BadTransportHeader;
      const bytes = view.getUint16(transport + udp.LENGTH_AT);
      if (bytes < udp.UDP_BYTES || (bytes > available && !this.fragment)) return Drop.BadTransportHeader;
      this.headerBytes += udp.UDP_BYTES;
      this.ports = view.getInt32(transport);
    } else if (this.protocol === ip.Protocol.Icmp) {
      if (available < icmp.ICMP_BYTES) return Drop.BadTransportHeader;
      this.headerBytes += icmp.ICMP_BYTES;
      this.icmpError = icmp.isError(u8[transport]!);
      const identifier = get16(u8, transport + icmp.IDENTIFIER_AT);
      if (!this.icmpError) this.ports = (identifier << 16) | identifier;
    }
    return Drop.None;
  }

  get payloadBytes(): number {
    return this.length - this.headerBytes;
  }

  /** The length of the packet, or of each segment that it is cut into. */
  get segmentBytes(): number {
    return this.gso === Gso.None ? this.length : this.headerBytes + this.gsoBytes;
  }

  /** Bytes of transport header and payload. */
  get transportBytes(): number {
    return this.at + this.length - this.transport;
  }

  /** Whether it is a UDP datagram that ends before its packet does: the rest is its surplus area, RFC 9868. */
  get hasSurplus(): boolean {
    const { u8, transport, protocol } = this;
    return protocol === ip.Protocol.Udp && get16(u8, transport + udp.LENGTH_AT) !== this.transportBytes;
  }

  headerChecksumIsRight(): boolean {
    const { view } = this;
    let sum = 0;
    for (let at = this.at; at < this.transport; at += 4) {
      const words = view.getInt32(at);
      sum += (words >>> 16) + (words & 0xffff);
    }
    return fold(sum) === 0xffff;
  }

  /** Whether the transport checksum is right, or absent where it may be. Not for fragments. */
  transportChecksumIsRight(): boolean {
    const { u8, transport, protocol } = this;
    if (protocol === ip.Protocol.Udp && get16(u8, transport + udp.CHECKSUM_AT) === 0) return true;
    if (protocol === ip.Protocol.Icmp) return this.#sum(transport, this.transportBytes, 0) === 0xffff;
    if (protocol !== ip.Protocol.Tcp && protocol !== ip.Protocol.Udp) return true;
    const bytes = protocol === ip.Protocol.Udp ? get16(u8, transport + udp.LENGTH_AT) : this.transportBytes;
    return this.#sum(transport, bytes, this.#pseudoSum(bytes)) === 0xffff;
  }

  /**
   * Whether the transport checksum field holds the pseudo-header's sum alone: the sender's kernel left the rest to a network card, but
   * there was none on the way, which went by virtual links only. Not for fragments.
   */
  transportChecksumIsPartial(): boolean {
    const { u8, transport, protocol } = this;
    if ((protocol !== ip.Protocol.Tcp && protocol !== ip.Protocol.Udp) || this.hasSurplus) return false;
    return get16(u8, transport + this.checksumOffset()) === this.#pseudoSum(this.transportBytes);
  }

  /** Offset of the checksum field in the transport header; -1 where the protocol has none. */
  checksumOffset(): number {
    if (this.protocol === ip.Protocol.Tcp) return tcp.CHECKSUM_AT;
    if (this.protocol === ip.Protocol.Udp) return udp.CHECKSUM_AT;
    return this.protocol === ip.Protocol.Icmp ? icmp.CHECKSUM_AT : -1;
  }

  /** Makes the checksum that the sender's kernel left to us: the field holds the pseudo-header's sum. */
  completeChecksum(): void {
    const { u8, transport } = this;
    const field = transport + this.checksumOffset();
    const sum = this.#sum(transport, this.transportBytes, 0);
    const value = ~sum & 0xffff;
    set16(u8, field, value === 0 && this.protocol === ip.Protocol.Udp ? 0xffff : value);
    this.partialChecksum = false;
  }

  /**
   * Rewrites addresses and ports, checksums along (RFC 1624). `addressDelta` and `portDelta` are what addressDelta() and portDelta()
   * computed for this change.
   */
  rewrite(source: Ipv4, destination: Ipv4, ports: number, addressDelta: number, portDelta: number): void {
    const { u8, view, at, transport, protocol } = this;
    view.setInt32(at + ip.SOURCE_AT, source);
    view.setInt32(at + ip.DESTINATION_AT, destination);
    view.setUint16(at + ip.CHECKSUM_AT, updateChecksum(view.getUint16(at + ip.CHECKSUM_AT), addressDelta));
    this.source = source;
    this.destination = destination;
    if (this.laterFragment) return;
    if (protocol === ip.Protocol.Icmp) {
      set16(u8, transport + icmp.IDENTIFIER_AT, ports >>> 16);
      const field = transport + icmp.CHECKSUM_AT;
      set16(u8, field, updateChecksum(get16(u8, field), portDelta));
    } else if (protocol === ip.Protocol.Tcp || protocol === ip.Protocol.Udp) {
      view.setInt32(transport, ports);
      const field = transport + (protocol === ip.Protocol.Tcp ? tcp.CHECKSUM_AT : udp.CHECKSUM_AT);
      this.#updateTransportChecksum(field, addressDelta, portDelta);
    }
    this.ports = ports;
  }

  #updateTransportChecksum(field: number, addressDelta: number, portDelta: number): void {
    const { u8 } = this;
    const old = get16(u8, field);
    if (this.partialChecksum) {
      set16(u8, field, updateSum(old, addressDelta)); // ports are not in the pseudo-header
      return;
    }
    if (this.protocol === ip.Protocol.Udp && old === 0) return; // no checksum, RFC 768
    const value = updateChecksum(old, fold(addressDelta + portDelta));
    set16(u8, field, value === 0 && this.protocol === ip.Protocol.Udp ? 0xffff : value);
  }

  #pseudoSum(bytes: number): number {
    return fold(ip.pseudoHeaderSum(this.source, this.destination, this.protocol, bytes));
  }
}

/** The delta of a source and destination address replaced by others. */
export function addressDelta(source: Ipv4, destination: Ipv4, newSource: Ipv4, newDestination: Ipv4): number {
  return deltaOf(fold(sum32(source) + sum32(destination)), fold(sum32(newSource) + sum32(newDestination)));
}

/** The delta of a pair of ports replaced by another. The identifier of ICMP counts once. */
export function portDelta(protocol: number, ports: number, newPorts: number): number {
  if (protocol === ip.Protocol.Icmp) return deltaOf(ports >>> 16, newPorts >>> 16);
  return deltaOf(sum32(ports), sum32(newPorts));
}

/** Ports with source and destination exchanged. */
export function swapPorts(ports: number): number {
  return (ports << 16) | (ports >>> 16);
}
