// The judge of histories: each kind of bad history is caught by name, and good ones pass.
import test from "ava";
import { type Final, History, judge, type Operation } from "./history.ts";

let clock = 0;
const base = { client: "c", manager: "m1", value: undefined, outcome: "ok", term: "t1" } as const;

/** One after the other, unless `invoked` and `returned` are given. */
function operation(rest: Partial<Operation>): Operation {
  clock += 10;
  return { ...base, seen: new Set(), revision: 0, invoked: clock, returned: clock + 5, ...rest };
}

const write = (value: string, revision: number, rest: Partial<Operation> = {}) =>
  operation({ value, revision, ...rest });
const read = (seen: string[], revision: number, rest: Partial<Operation> = {}) =>
  operation({ seen: new Set(seen), revision, ...rest });
const final = (values: string[], revision: number): Final => ({ values: new Set(values), revision });

const GOOD: [title: string, operations: Operation[], final: Final][] = [
  ["nothing happened", [], final([], 0)],
  [
    "writes and reads by one leader",
    [write("a", 1), read(["a"], 1), write("b", 2), read(["a", "b"], 2)],
    final(["a", "b"], 2),
  ],
  ["two writes in one revision of one leader", [write("a", 3), write("b", 3)], final(["a", "b"], 3)],
  ["a write that is not known to be done is there", [write("a", 0, { outcome: "unknown" })], final(["a"], 1)],
  ["a write that is not known to be done is not there", [write("a", 0, { outcome: "unknown" })], final([], 1)],
  ["a write that was refused is not there", [write("a", 0, { outcome: "fail" })], final([], 0)],
  ["one leader follows the other", [write("a", 1), write("b", 2, { term: "t2" })], final(["a", "b"], 2)],
  [
    "a read that began before the write was acknowledged lacks it",
    [write("a", 1, { invoked: 0, returned: 30 }), read([], 0, { invoked: 20, returned: 40 })],
    final(["a"], 1),
  ],
  [
    "a read sees a write that is not acknowledged yet, and keeps seeing it",
    [
      write("a", 0, { outcome: "unknown", invoked: 0, returned: Number.POSITIVE_INFINITY }),
      read(["a"], 1, { invoked: 5, returned: 6 }),
      read(["a"], 1, { invoked: 7, returned: 8 }),
    ],
    final(["a"], 1),
  ],
  [
    "two reads at once through one manager may end in any order",
    [
      write("a", 1, { invoked: 1, returned: 100 }),
      read(["a"], 1, { invoked: 2, returned: 3 }),
      read([], 0, { invoked: 1, returned: 9 }),
    ],
    final(["a"], 1),
  ],
];
for (const [title, operations, end] of GOOD) {
  test(`good: ${title}`, (t) => t.deepEqual(judge(operations, end), []));
}

const BAD: [title: string, operations: Operation[], final: Final, words: RegExp][] = [
  [
    "an acknowledged write is lost",
    [write("a", 1), write("b", 2)],
    final(["b"], 2),
    /^lost: a was acknowledged at revision 1/,
  ],
  [
    "the state ends before an acknowledged write",
    [write("a", 5)],
    final(["a"], 4),
    /at revision 5, and the state ends at 4/,
  ],
  ["a refused write is there", [write("a", 0, { outcome: "fail" })], final(["a"], 1), /^refused and done: a/],
  ["a value is there that no client wrote", [], final(["a"], 1), /^made up: no client wrote a/],
  [
    "two leaders acknowledge the same revision",
    [write("a", 1), write("b", 1, { term: "t2" })],
    final(["a", "b"], 1),
    /^two leaders: revision 1 is of t1 and of t2/,
  ],
  [
    "a leader writes after another has written",
    [write("a", 1), write("b", 2, { term: "t2" }), write("c", 3)],
    final(["a", "b", "c"], 3),
    /^interleaved: t1 wrote revision 3 after t2/,
  ],
  [
    "a read lacks what the same manager acknowledged before",
    [write("a", 1), read([], 0)],
    final(["a"], 1),
    /^stale: a read of m1 at revision 0 lacks a, acknowledged by the same manager/,
  ],
  [
    "a leader that was frozen answers a read after another has acknowledged a write",
    [write("a", 1, { manager: "m2", term: "t2" }), read([], 0)],
    final(["a"], 1),
    /^stale: a read of m1 at revision 0 lacks a, acknowledged by m2/,
  ],
  [
    "a manager's reads go back in time",
    [write("a", 0, { outcome: "unknown", returned: Number.POSITIVE_INFINITY }), read(["a"], 2), read(["a"], 1)],
    final(["a"], 2),
    /^back in time: a read of m1 at revision 1 after one at 2/,
  ],
  [
    "what was read before it was kept is gone",
    [write("a", 0, { outcome: "unknown", returned: Number.POSITIVE_INFINITY }), read(["a"], 1)],
    final([], 1),
    /^vanished: a was read, and is gone/,
  ],
];
for (const [title, operations, end, words] of BAD) {
  test(`bad: ${title}`, (t) => {
    const found = judge(operations, end);
    t.is(found.length, 1, found.join("; "));
    t.regex(found[0]!, words);
  });
}

test("a manager's own copy may lack what another manager acknowledged, and not what it acknowledged itself", (t) => {
  const other = [write("a", 1, { manager: "m2" }), read([], 0)];
  t.deepEqual(judge(other, final(["a"], 1), "copies"), []);
  const own = [write("a", 1), read([], 0)];
  t.regex(judge(own, final(["a"], 1), "copies").join(), /^stale: .* acknowledged by the same manager/);
});

test("an operation is unknown until its end is recorded, with the times of both", (t) => {
  let now = 1;
  const history = new History(() => now);
  const end = history.invoke({ client: "c", manager: "m", value: "a" });
  const [begun] = history.operations;
  t.deepEqual([begun!.outcome, begun!.invoked, begun!.returned], ["unknown", 1, Number.POSITIVE_INFINITY]);
  now = 7;
  end("ok", { revision: 3, term: "t" });
  t.deepEqual([begun!.outcome, begun!.returned, begun!.revision, begun!.term], ["ok", 7, 3, "t"]);
});
