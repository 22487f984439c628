// Medians, pair ratios and the rate search, on rows.
import test from "ava";
import { highestRate, medianInterval, pairRatios, summarize } from "../../bench/statistics.ts";

const SUMMARIES: [title: string, values: number[], median: number, min: number, max: number][] = [
  ["one value", [7], 7, 7, 7],
  ["an odd number, unsorted", [9, 1, 5], 5, 1, 9],
  ["an even number: the middle of the middle two", [10, 2, 4, 8], 6, 2, 10],
  ["numbers are not sorted as text", [100, 20, 3], 20, 3, 100],
];
for (const [title, values, median, min, max] of SUMMARIES) {
  test(`the summary of ${title}`, (t) => {
    t.deepEqual(summarize(values), { median, min, max });
  });
}

test("a ratio is of values measured in the same round", (t) => {
  t.deepEqual(pairRatios([1, 9], [2, 3]), [0.5, 3]);
});

const INTERVALS: [count: number, low: number, high: number][] = [
  [6, 1, 6],
  [10, 2, 9],
  [25, 8, 18],
  [100, 40, 61],
];
for (const [count, low, high] of INTERVALS) {
  test(`the median of ${count} values lies between those of ranks ${low} and ${high} with 95 %`, (t) => {
    const shuffled = Array.from({ length: count }, (_, i) => ((i * 7) % count) + 1);
    const values = new Set(shuffled).size === count ? shuffled : shuffled.map((_, i) => count - i);
    t.deepEqual(medianInterval(values), { low, high });
  });
}

test("five values say too little of their median", (t) => {
  t.is(medianInterval([1, 2, 3, 4, 5]), null);
  t.is(medianInterval([]), null);
});

const SEARCHES: [title: string, limit: number, steps: number, expected: number][] = [
  ["comes close to the limit from below", 300, 10, 299.8046875],
  ["is the ceiling less a step when every rate holds", 5000, 3, 875],
  ["is zero when none holds", 0, 4, 0],
];
for (const [title, limit, steps, expected] of SEARCHES) {
  test(`the rate found ${title}`, async (t) => {
    const tried: number[] = [];
    const rate = await highestRate(
      async (each) => {
        tried.push(each);
        return each <= limit;
      },
      { ceiling: 1000, steps },
    );
    t.is(rate, expected);
    t.is(tried.length, steps);
  });
}
