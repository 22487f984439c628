// Reading TAP: what npm test counts.
import test from "ava";
import { TapReader, type TestResult } from "../../scripts/tap.ts";

const CASES: [title: string, lines: string[], expected: TestResult[]][] = [
  [
    "a test that passes",
    ["TAP version 13", "ok 1 - a › b", "1..1"],
    [{ outcome: "passed", name: "a › b", details: [] }],
  ],
  ["a test that is skipped", ["ok 1 - a # SKIP"], [{ outcome: "skipped", name: "a", details: [] }]],
  ["a test still to be written", ["not ok 1 - a # TODO"], [{ outcome: "skipped", name: "a", details: [] }]],
  [
    "a failure with its explanation, and the test after it",
    ["not ok 1 - a", "  ---", "    name: AssertionError", "  ...", "# the next", "ok 2 - b"],
    [
      { outcome: "failed", name: "a", details: ["  ---", "    name: AssertionError", "  ..."] },
      { outcome: "passed", name: "b", details: [] },
    ],
  ],
  ["a failure at the end", ["not ok 1 - a", "  ---"], [{ outcome: "failed", name: "a", details: ["  ---"] }]],
  [
    "a name with a number sign",
    ["ok 1 - issue #2 works"],
    [{ outcome: "passed", name: "issue #2 works", details: [] }],
  ],
];

for (const [title, lines, expected] of CASES) {
  test(`TAP: ${title}`, (t) => {
    const results: TestResult[] = [];
    const tap = new TapReader((result) => results.push(result));
    for (const line of lines) tap.read(line);
    tap.end();
    t.deepEqual(results, expected);
    t.is(tap.results, expected.length);
    t.is(tap.failures, expected.filter(({ outcome }) => outcome === "failed").length);
  });
}
