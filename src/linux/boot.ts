// Which run of the machine this is: random(4)'s boot_id, of which 32 bits will do to tell two from each other.
import { readFileSync } from "node:fs";

/** As an int32. The monotonic clock begins anew with each. */
export function bootNumber(): number {
  return Number.parseInt(readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8), 16) | 0;
}
