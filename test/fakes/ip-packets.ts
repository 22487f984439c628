// Whole packets for tests, and what is in them. Built with plain arithmetic, not with the code under test.
import { formatIpv4, ipv4 } from "../../src/lib/ip.ts";

export interface Fields {
  source: string;
  destination: string;
  protocol?: "tcp" | "udp" | "icmp";
  sourcePort?: number;
  destinationPort?: number;
  payload?: Uint8Array;
  /** TCP. */
  flags?: number;
  sequence?: number;
  acknowledgment?: number;
  window?: number;
  options?: Uint8Array;
  /** ICMP; the identifier is sourcePort. */
  type?: number;
  code?: number;
  ttl?: number;
  tos?: number;
  id?: number;
  /** The 16 bits of flags and offset. */
  fragment?: number;
  /** The transport checksum field is left at the pseudo-header's sum. */
  partial?: boolean;
  /** UDP without a checksum. */
  noChecksum?: boolean;
}

const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17 } as const;
export const SYN = 0x02;
export const ACK = 0x10;
export const FIN = 0x01;
export const RST = 0x04;
export const PSH = 0x08;

/** An IPv4 packet with its checksums right. */
export function ipPacket(fields: Fields): Uint8Array {
  const protocol = PROTOCOLS[fields.protocol ?? "tcp"];
  const transport = transportBytes(protocol, fields);
  const bytes = new Uint8Array(20 + transport.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  bytes[1] = fields.tos ?? 0;
  view.setUint16(2, bytes.length);
  view.setUint16(4, fields.id ?? 1);
  view.setUint16(6, fields.fragment ?? 0x4000);
  bytes[8] = fields.ttl ?? 64;
  bytes[9] = protocol;
  view.setInt32(12, ipv4(fields.source));
  view.setInt32(16, ipv4(fields.destination));
  view.setUint16(10, ~onesSum(bytes.subarray(0, 20)) & 0xffff);
  bytes.set(transport, 20);
  const field = protocol === 6 ? 16 : protocol === 17 ? 6 : 2;
  if (fields.noChecksum) return bytes;
  const pseudo = protocol === 1 ? 0 : pseudoSum(bytes, transport.length);
  if (fields.partial) {
    view.setUint16(20 + field, pseudo);
    return bytes;
  }
  const sum = ~onesSum(bytes.subarray(20), pseudo) & 0xffff;
  view.setUint16(20 + field, protocol === 17 && sum === 0 ? 0xffff : sum);
  return bytes;
}

function transportBytes(protocol: number, fields: Fields): Uint8Array {
  const payload = fields.payload ?? new Uint8Array();
  const options = fields.options ?? new Uint8Array();
  const header = protocol === 6 ? 20 + options.length : 8;
  const bytes = new Uint8Array(header + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(payload, header);
  if (protocol === 1) {
    bytes[0] = fields.type ?? 8;
    bytes[1] = fields.code ?? 0;
    view.setUint16(4, fields.sourcePort ?? 1);
    return bytes;
  }
  view.setUint16(0, fields.sourcePort ?? 40000);
  view.setUint16(2, fields.destinationPort ?? 80);
  if (protocol === 17) {
    view.setUint16(4, bytes.length);
    return bytes;
  }
  view.setUint32(4, (fields.sequence ?? 1000) >>> 0);
  view.setUint32(8, (fields.acknowledgment ?? 0) >>> 0);
  bytes[12] = (header / 4) << 4;
  bytes[13] = fields.flags ?? SYN;
  view.setUint16(14, fields.window ?? 65535);
  bytes.set(options, 20);
  return bytes;
}

/** The one's-complement sum of big-endian words, folded (RFC 1071). */
export function onesSum(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

function pseudoSum(bytes: Uint8Array, transportLength: number): number {
  return onesSum(bytes.subarray(12, 20), bytes[9]! + transportLength);
}

/** What a packet says, its checksums judged. */
export interface Described {
  source: string;
  destination: string;
  protocol: number;
  sourcePort: number;
  destinationPort: number;
  /** ICMP's TYPE/CODE; "" of other protocols. */
  icmp: string;
  flags: number;
  sequence: number;
  acknowledgment: number;
  ttl: number;
  tos: number;
  id: number;
  payload: Uint8Array;
  headerChecksumIsRight: boolean;
  /** "partial": the field holds the pseudo-header's sum. */
  transportChecksum: "right" | "partial" | "none" | "wrong";
}

export function describe(packet: Uint8Array): Described {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const header = (packet[0]! & 15) * 4;
  const protocol = packet[9]!;
  const transport = packet.subarray(header, view.getUint16(2));
  const isTcp = protocol === 6;
  const transportHeader = isTcp ? (transport[12]! >> 4) * 4 : 8;
  return {
    source: formatIpv4(view.getInt32(12)),
    destination: formatIpv4(view.getInt32(16)),
    protocol,
    sourcePort: view.getUint16(protocol === 1 ? header + 4 : header),
    destinationPort: protocol === 1 ? 0 : view.getUint16(header + 2),
    icmp: protocol === 1 ? `${transport[0]}/${transport[1]}` : "",
    flags: isTcp ? transport[13]! : 0,
    sequence: isTcp ? view.getUint32(header + 4) : 0,
    acknowledgment: isTcp ? view.getUint32(header + 8) : 0,
    ttl: packet[8]!,
    tos: packet[1]!,
    id: view.getUint16(4),
    payload: transport.slice(transportHeader),
    headerChecksumIsRight: onesSum(packet.subarray(0, header)) === 0xffff,
    transportChecksum: judge(packet, transport, protocol),
  };
}

function judge(packet: Uint8Array, transport: Uint8Array, protocol: number): Described["transportChecksum"] {
  const field = protocol === 6 ? 16 : protocol === 17 ? 6 : 2;
  const value = (transport[field]! << 8) | transport[field + 1]!;
  if (protocol === 17 && value === 0) return "none";
  const pseudo = protocol === 1 ? 0 : pseudoSum(packet, transport.length);
  if (onesSum(transport, pseudo) === 0xffff) return "right";
  return value === pseudo ? "partial" : "wrong";
}
