// ESP with AES-GCM in UDP: RFC 4303 section 2, RFC 4106 section 3, RFC 3948 section 2.1, as transport mode carries a UDP datagram in it.
//
//   SPI 4 | sequence 4 | IV 8 | [ UDP header and payload | padding | pad length 1 | next header 1 ] | ICV 16
//
// What is in brackets is encrypted, all but the ICV is authenticated.
import { Protocol } from "./ipv4.ts";

/** SPI, sequence and IV: what comes before the encrypted part. */
export const ESP_BYTES = 16;
export const ICV_BYTES = 16;
/** RFC 4303 section 2.1: 1 to 255 are reserved, and 0 marks what is no ESP (RFC 3948 section 2.2). */
export const FIRST_SPI = 256;
/** The last number of a sequence without extension. An association ends with it: RFC 4303 section 3.3.3. */
export const LAST_SEQUENCE = 0xffff_ffff;

const SEQUENCE_AT = 4;
const IV_AT = 8;
/** Pad length and next header. */
const TRAILER_BYTES = 2;
/** RFC 4303 section 2.4: the encrypted part is so aligned. */
const ALIGNMENT = 4;
const SHORTEST = ESP_BYTES + ALIGNMENT + ICV_BYTES;

/** Bytes of the encrypted part around an inner datagram of `bytes`. */
export function encryptedBytes(bytes: number): number {
  return (bytes + TRAILER_BYTES + ALIGNMENT - 1) & -ALIGNMENT;
}

/** The largest inner datagram for which the whole, without the outer headers, is not longer than `bytes`. */
export function mostInnerBytes(bytes: number): number {
  return ((bytes - ESP_BYTES - ICV_BYTES) & -ALIGNMENT) - TRAILER_BYTES;
}

/**
 * Writes SPI and sequence, and an IV that is the sequence: no two of a key are the same (RFC 4106 section 3.1). Both are taken as unsigned.
 */
export function writeEsp(view: DataView, at: number, spi: number, sequence: number): void {
  view.setInt32(at, spi);
  view.setInt32(at + SEQUENCE_AT, sequence);
  view.setInt32(at + IV_AT, 0);
  view.setInt32(at + IV_AT + 4, sequence);
}

/** Writes what follows the inner datagram, which is `bytes` long and begins at `at`: the padding 1, 2, 3..., its length, the next header. */
export function writeTrailer(u8: Uint8Array, at: number, bytes: number): void {
  const padding = encryptedBytes(bytes) - bytes - TRAILER_BYTES;
  const end = at + bytes;
  for (let i = 0; i < padding; i++) u8[end + i] = i + 1;
  u8[end + padding] = padding;
  u8[end + padding + 1] = Protocol.Udp;
}

/** Whether a UDP payload of `bytes` may be ESP with AES-GCM. Then the accessors below do not read past its end. */
export function isEsp(view: DataView, at: number, bytes: number): boolean {
  return bytes >= SHORTEST && bytes % ALIGNMENT === 0 && view.getUint32(at) >= FIRST_SPI;
}

export const spiOf = (view: DataView, at: number): number => view.getUint32(at);
export const sequenceOf = (view: DataView, at: number): number => view.getUint32(at + SEQUENCE_AT);
/** The two words of the IV, as signed numbers. */
export const ivHighOf = (view: DataView, at: number): number => view.getInt32(at + IV_AT);
export const ivLowOf = (view: DataView, at: number): number => view.getInt32(at + IV_AT + 4);

/**
 * The length of the datagram in the decrypted part, which is `bytes` long and begins at `at`; -1: its trailer is not one of ours. A receiver is
 * to look at the padding (RFC 4303 section 2.4).
 */
export function innerBytesOf(u8: Uint8Array, at: number, bytes: number): number {
  const end = at + bytes;
  const padding = u8[end - TRAILER_BYTES]!;
  const inner = bytes - TRAILER_BYTES - padding;
  if (u8[end - 1] !== Protocol.Udp || inner < 0) return -1;
  for (let i = 0; i < padding; i++) if (u8[at + inner + i] !== i + 1) return -1;
  return inner;
}
