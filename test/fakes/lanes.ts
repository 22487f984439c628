// The lane of a container, as the kernel's program for the TUN's queues chooses it.
import { LANE_BITS, LANE_MULTIPLIER } from "../../src/linux/lanes.ts";

export function laneOf(source: number): number {
  return Math.imul(source, LANE_MULTIPLIER) >>> (32 - LANE_BITS);
}
