// Hashes that all nodes and workers compute alike, so that they agree without asking each other. They are no secret: a
// client may choose its task, which it may anyway.
import type { Ipv4 } from "../../lib/ip.ts";
import type { Packet } from "../../packet/packet.ts";

/** Two words into one, as a signed 32-bit integer: murmur3's mixing and finalizer. */
export function mix(a: number, b: number): number {
  let h = Math.imul(a, 0xcc9e2d51);
  h = Math.imul((h << 15) | (h >>> 17), 0x1b873593) ^ b;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** The hash of a connection to a VIP. */
export function connectionHash(packet: Packet): number {
  return mix(mix(packet.source, packet.ports), mix(packet.destination, packet.protocol));
}

/** The hash of a client of a VIP. */
export function clientHash(client: Ipv4, vip: Ipv4): number {
  return mix(client, vip);
}
