// How many files this process may open, getrlimit(2).
import { getrlimit, setrlimit } from "./libc.ts";

const RLIMIT_NOFILE = 7;

/** Raises the limit to `wanted` where it is lower, as far as this process may; returns what it is now. */
export function raiseDescriptorLimit(wanted: number): number {
  const limit = new BigUint64Array(2); // soft, hard
  const bytes = new Uint8Array(limit.buffer);
  const read = (): number => (getrlimit(RLIMIT_NOFILE, bytes) < 0 ? 0 : Number(limit[0]!));
  if (read() >= wanted) return Number(limit[0]!);
  const hard = limit[1]!;
  const both = (soft: bigint, most: bigint): number => {
    limit.set([soft, most]);
    return setrlimit(RLIMIT_NOFILE, bytes);
  };
  if (hard >= wanted) both(BigInt(wanted), hard);
  // Above the hard limit it takes CAP_SYS_RESOURCE.
  else if (both(BigInt(wanted), BigInt(wanted)) < 0) both(hard, hard);
  return read();
}
