// Medians, ratios of adjacent pairs, and the search for the highest rate that holds.

export interface Summary {
  median: number;
  min: number;
  max: number;
}

/** `values` has at least one. */
export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle]!;
  const median = sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Bounds of a median. */
export interface Interval {
  low: number;
  high: number;
}

const CONFIDENCE = 0.95;

/**
 * The narrowest pair of order statistics that holds the median with a probability of at least 95 %, whatever the
 * distribution; null where there are too few values (fewer than 6).
 */
export function medianInterval(values: readonly number[]): Interval | null {
  const count = values.length;
  // The median is below the value of rank k (from 1) when fewer than k values are below it: a binomial tail.
  let probability = 0.5 ** count;
  let tail = probability;
  let rank = 0;
  while (2 * tail <= 1 - CONFIDENCE) {
    rank++;
    probability *= (count - rank + 1) / rank;
    tail += probability;
  }
  if (rank === 0) return null;
  const sorted = Float64Array.from(values).sort();
  return { low: sorted[rank - 1]!, high: sorted[count - rank]! };
}

/** The value that `percent` of `values` are not above. `values` has at least one. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

/**
 * Each value over the one that was measured next to it: the machine's other load changes slowly, and so falls out of
 * the ratio.
 */
export function pairRatios(values: readonly number[], references: readonly number[]): number[] {
  return values.map((value, i) => value / references[i]!);
}

export interface RateSearch {
  /** A rate above which none is tried. */
  ceiling: number;
  /** How many times the interval is halved. */
  steps: number;
}

/** The highest rate found at which `holds` says yes, by halving; 0 when none did. */
export async function highestRate(
  holds: (rate: number) => Promise<boolean>,
  { ceiling, steps }: RateSearch,
): Promise<number> {
  let low = 0;
  let high = ceiling;
  for (let step = 0; step < steps; step++) {
    const rate = (low + high) / 2;
    if (await holds(rate)) low = rate;
    else high = rate;
  }
  return low;
}
