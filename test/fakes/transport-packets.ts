// IPv4 packets as bytes, for tests: UDP and TCP with right checksums.

import { set16 } from "../../src/lib/bytes.ts";
import { type Ipv4, ipv4 } from "../../src/lib/ip.ts";
import { IPV4_BYTES, Protocol, pseudoHeaderSum, writeIpv4 } from "../../src/packet/ipv4.ts";
import { TCP_BYTES } from "../../src/packet/tcp.ts";
import { UDP_BYTES, writeUdp } from "../../src/packet/udp.ts";

export interface PacketFields {
  from?: string;
  to?: string;
  fromPort?: number;
  toPort?: number;
  payload?: Uint8Array;
  /** The checksum field holds only the pseudo-header's sum. */
  partial?: boolean;
}

/** RFC 1071, plainly: the sum of 16-bit words, folded. */
export function plainSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

export function udpPacket(fields: PacketFields = {}): Uint8Array {
  const { fromPort = 1000, toPort = 2000, payload = new Uint8Array(0) } = fields;
  const packet = ipPacket(fields, Protocol.Udp, UDP_BYTES + payload.length);
  writeUdp(packet, IPV4_BYTES, fromPort, toPort, payload.length);
  packet.set(payload, IPV4_BYTES + UDP_BYTES);
  return withChecksum(packet, fields, Protocol.Udp, 6);
}

/** A TCP segment with ACK and `flags`. */
export function tcpPacket(fields: PacketFields & { flags?: number } = {}): Uint8Array {
  const { fromPort = 1000, toPort = 2000, payload = new Uint8Array(0), flags = 0 } = fields;
  const packet = ipPacket(fields, Protocol.Tcp, TCP_BYTES + payload.length);
  set16(packet, IPV4_BYTES, fromPort);
  set16(packet, IPV4_BYTES + 2, toPort);
  packet[IPV4_BYTES + 12] = (TCP_BYTES / 4) << 4;
  packet[IPV4_BYTES + 13] = 0x10 | flags;
  set16(packet, IPV4_BYTES + 14, 65535);
  packet.set(payload, IPV4_BYTES + TCP_BYTES);
  return withChecksum(packet, fields, Protocol.Tcp, 16);
}

function addresses({ from = "10.9.0.2", to = "10.9.0.1" }: PacketFields): [Ipv4, Ipv4] {
  return [ipv4(from), ipv4(to)];
}

function ipPacket(fields: PacketFields, protocol: number, bytes: number): Uint8Array {
  const packet = new Uint8Array(IPV4_BYTES + bytes);
  writeIpv4(packet, 0, ...addresses(fields), protocol, bytes);
  return packet;
}

function withChecksum(packet: Uint8Array, fields: PacketFields, protocol: number, offset: number): Uint8Array {
  const pseudo = pseudoHeaderSum(...addresses(fields), protocol, packet.length - IPV4_BYTES);
  const at = IPV4_BYTES + offset;
  set16(
    packet,
    at,
    fields.partial ? plainSum(new Uint8Array(0), pseudo) : ~plainSum(packet.subarray(IPV4_BYTES), pseudo),
  );
  return packet;
}
