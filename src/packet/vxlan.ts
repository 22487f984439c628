// VXLAN header, RFC 7348 section 5: flags, reserved, VNI, reserved; an Ethernet frame follows.
import { get24, set32 } from "../lib/bytes.ts";

export const VXLAN_BYTES = 8;
export const VNI_AT = 4;
/** The I flag: the VNI is valid. The other flags are reserved and ignored on receipt. */
export const FLAG_VNI = 0x08;

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

export function writeVxlan(bytes: Uint8Array, at: number, vni: number): void {
  set32(bytes, at, FLAG_VNI << 24);
  set32(bytes, at + VNI_AT, vni << 8);
}
