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
  type?: number | undefined;
  code?: number | undefined;
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

const LINK = { source: "10.9.0.2", destination: "10.9.0.1", sourcePort: 1000, destinationPort: 2000 };

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

/** A UDP datagram; left out, it goes from one address of a link to another. */
export function udpPacket(fields: Partial<Fields> = {}): Uint8Array {
  return ipPacket({ ...LINK, ...fields, protocol: "udp" });
}

/** A TCP segment, likewise; left out, its flags are ACK. */
export function tcpPacket(fields: Partial<Fields> = {}): Uint8Array {
  return ipPacket({ ...LINK, flags: ACK, ...fields, protocol: "tcp" });
}

/** The fragments of a packet for a link of `mtu`, RFC 791 section 3.2. Options are copied into all of them. */
export function fragmentsOf(packet: Uint8Array, mtu: number): Uint8Array[] {
  const header = (packet[0]! & 15) * 4;
  const data = packet.subarray(header);
  const most = (mtu - header) & ~7;
  if (packet.length <= mtu) return [packet];
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += most) {
    const piece = data.subarray(at, at + most);
    const bytes = new Uint8Array(header + piece.length);
    bytes.set(packet.subarray(0, header));
    bytes.set(piece, header);
    const view = new DataView(bytes.buffer);
    view.setUint16(2, bytes.length);
    view.setUint16(6, (at + most < data.length ? 0x2000 : 0) | (at / 8));
    view.setUint16(10, 0);
    view.setUint16(10, ~onesSum(bytes.subarray(0, header)) & 0xffff);
    fragments.push(bytes);
  }
  return fragments;
}

/** The datagram of these fragments; throws when they are not all of it. */
export function joined(fragments: readonly Uint8Array[]): Uint8Array {
  const pieces = fragments.map((bytes) => {
    const field = new DataView(bytes.buffer, bytes.byteOffset).getUint16(6);
    const header = (bytes[0]! & 15) * 4;
    return { bytes, at: (field & 0x1fff) * 8, more: (field & 0x2000) !== 0, data: bytes.subarray(header) };
  });
  pieces.sort((a, b) => a.at - b.at);
  let next = 0;
  for (const { at, data } of pieces) {
    if (at !== next) throw new Error(`the datagram has a hole at ${next}`);
    next += data.length;
  }
  const [first] = pieces;
  if (pieces.some(({ more }, i) => more !== i < pieces.length - 1)) throw new Error("the datagram has no end");
  const header = first!.bytes.subarray(0, first!.bytes.length - first!.data.length);
  const whole = Uint8Array.from(Buffer.concat([header, ...pieces.map(({ data }) => data)]));
  const view = new DataView(whole.buffer);
  view.setUint16(2, whole.length);
  view.setUint16(6, 0);
  view.setUint16(10, 0);
  view.setUint16(10, ~onesSum(whole.subarray(0, header.length)) & 0xffff);
  return whole;
}

export interface ErrorFields {
  source: string;
  type: number | undefined;
  code: number | undefined;
  /** The packet that it quotes and whose sender it tells, and how much of its payload. */
  about: Uint8Array;
  quoted: number;
  /** The second half of the header's rest: a next hop's MTU. */
  rest?: number;
}

/** An ICMP error, RFC 792. */
export function icmpError({ source, type, code, about, quoted, rest = 0 }: ErrorFields): Uint8Array {
  const quote = about.slice(0, (about[0]! & 15) * 4 + quoted);
  const destination = formatIpv4(new DataView(about.buffer, about.byteOffset).getInt32(12));
  const bytes = ipPacket({ source, destination, protocol: "icmp", type, code, sourcePort: 0, payload: quote });
  const view = new DataView(bytes.buffer);
  view.setUint16(26, rest);
  view.setUint16(22, 0);
  view.setUint16(22, ~onesSum(bytes.subarray(20)) & 0xffff);
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

/** The packet with its transport checksum made, as whoever takes it from the device does where it is partial. */
export function completed(packet: Uint8Array): Uint8Array {
  const whole = packet.slice();
  if (describe(packet).transportChecksum !== "partial") return whole;
  const header = (whole[0]! & 15) * 4;
  const field = header + (whole[9] === 6 ? 16 : 6);
  const value = ~onesSum(whole.subarray(header)) & 0xffff;
  new DataView(whole.buffer).setUint16(field, value === 0 && whole[9] === 17 ? 0xffff : value); // RFC 768
  return whole;
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
  const isLater = (view.getUint16(6) & 0x1fff) !== 0; // a fragment without transport header
  const isTcp = protocol === 6 && !isLater;
  const transportHeader = isLater ? 0 : isTcp ? (transport[12]! >> 4) * 4 : 8;
  return {
    source: formatIpv4(view.getInt32(12)),
    destination: formatIpv4(view.getInt32(16)),
    protocol,
    sourcePort: isLater ? 0 : view.getUint16(protocol === 1 ? header + 4 : header),
    destinationPort: isLater || protocol === 1 ? 0 : view.getUint16(header + 2),
    icmp: protocol === 1 && !isLater ? `${transport[0]}/${transport[1]}` : "",
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
