import test from "ava";
import { Spin } from "../../src/datapath/spin.ts";

const ROWS: [name: string, queuedMs: number[], expected: number][] = [
  ["a worker that never queues for a processor looks again", [0, 0], 0.1],
  ["one that queues a little looks again", [0, 9], 0.1],
  ["one that queues much blocks at once", [0, 20], 0],
  ["one that queued before and does no more looks again", [0, 80, 80], 0.1],
];

for (const [name, queuedMs, expected] of ROWS) {
  test(name, (t) => {
    let queued = 0;
    const spin = new Spin(0.1, () => queued);
    queuedMs.forEach((value, i) => {
      queued = value;
      spin.sample(1000 + 100 * i);
    });
    t.is(spin.ms, expected);
  });
}

test("a worker that is told not to never looks again", (t) => {
  const spin = new Spin(0, () => t.fail("and does not ask"));
  spin.sample(1000);
  t.is(spin.ms, 0);
});
