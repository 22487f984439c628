// UDP header, RFC 768. The Packet view checks lengths.
import { set16 } from "../lib/bytes.ts";

export const UDP_BYTES = 8;
export const LENGTH_AT = 4;
export const CHECKSUM_AT = 6;

/** Writes a header with checksum 0: none (RFC 768). */
export function writeUdp(bytes: Uint8Array, at: number, from: number, to: number, payloadBytes: number): void {
  set16(bytes, at, from);
  set16(bytes, at + 2, to);
  set16(bytes, at + LENGTH_AT, UDP_BYTES + payloadBytes);
  set16(bytes, at + CHECKSUM_AT, 0);
}
