// Tables and overlays against plain maps: after any changes they have the same rows, and indexes find what a loop finds.
import test from "ava";
import fc from "fast-check";
import type { IndexOf } from "../../src/cluster/indexes.ts";
import { Overlay } from "../../src/cluster/overlay.ts";
import type { Task } from "../../src/cluster/schema.ts";
import { type Rows, Table } from "../../src/cluster/tables.ts";
import { serviceRow } from "../api/fake-backend.ts";

const KEYS = ["a", "b", "c", "d", "e"];
const NODES = ["node1", "node2", null];

function taskRow(id: string, nodeId: string | null, serviceId: string, desired: Task["desired"]): Task {
  const addresses: Task["addresses"] = nodeId === null ? {} : { web: `10.0.0.${id.charCodeAt(0)}` };
  const rest = { slot: 1, drain: null, attachment: null, error: null, createdAt: 1 };
  return { id, serviceId, nodeId, desired, addresses, ...rest };
}

const change = fc.record({
  key: fc.constantFrom(...KEYS),
  isRemoved: fc.boolean(),
  node: fc.constantFrom(...NODES),
  service: fc.constantFrom("web", "db"),
  desired: fc.constantFrom("running", "draining", "shutdown") as fc.Arbitrary<Task["desired"]>,
});
type Step = typeof change extends fc.Arbitrary<infer T> ? T : never;

function rowOf({ key, isRemoved, node, service, desired }: Step): Task | null {
  return isRemoved ? null : taskRow(key, node, service, desired);
}

/** Sorted by key: a row's place among others is no promise of an index. */
function sorted(rows: Iterable<Task>): Task[] {
  return [...rows].toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

const QUESTIONS: [index: IndexOf<"tasks">, value: string, matches: (task: Task) => boolean][] = [
  ["node", "node1", ({ nodeId }) => nodeId === "node1"],
  ["service", "db", ({ serviceId }) => serviceId === "db"],
  ["todo", "draining", ({ desired }) => desired === "draining"],
  ["todo", "place", ({ desired, nodeId }) => desired === "running" && nodeId === null],
  ["address", "10.0.0.97", ({ id, nodeId }) => id === "a" && nodeId !== null],
];

function checkSame(t: { deepEqual: (a: unknown, b: unknown) => void }, rows: Rows<"tasks">, plain: Map<string, Task>) {
  t.deepEqual(sorted(rows.values()), sorted(plain.values()));
  t.deepEqual([...rows.keys()].toSorted(), [...plain.keys()].toSorted());
  t.deepEqual(rows.size, plain.size);
  for (const key of KEYS) t.deepEqual([rows.get(key), rows.has(key)], [plain.get(key), plain.has(key)]);
  for (const [index, value, matches] of QUESTIONS) {
    const expected = sorted([...plain.values()].filter(matches));
    t.deepEqual([sorted(rows.by(index, value)), rows.count(index, value)], [expected, expected.length]);
  }
}

/** Applies the steps to both; asks the indexes before the step of number `asked`, so that they exist from there on. */
function run(rows: Table<"tasks"> | Overlay<"tasks">, plain: Map<string, Task>, steps: readonly Step[], asked: number) {
  for (const [i, step] of steps.entries()) {
    if (i === asked) for (const [index, value] of QUESTIONS) rows.count(index, value);
    const row = rowOf(step);
    rows.set(step.key, row);
    if (row === null) plain.delete(step.key);
    else plain.set(step.key, row);
  }
}

test("a table that is changed in place is as a plain map, and its indexes find what a loop finds", (t) => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), fc.nat(30), (steps, asked) => {
      const [table, plain] = [new Table("tasks"), new Map<string, Task>()];
      run(table, plain, steps, asked);
      checkSame(t, table, plain);
    }),
  );
  t.pass();
});

test("overlays over overlays are as a plain map, and leave what is below them as it was", (t) => {
  const steps = fc.array(change, { maxLength: 12 });
  fc.assert(
    fc.property(steps, steps, steps, fc.nat(12), (below, middle, above, asked) => {
      const [table, plain] = [new Table("tasks"), new Map<string, Task>()];
      run(table, plain, below, asked);
      const before = new Map(plain);
      const overlay = new Overlay("tasks", table);
      run(overlay, plain, middle, asked);
      const between = new Map(plain);
      const top = new Overlay("tasks", overlay);
      run(top, plain, above, asked);
      checkSame(t, top, plain);
      checkSame(t, overlay, between);
      checkSame(t, table, before);
    }),
  );
  t.pass();
});

test("a version is another one after each change, and the same while nothing changed", (t) => {
  const table = new Table("tasks");
  const versions = [table.version];
  table.set("a", taskRow("a", "node1", "web", "running"));
  versions.push(table.version);
  table.set("b", null);
  t.is(table.version, versions.at(-1)!);
  table.set("a", null);
  versions.push(table.version);
  t.is(new Set(versions).size, 3);
});

test("a row that says a value twice is in its index once, and leaves it whole", (t) => {
  const shared = serviceRow("shared");
  const twice = { ...serviceRow("twice"), aliases: { web: ["DB", "db", "Db"] } };
  const once = { ...shared, aliases: { web: ["db"] } };
  const table = new Table("services");
  for (const row of [twice, once]) table.set(row.id, row);
  t.is(table.count("alias", "web/db"), 2);
  const overlay = new Overlay("services", table);
  overlay.set(once.id, null);
  t.deepEqual([overlay.count("alias", "web/db"), overlay.by("alias", "web/db")], [1, [twice]]);
  overlay.set(twice.id, shared);
  t.deepEqual([overlay.count("alias", "web/db"), overlay.by("alias", "web/db")], [0, []]);
  table.set(twice.id, null);
  t.deepEqual([table.count("alias", "web/db"), table.by("alias", "web/db")], [1, [once]]);
});

test("a row that is put under a key that has one takes its place in every index", (t) => {
  const table = new Table("tasks");
  for (const id of ["a", "b"]) table.set(id, taskRow(id, "node1", "web", "running"));
  t.is(table.count("node", "node1"), 2);
  t.is(table.set("a", taskRow("a", "node2", "web", "running"))?.nodeId, "node1");
  t.is(table.set("a", taskRow("a", "node2", "web", "running"))?.nodeId, "node2");
  t.deepEqual([table.count("node", "node1"), table.count("node", "node2"), table.count("service", "web")], [1, 1, 2]);
});
