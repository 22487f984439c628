// Durations as people write them.
import test from "ava";
import { parseDuration } from "../../src/lib/duration.ts";

const CASES: [text: string, ms: number | undefined][] = [
  ["500ms", 500],
  ["15s", 15_000],
  ["2m", 120_000],
  ["1h30m", 5_400_000],
  ["1m0s500ms", 60_500],
  ["0s", 0],
  ["30", undefined],
  ["", undefined],
  ["-5s", undefined],
  ["1.5s", undefined],
  ["5 s", undefined],
  ["1d", undefined],
  ["s", undefined],
  ["1234567890s", undefined],
  ["5s ", undefined],
];
for (const [text, ms] of CASES) {
  test(`'${text}' is ${ms === undefined ? "no duration" : `${ms} ms`}`, (t) => {
    t.is(parseDuration(text), ms);
  });
}
