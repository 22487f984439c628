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

/** The value that `percent` of them are not above. `values` has at least one. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!;
}

/**
 * Each value over the one that was measured next to it: what the machine does besides changes slowly, and so falls
 * out of the ratio.
 */
export function pairRatios(values: readonly number[], references: readonly number[]): number[] {
  return values.map((value, i) => value / references[i]!);
}

export interface RateSearch {
  /** A rate that is too high, or may be. */
  ceiling: number;
  /** How often the interval is halved. */
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
