// A small form of `npm run sim`: a change reaches every node, and the state that it leaves is the same everywhere.
import test from "ava";
import { EventQueue } from "./event-queue.ts";
import { figuresOf } from "./figures.ts";
import { formatGrowth, missedBars, withGrowth } from "./growth.ts";

const SMALL = { nodes: 20, services: 40, replicas: 5, changes: 8, quietSeconds: 6, httpReports: 50, boundMs: Infinity };

test("every change reaches every node, over two leaders, and a real node's end has what the leader has", async (t) => {
  const figures = await figuresOf(SMALL);
  t.is(figures.changes, SMALL.changes);
  t.is(figures.endpoints, 200);
  // What a node receives depends on the change, and not on how many nodes there are.
  t.true(figures.bytesAChange > 100 && figures.bytesAChange < 20_000, `${figures.bytesAChange} bytes`);
  t.true(figures.snapshotMbyte > 0);
  for (const [name, value] of Object.entries(figures)) t.true(Number.isFinite(value), `${name} is ${value}`);
});

test("bytes that a node receives for a change do not grow with the services and nodes", async (t) => {
  const few = await figuresOf({ ...SMALL, nodes: 5, services: 10 });
  const many = await figuresOf({ ...SMALL, nodes: 20, services: 80 });
  t.true(many.bytesAChange < 1.2 * few.bytesAChange, `${few.bytesAChange} and ${many.bytesAChange} bytes`);
});

test("events come in the order of their times", (t) => {
  const queue = new EventQueue();
  t.is(queue.nextAt, Infinity);
  const times = Array.from({ length: 200 }, (_, i) => (i * 37) % 101);
  for (const at of times) queue.add({ at, happen: async () => {} });
  t.is(queue.nextAt, 0);
  const early = queue.takeUntil(50).map(({ at }) => at);
  const late = queue.takeUntil(Infinity).map(({ at }) => at);
  t.deepEqual(
    [...early, ...late],
    [...times].sort((a, b) => a - b),
  );
  t.true(early.at(-1)! <= 50 && late[0]! > 50);
});

const FIGURES = {
  nodes: 1000,
  services: 100,
  endpoints: 1000,
  reportMicros: 90,
  beatMicros: 30,
  lineMicros: 12,
  changes: 9,
  p50Ms: 12.34,
  p99Ms: 1200,
  leaderMsAChange: 1,
  bytesAChange: 950,
  nodeInForceMs: 0.5,
  nodeMsAChange: 0.6,
  quietPercent: 7.04,
  leaderMbyte: 3,
  nodeMbyte: 2,
  loadSeconds: 0.2,
  nodeLoadSeconds: 0.1,
  snapshotMbyte: 0.5,
  newLeaderSeconds: 0.04,
};

test("the table has a column for each size, and missed bars are said", (t) => {
  const table = formatGrowth([{ ...FIGURES, nodes: 10 }, FIGURES]);
  t.true(table.startsWith("| nodes | 10 | 1000 |\n| --- | --- | --- |\n"), table);
  t.true(table.includes("| from a change to in force everywhere, p50, ms | 12.3 | 12.3 |\n"), table);
  t.deepEqual(missedBars([FIGURES]), [
    "Missed at 1000 nodes: p99 of 1200 ms, bar 1000 ms",
    "Missed at 1000 nodes: heartbeats take 7.0 %, bar 5 %",
  ]);
  t.deepEqual(missedBars([{ ...FIGURES, nodes: 10_000, p99Ms: 999 }]), []);
});

test("the table goes between its markers", (t) => {
  const page = "a\n<!-- growth: npm run sim -- --document -->\nold\n<!-- end of growth -->\nb\n";
  t.is(withGrowth(page, "new\n"), page.replace("old", "new"));
  t.throws(() => withGrowth("a", "new"), { message: /lost its markers/ });
});
