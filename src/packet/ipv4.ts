// IPv4 header, RFC 791. The Packet view (packet.ts) checks lengths; these read and write single fields.
import { get16, get32, set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";

export const IPV4_BYTES = 20;
export const TOS_AT = 1;
export const TOTAL_LENGTH_AT = 2;
export const ID_AT = 4;
export const FRAGMENT_AT = 6;
export const TTL_AT = 8;
export const PROTOCOL_AT = 9;
export const CHECKSUM_AT = 10;
export const SOURCE_AT = 12;
export const DESTINATION_AT = 16;

export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;
export const OFFSET_MASK = 0x1fff;

export const Protocol = { Icmp: 1, Tcp: 6, Udp: 17 } as const;

export const source = (bytes: Uint8Array, at: number): Ipv4 => get32(bytes, at + SOURCE_AT);
export const destination = (bytes: Uint8Array, at: number): Ipv4 => get32(bytes, at + DESTINATION_AT);
export const totalLength = (bytes: Uint8Array, at: number): number => get16(bytes, at + TOTAL_LENGTH_AT);

/** The header's length from IHL, RFC 791 section 3.1. */
export function headerLength(bytes: Uint8Array, at: number): number {
  return (bytes[at]! & 15) * 4;
}

/** The sum of the header's words; 0xffff when its checksum is right. */
export function headerSum(bytes: Uint8Array, at: number): number {
  let sum = 0;
  for (let end = at + headerLength(bytes, at), i = at; i < end; i += 2) sum += get16(bytes, i);
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

/** Computes the header checksum anew. */
export function writeHeaderChecksum(bytes: Uint8Array, at: number): void {
  set16(bytes, at + CHECKSUM_AT, 0);
  set16(bytes, at + CHECKSUM_AT, ~headerSum(bytes, at));
}

/** Writes a header without options, checksum included. TTL 64, DF set. */
export function writeIpv4(
  bytes: Uint8Array,
  at: number,
  from: Ipv4,
  to: Ipv4,
  protocol: number,
  payloadBytes: number,
  ttl = 64,
): void {
  set32(bytes, at, (0x4500 << 16) | (IPV4_BYTES + payloadBytes));
  set32(bytes, at + ID_AT, DONT_FRAGMENT);
  bytes[at + TTL_AT] = ttl;
  bytes[at + PROTOCOL_AT] = protocol;
  set32(bytes, at + SOURCE_AT, from);
  set32(bytes, at + DESTINATION_AT, to);
  writeHeaderChecksum(bytes, at);
}

/** The sum of a pseudo-header, RFC 9293 section 3.1 and RFC 768. */
export function pseudoHeaderSum(from: Ipv4, to: Ipv4, protocol: number, transportBytes: number): number {
  const sum = (from >>> 16) + (from & 0xffff) + (to >>> 16) + (to & 0xffff) + protocol + transportBytes;
  return (sum & 0xffff) + (sum >>> 16); // at most 5 * 65535: the caller that adds it up folds the rest of the carry
}
