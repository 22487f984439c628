// Chance that can be had again: the test prints the seed, and the same seed gives the same run.
import type { Random } from "../../src/lib/random.ts";

/** mulberry32: 32 bits of state, good enough to choose test steps. */
export function seededRandom(seed: number): Random {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
