// The Internet checksum, RFC 1071, and its incremental update, RFC 1624. A "sum" here is 16 bits, folded, not
// complemented; the field of a header holds its complement.
import { readFileSync } from "node:fs";
import type { PacketMemory } from "./memory.ts";

/** Sums `length` bytes at `at` onto `initial`; returns a sum. */
export type Sum = (at: number, length: number, initial: number) => number;

/** The summing function for one packet memory: WebAssembly SIMD, checksum.wat. */
export function createSum(memory: PacketMemory): Sum {
  const module = new WebAssembly.Module(readFileSync(new URL("checksum.wasm", import.meta.url)));
  return new WebAssembly.Instance(module, { env: { memory: memory.memory } }).exports.sum as Sum;
}

/** Folds carries until 16 bits remain; `sum` below 2^32. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** The sum of a 32-bit value's two words. */
export function sum32(value: number): number {
  return fold((value >>> 16) + (value & 0xffff));
}

/** The sum that takes `before` (a sum of the old words) out and puts `after` in: RFC 1624, ~m + m'. */
export function deltaOf(before: number, after: number): number {
  return fold((~before & 0xffff) + after);
}

/** A header's checksum field after words changed by `delta`: RFC 1624 equation 3, HC' = ~(~HC + ~m + m'). */
export function updateChecksum(field: number, delta: number): number {
  return ~fold((~field & 0xffff) + delta) & 0xffff;
}

/** A field that holds a bare sum, as NEEDS_CSUM's pseudo-header sum does, after words changed by `delta`. */
export function updateSum(field: number, delta: number): number {
  return fold(field + delta);
}
