// BFD control packet, RFC 5880 section 4.1, without authentication. Call isBfd() once; then no accessor reads past the end.
import { get32, set32 } from "../lib/bytes.ts";

export const BFD_BYTES = 24;
/** RFC 5881 section 4. */
export const BFD_PORT = 3784;
const FLAGS_AT = 1;
const MULTIPLIER_AT = 2;
const LENGTH_AT = 3;
const MY_DISCRIMINATOR_AT = 4;
const YOUR_DISCRIMINATOR_AT = 8;
const DESIRED_MIN_TX_AT = 12;
const REQUIRED_MIN_RX_AT = 16;
const VERSION_1 = 1 << 5;
const DIAGNOSTIC_MASK = 0x1f;

export const BfdState = { AdminDown: 0, Down: 1, Init: 2, Up: 3 } as const;
export type BfdState = (typeof BfdState)[keyof typeof BfdState];

export const BfdFlag = { Poll: 0x20, Final: 0x10, Authentication: 0x04, Demand: 0x02, Multipoint: 0x01 } as const;

/** RFC 5880 section 4.1, the values we send. */
export const Diagnostic = { None: 0, TimeExpired: 1, NeighborDown: 3, PathDown: 5, AdminDown: 7 } as const;

/** The checks of RFC 5880 section 6.8.6 that need no session. `length` is of the UDP payload; padding may follow. */
export function isBfd(bytes: Uint8Array, at: number, length: number): boolean {
  return (
    length >= BFD_BYTES &&
    bytes[at]! >>> 5 === 1 &&
    bytes[at + LENGTH_AT]! >= BFD_BYTES &&
    bytes[at + LENGTH_AT]! <= length &&
    bytes[at + MULTIPLIER_AT]! !== 0 &&
    (bytes[at + FLAGS_AT]! & (BfdFlag.Multipoint | BfdFlag.Authentication)) === 0 &&
    get32(bytes, at + MY_DISCRIMINATOR_AT) !== 0 &&
    (get32(bytes, at + YOUR_DISCRIMINATOR_AT) !== 0 || bfdState(bytes, at) <= BfdState.Down)
  );
}

export const bfdState = (bytes: Uint8Array, at: number): BfdState => (bytes[at + FLAGS_AT]! >>> 6) as BfdState;
export const bfdFlags = (bytes: Uint8Array, at: number): number => bytes[at + FLAGS_AT]! & 0x3f;
export const diagnostic = (bytes: Uint8Array, at: number): number => bytes[at]! & DIAGNOSTIC_MASK;
export const detectMultiplier = (bytes: Uint8Array, at: number): number => bytes[at + MULTIPLIER_AT]!;
export const myDiscriminator = (bytes: Uint8Array, at: number): number => get32(bytes, at + MY_DISCRIMINATOR_AT);
export const yourDiscriminator = (bytes: Uint8Array, at: number): number => get32(bytes, at + YOUR_DISCRIMINATOR_AT);
/** Microseconds. */
export const desiredMinTx = (bytes: Uint8Array, at: number): number => get32(bytes, at + DESIRED_MIN_TX_AT) >>> 0;
/** Microseconds. */
export const requiredMinRx = (bytes: Uint8Array, at: number): number => get32(bytes, at + REQUIRED_MIN_RX_AT) >>> 0;

export interface BfdFields {
  state: BfdState;
  diagnostic: number;
  flags: number;
  detectMultiplier: number;
  myDiscriminator: number;
  yourDiscriminator: number;
  desiredMinTxMicros: number;
  requiredMinRxMicros: number;
}

export function writeBfd(bytes: Uint8Array, at: number, fields: BfdFields): void {
  bytes[at] = VERSION_1 | fields.diagnostic;
  bytes[at + FLAGS_AT] = (fields.state << 6) | fields.flags;
  bytes[at + MULTIPLIER_AT] = fields.detectMultiplier;
  bytes[at + LENGTH_AT] = BFD_BYTES;
  set32(bytes, at + MY_DISCRIMINATOR_AT, fields.myDiscriminator);
  set32(bytes, at + YOUR_DISCRIMINATOR_AT, fields.yourDiscriminator);
  set32(bytes, at + DESIRED_MIN_TX_AT, fields.desiredMinTxMicros);
  set32(bytes, at + REQUIRED_MIN_RX_AT, fields.requiredMinRxMicros);
  set32(bytes, at + 20, 0); // required min echo RX: no echo packets, RFC 5880 section 6.4
}
