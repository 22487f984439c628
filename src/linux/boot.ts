// The run of the machine: 32 bits of random(4)'s boot_id, enough to tell two runs from each other.
import { readFileSync } from "node:fs";

/** As an int32. The monotonic clock begins anew with each. */
export function bootNumber(): number {
  return Number.parseInt(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8), 16) | 0;
}
