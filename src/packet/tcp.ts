// TCP header, RFC 9293 section 3.1. The Packet view checks lengths.
import { get16, get32 } from "../lib/bytes.ts";

export const TCP_BYTES = 20;
export const SEQUENCE_AT = 4;
export const ACKNOWLEDGMENT_AT = 8;
export const DATA_OFFSET_AT = 12;
export const FLAGS_AT = 13;
export const WINDOW_AT = 14;
export const CHECKSUM_AT = 16;

export const Flag = { Fin: 0x01, Syn: 0x02, Rst: 0x04, Psh: 0x08, Ack: 0x10, Urg: 0x20, Ece: 0x40, Cwr: 0x80 } as const;

export const sequence = (bytes: Uint8Array, at: number): number => get32(bytes, at + SEQUENCE_AT);
export const acknowledgment = (bytes: Uint8Array, at: number): number => get32(bytes, at + ACKNOWLEDGMENT_AT);
export const flags = (bytes: Uint8Array, at: number): number => bytes[at + FLAGS_AT]!;

/** The header's length from the data offset. */
export function headerLength(bytes: Uint8Array, at: number): number {
  return (bytes[at + DATA_OFFSET_AT]! >>> 4) * 4;
}

const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
const MAXIMUM_SEGMENT_SIZE = 2;

/** Where the value of the MSS option is (RFC 9293 section 3.7.1), or 0 when there is none or the options are broken. */
export function mssAt(bytes: Uint8Array, at: number): number {
  const end = at + headerLength(bytes, at);
  for (let i = at + TCP_BYTES; i < end; ) {
    const kind = bytes[i]!;
    if (kind === END_OF_OPTIONS) return 0;
    if (kind === NO_OPERATION) {
      i++;
      continue;
    }
    if (i + 1 >= end) return 0;
    const length = bytes[i + 1]!;
    if (length < 2 || i + length > end) return 0;
    if (kind === MAXIMUM_SEGMENT_SIZE) return length === 4 ? i + 2 : 0;
    i += length;
  }
  return 0;
}

/** The MSS option's value at `at` as mssAt() gave it. */
export const mss = (bytes: Uint8Array, at: number): number => get16(bytes, at);

/** The sequence numbers that the flags take: one each for SYN and FIN (RFC 9293 section 3.4). */
export function occupied(flags: number): number {
  return ((flags & Flag.Syn) !== 0 ? 1 : 0) + ((flags & Flag.Fin) !== 0 ? 1 : 0);
}
