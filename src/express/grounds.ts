// What an entry stands on: the client, the server, the VIP and the two VTEPs of its flow. Each address has a counter, which
// counts up when the address is lost; an entry holds the sum of its counters as it was when the flow was decided, and the
// programs use it only while that sum is the same. Counters only count up, and a sum of six comes back to itself after 2^32
// losses. Addresses share counters by a hash: a loss then sends a flow that has lost nothing through the agent, once.
import type { Ipv4 } from "../lib/ip.ts";
import { GROUNDS } from "./layout.ts";

/** The index of the counter that belongs to every entry: to count it up empties the lane. */
export const EVERYTHING = 0;
/** The index for an address that is none, as DEVICE or no VIP. It never counts up. */
const NOTHING = 1;
const FIRST = 2;
const MULTIPLIER = 0x9e3779b1; // from the golden ratio: addresses that follow one another get different counters

/** The index of an address's counter. Hot path: must not allocate. */
export function groundOf(address: Ipv4): number {
  if (address === 0) return NOTHING;
  const hash = Math.imul(address ^ (address >>> 16), MULTIPLIER) >>> 8;
  return FIRST + (hash % (GROUNDS - FIRST));
}

/** What the counters of a flow's grounds, and that of everything, add up to. An address of 0 is none. Hot path: must not allocate. */
export function sumOfGrounds(
  counters: Int32Array,
  client: Ipv4,
  server: Ipv4,
  vip: Ipv4,
  from: Ipv4,
  to: Ipv4,
): number {
  let sum = Atomics.load(counters, EVERYTHING);
  sum = (sum + Atomics.load(counters, groundOf(client))) | 0;
  sum = (sum + Atomics.load(counters, groundOf(server))) | 0;
  sum = (sum + Atomics.load(counters, groundOf(vip))) | 0;
  sum = (sum + Atomics.load(counters, groundOf(from))) | 0;
  return (sum + Atomics.load(counters, groundOf(to))) | 0;
}

/** The address is lost: no entry that stands on it is used any more, from now on, until it is written anew. */
export function loseGround(counters: Int32Array, address: Ipv4): void {
  if (address !== 0) Atomics.add(counters, groundOf(address), 1);
}

/** No entry that was written before is used any more. */
export function loseEverything(counters: Int32Array): void {
  Atomics.add(counters, EVERYTHING, 1);
}
