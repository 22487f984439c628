// TCP header, RFC 9293 section 3.1. The Packet view checks lengths.
import { get16, get32, set16 } from "../lib/bytes.ts";
import { deltaOf, updateChecksum } from "./checksum.ts";

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

/** The offset of the MSS option's value (RFC 9293 section 3.7.1); 0 when there is no such option or the options are broken. */
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

/** The value of the MSS option at `at`, as mssAt() gave it. */
export const mss = (bytes: Uint8Array, at: number): number => get16(bytes, at);

/**
 * Lowers the MSS option of the SYN at `at` to `most`, so that no segment is larger than the path. A SYN without the option stays
 * without it, which means an MSS of 536. `isPartial`: the checksum is still to be made over what the segment has when it is sent.
 */
export function clampMss(bytes: Uint8Array, at: number, most: number, isPartial: boolean): void {
  const option = mssAt(bytes, at);
  if (option === 0) return;
  const before = mss(bytes, option);
  if (before <= most) return;
  set16(bytes, option, most);
  if (isPartial) return;
  // An option may begin at an odd place: then its bytes are in two words, each in the other half.
  const isOdd = ((option - at) & 1) === 1;
  const delta = isOdd ? deltaOf(swapBytes(before), swapBytes(most)) : deltaOf(before, most);
  const field = at + CHECKSUM_AT;
  set16(bytes, field, updateChecksum(get16(bytes, field), delta));
}

function swapBytes(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}

/** The sequence numbers that the flags take: one each for SYN and FIN (RFC 9293 section 3.4). */
export function occupied(flags: number): number {
  return ((flags & Flag.Syn) !== 0 ? 1 : 0) + ((flags & Flag.Fin) !== 0 ? 1 : 0);
}
