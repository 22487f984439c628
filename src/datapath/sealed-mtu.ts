// The overlay's MTU where packets are sealed: ESP takes its part of what the underlay carries.

import { mostInnerBytes } from "../packet/esp.ts";
import { IPV4_BYTES } from "../packet/ipv4.ts";
import { UDP_BYTES } from "../packet/udp.ts";
import { ENCAPSULATION_BYTES, OVERHEAD_BYTES } from "./encapsulate.ts";

/** Bytes of the largest packet that passes sealed over an underlay where `clearMtu` bytes pass clear: 1408 for 1450. */
export function sealedMtuOf(clearMtu: number): number {
  const datagram = clearMtu + OVERHEAD_BYTES - IPV4_BYTES - UDP_BYTES;
  return mostInnerBytes(datagram) - UDP_BYTES - ENCAPSULATION_BYTES;
}
