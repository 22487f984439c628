// The header of a fragment, made from that of its datagram: RFC 791 section 3.2.
import { get16, set16 } from "../lib/bytes.ts";
import * as ip from "./ipv4.ts";

const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
/** RFC 791 section 3.1: the option goes into every fragment, not just the first. */
const COPIED = 0x80;

/**
 * Writes at `to` the header of the fragment that carries the datagram's data from `offset` on, and returns its length.
 * The caller sets total length and checksum later, with finishFragmentHeader().
 */
export function startFragmentHeader(bytes: Uint8Array, to: number, datagram: number, offset: number): number {
  const headerBytes = ip.headerLength(bytes, datagram);
  if (offset === 0 || headerBytes === ip.IPV4_BYTES) {
    bytes.copyWithin(to, datagram, datagram + headerBytes);
    return headerBytes;
  }
  bytes.copyWithin(to, datagram, datagram + ip.IPV4_BYTES);
  const end = copyOptions(bytes, to + ip.IPV4_BYTES, datagram + ip.IPV4_BYTES, datagram + headerBytes);
  const length = (end - to + 3) & ~3;
  bytes.fill(END_OF_OPTIONS, end, to + length);
  bytes[to] = 0x40 | (length / 4);
  return length;
}

/** Sets length, offset and checksum. `isLast`: it carries the last data of the datagram, which may be a fragment itself. */
export function finishFragmentHeader(
  bytes: Uint8Array,
  at: number,
  offset: number,
  dataBytes: number,
  isLast: boolean,
): void {
  const field = get16(bytes, at + ip.FRAGMENT_AT);
  const more = isLast ? field & ip.MORE_FRAGMENTS : ip.MORE_FRAGMENTS;
  set16(bytes, at + ip.TOTAL_LENGTH_AT, ip.headerLength(bytes, at) + dataBytes);
  set16(bytes, at + ip.FRAGMENT_AT, more | ((field & ip.OFFSET_MASK) + offset / 8));
  ip.writeHeaderChecksum(bytes, at);
}

/** Copies the options that every fragment has; returns where they end. */
function copyOptions(bytes: Uint8Array, to: number, from: number, end: number): number {
  let at = to;
  for (let i = from; i < end; ) {
    const type = bytes[i]!;
    if (type === END_OF_OPTIONS) break;
    const length = type === NO_OPERATION ? 1 : i + 1 < end ? bytes[i + 1]! : 0;
    if (length === 0 || i + length > end || (length === 1 && type !== NO_OPERATION)) break; // not an option
    if ((type & COPIED) !== 0) {
      bytes.copyWithin(at, i, i + length);
      at += length;
    }
    i += length;
  }
  return at;
}
