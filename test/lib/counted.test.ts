// Counts and their words.
import test from "ava";
import { counted } from "../../src/lib/counted.ts";

const CASES: [count: number, one: string, several: string | undefined, expected: string][] = [
  [0, "task", undefined, "0 tasks"],
  [1, "task", undefined, "1 task"],
  [2, "task", undefined, "2 tasks"],
  [1, "other node has", "other nodes have", "1 other node has"],
  [0, "other node has", "other nodes have", "0 other nodes have"],
];
for (const [count, one, several, expected] of CASES) {
  test(expected, (t) => {
    t.is(counted(count, one, several), expected);
  });
}
