// VXLAN header, RFC 7348 section 5: flags, reserved, VNI, reserved; an Ethernet frame follows.
import { get24, set32 } from "../lib/bytes.ts";

export const VXLAN_BYTES = 8;
export const VNI_AT = 4;
/** The I flag: the VNI is valid. The other flags are reserved and ignored on receipt. */
export const FLAG_VNI = 0x08;

/** The last byte is reserved, and ignored on receipt. An agent writes in it what another agent is to know beside the frame. */
const NOTE_AT = 7;
export const Note = {
  None: 0,
  /** Does your express lane take the flow of this packet? */
  AsksLane: 1,
  /** Mine takes the flow that the packet within would answer. It is none of the flow's. */
  TakesLane: 2,
} as const;

/** RFC 8971 section 4: a VNI for the nodes' own messages, which carries no tenant. */
export const MANAGEMENT_VNI = 1;
/** The largest 24-bit network identifier. */
export const MAX_VNI = 0xffffff;

export function hasVni(bytes: Uint8Array, at: number): boolean {
  return (bytes[at]! & FLAG_VNI) !== 0;
}

export function vni(bytes: Uint8Array, at: number): number {
  return get24(bytes, at + VNI_AT);
}

export function noteOf(bytes: Uint8Array, at: number): number {
  return bytes[at + NOTE_AT]!;
}

export function writeNote(bytes: Uint8Array, at: number, note: number): void {
  bytes[at + NOTE_AT] = note;
}

export function writeVxlan(bytes: Uint8Array, at: number, vni: number): void {
  set32(bytes, at, FLAG_VNI << 24);
  set32(bytes, at + VNI_AT, vni << 8);
}
