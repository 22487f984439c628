// Ethernet II header, IEEE 802.3. A caller checks that ETHERNET_BYTES are there; then no accessor reads past the end.
import { get16, set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";

export const ETHERNET_BYTES = 14;
export const SOURCE_AT = 6;
export const TYPE_AT = 12;

export const EtherType = { Ipv4: 0x0800, Arp: 0x0806, Vlan: 0x8100, Ipv6: 0x86dd } as const;

/** The deterministic MAC of an overlay address is this and the four address bytes. */
export const OVERLAY_PREFIX = 0x0242;

export function etherType(bytes: Uint8Array, at: number): number {
  return get16(bytes, at + TYPE_AT);
}

/** Puts another destination into a header. */
export function setDestination(bytes: Uint8Array, at: number, high: number, low: number): void {
  set16(bytes, at, high);
  set32(bytes, at + 2, low);
}

/** Writes a header between two overlay addresses, MACs made from them. */
export function writeEthernet(bytes: Uint8Array, at: number, destination: Ipv4, source: Ipv4, type: number): void {
  set16(bytes, at, OVERLAY_PREFIX);
  set32(bytes, at + 2, destination);
  set16(bytes, at + SOURCE_AT, OVERLAY_PREFIX);
  set32(bytes, at + SOURCE_AT + 2, source);
  set16(bytes, at + TYPE_AT, type);
}
