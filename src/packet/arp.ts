// ARP for IPv4 over Ethernet, RFC 826. Call isArpRequest() once; then no accessor reads past the end.
import { get16, get32, set16, set32 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { ETHERNET_BYTES } from "./ethernet.ts";

const ARP_BYTES = 28;
const OPERATION_AT = 6;
const SENDER_MAC_AT = 8;
const SENDER_IP_AT = 14;
const TARGET_MAC_AT = 18;
const TARGET_IP_AT = 24;

const ETHERNET_IPV4 = 0x00010800; // hardware type 1, protocol type 0x0800
const LENGTHS = 0x0604; // 6 bytes of MAC, 4 of address
const REQUEST = 1;
const REPLY = 2;

/** Whether `length` bytes at `at` are an ARP request for an IPv4 address over Ethernet. */
export function isArpRequest(bytes: Uint8Array, at: number, length: number): boolean {
  return (
    length >= ARP_BYTES &&
    get32(bytes, at) === ETHERNET_IPV4 &&
    get16(bytes, at + 4) === LENGTHS &&
    get16(bytes, at + OPERATION_AT) === REQUEST
  );
}

export function arpSender(bytes: Uint8Array, at: number): Ipv4 {
  return get32(bytes, at + SENDER_IP_AT);
}

export function arpTarget(bytes: Uint8Array, at: number): Ipv4 {
  return get32(bytes, at + TARGET_IP_AT);
}

/**
 * Turns the request in the Ethernet frame at `frame` into its reply, in place: `target` is at its overlay MAC
 * (RFC 826, "Packet Reception": swap the fields, put the local addresses in).
 */
export function answerArp(bytes: Uint8Array, frame: number): void {
  const at = frame + ETHERNET_BYTES;
  const target = arpTarget(bytes, at);
  const sender = arpSender(bytes, at);
  bytes.copyWithin(frame, at + SENDER_MAC_AT, at + SENDER_MAC_AT + 6);
  bytes.copyWithin(at + TARGET_MAC_AT, at + SENDER_MAC_AT, at + SENDER_MAC_AT + 6);
  set16(bytes, frame + 6, 0x0242);
  set32(bytes, frame + 8, target);
  set16(bytes, at + OPERATION_AT, REPLY);
  set16(bytes, at + SENDER_MAC_AT, 0x0242);
  set32(bytes, at + SENDER_MAC_AT + 2, target);
  set32(bytes, at + SENDER_IP_AT, target);
  set32(bytes, at + TARGET_IP_AT, sender);
}
