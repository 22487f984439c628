// The flow table against a Map, with keys that all fall into the same few slots; and adopted after a cut anywhere.
import test from "ava";
import fc from "fast-check";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { swapPorts } from "../../src/packet/packet.ts";
import { type FlowKeys, findOriginal, findReply, flowKeys, insert, isWhole, liveEntries } from "../fakes/flows.ts";

const CAPACITY = 8;
const SLOTS = 32;
const KEYS = 14;
const SEED = 42;
/** Word 9 of the header. */
const LOCK_WORD = 9;

/** Flows both of whose keys begin their search in the last two or first two slots: every gap is one to close. */
const CROWDED = crowded();

function crowded(): FlowKeys[] {
  const table = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(CAPACITY)), CAPACITY, SEED);
  const isAtTheEnd = (hash: number): boolean => ((hash + 2) & (SLOTS - 1)) < 4;
  const found: FlowKeys[] = [];
  for (let number = 1; found.length < KEYS; number++) {
    const keys = flowKeys(number);
    const { zone, protocol, source, destination, ports, replyZone, task } = keys;
    const original = table.hash(zone, protocol, source, destination, ports);
    const reply = table.hash(replyZone, protocol, task, source, swapPorts(ports));
    if (isAtTheEnd(original) && isAtTheEnd(reply)) found.push(keys);
  }
  return found;
}

/** What the table should hold: live flows by key, and those without a reply from oldest to newest. */
interface Model {
  readonly entries: Map<FlowKeys, number>;
  readonly unreplied: FlowKeys[];
}

interface Real {
  buffer: ArrayBuffer;
  table: FlowTable;
}

function forget(model: Model, keys: FlowKeys): void {
  model.entries.delete(keys);
  const at = model.unreplied.indexOf(keys);
  if (at >= 0) model.unreplied.splice(at, 1);
}

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function compare({ entries, unreplied }: Model, table: FlowTable): void {
  check(table.size === entries.size, `${table.size} flows, not ${entries.size}`);
  check(liveEntries(table).length === entries.size, "live flows are those that are counted");
  for (const keys of CROWDED) {
    const entry = entries.get(keys);
    check(findOriginal(table, keys) === (entry ?? -1), `flow ${keys.number} by its original key`);
    check(findReply(table, keys) === (entry === undefined ? -1 : entry + 1), `flow ${keys.number} by its reply's`);
    check(entry === undefined || isWhole(table, entry, keys), `flow ${keys.number} is whole`);
  }
  const oldest = unreplied[0] === undefined ? -1 : entries.get(unreplied[0])!;
  check(table.firstToGo(0) === oldest, "the oldest unreplied flow");
}

type Step = fc.Command<Model, Real>;

const step = (name: string, take: (model: Model, real: Real) => void): Step => ({
  check: () => true,
  run(model, real) {
    take(model, real);
    compare(model, real.table);
  },
  toString: () => name,
});

const addStep = (keys: FlowKeys, state: FlowState): Step =>
  step(`add ${keys.number} in state ${state}`, (model, { table }) => {
    if (model.entries.has(keys)) return;
    const entry = insert(table, keys, state);
    check(entry >= 0 === model.entries.size < CAPACITY, "a table refuses a flow when it is full, and only then");
    if (entry < 0) return;
    model.entries.set(keys, entry);
    if (state === FlowState.Unreplied || state === FlowState.SynSent) model.unreplied.push(keys);
  });

const removeStep = (keys: FlowKeys, byReply: boolean): Step =>
  step(`remove ${keys.number}`, (model, { table }) => {
    const entry = byReply ? findReply(table, keys) : findOriginal(table, keys);
    if (entry < 0) return;
    const { foundVersion } = table;
    table.remove(entry, foundVersion + 1);
    check(findOriginal(table, keys) >= 0, "a removal with another version removes nothing");
    table.remove(entry, foundVersion);
    forget(model, keys);
  });

const replyStep = (keys: FlowKeys): Step =>
  step(`reply to ${keys.number}`, (model, { table }) => {
    const entry = findReply(table, keys);
    if (entry < 0) return;
    table.changeState(entry, table.foundVersion, FlowState.Replied, 120);
    const at = model.unreplied.indexOf(keys);
    if (at >= 0) model.unreplied.splice(at, 1);
  });

const evictStep = step("evict", (model, { table }) => {
  const entry = table.firstToGo(0);
  if (entry < 0) return;
  table.removeLocked(entry);
  forget(model, model.unreplied[0]!);
});

/** The process ends, holding the lock, and another takes up what it left. */
const adoptStep = step("adopt", (model, real) => {
  new Int32Array(real.buffer)[LOCK_WORD] = 1;
  real.table = FlowTable.open(real.buffer, CAPACITY, 0);
  // The list is made anew in the order of the entries.
  model.unreplied.sort((a, b) => model.entries.get(a)! - model.entries.get(b)!);
});

const key = fc.constantFrom(...CROWDED);
const state = fc.constantFrom(FlowState.Unreplied, FlowState.SynSent, FlowState.Established);
const steps = fc.commands(
  [
    fc.tuple(key, state).map(([keys, first]) => addStep(keys, first)),
    fc.tuple(key, state).map(([keys, first]) => addStep(keys, first)),
    fc.tuple(key, fc.boolean()).map(([keys, byReply]) => removeStep(keys, byReply)),
    key.map(replyStep),
    fc.constant(evictStep),
    fc.constant(adoptStep),
  ],
  { maxCommands: 60, size: "+1" },
);

function fresh(): { model: Model; real: Real } {
  const buffer = new ArrayBuffer(FlowTable.bytesFor(CAPACITY));
  const table = FlowTable.open(buffer, CAPACITY, SEED);
  return { model: { entries: new Map(), unreplied: [] }, real: { buffer, table } };
}

test("whatever is done to it, the table holds what a Map would", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(steps, (run) => fc.modelRun(fresh, run)),
      { numRuns: 300 },
    ),
  );
});

/** What may be going on when the process ends. */
const lastSteps = fc.oneof(
  fc.tuple(key, state).map(([keys, first]) => ({
    keys,
    adds: true,
    run: (table: FlowTable) => void insert(table, keys, first),
  })),
  key.map((keys) => ({
    keys,
    adds: false,
    run: (table: FlowTable) => table.remove(findOriginal(table, keys), table.foundVersion),
  })),
);

test("a table that was cut off in the middle of a change is adopted whole, without that flow or with it", (t) => {
  const cut = fc.array(fc.boolean(), { minLength: 512, maxLength: 512, size: "max" });
  const property = fc.property(
    fc.subarray(CROWDED, { maxLength: CAPACITY }),
    lastSteps,
    cut,
    (before, last, reached) => {
      const buffer = new ArrayBuffer(FlowTable.bytesFor(CAPACITY));
      const table = FlowTable.open(buffer, CAPACITY, SEED);
      for (const keys of before) insert(table, keys);
      fc.pre(before.includes(last.keys) !== last.adds);
      const words = new Int32Array(buffer);
      const image = words.slice();
      last.run(table);
      // Any of the words that the change wrote may have been written: more cuts than there can be.
      for (let i = 0, changed = 0; i < words.length; i++) {
        if (words[i] !== image[i] && !reached[changed++ % reached.length]) words[i] = image[i]!;
      }
      words[LOCK_WORD] = 1;
      words.fill(-1, 32, 32 + SLOTS); // the index may be anything

      const adopted = FlowTable.open(buffer, CAPACITY, 0);
      const live = new Set<FlowKeys>();
      for (const keys of CROWDED) {
        const entry = findOriginal(adopted, keys);
        check(findReply(adopted, keys) === (entry < 0 ? -1 : entry + 1), `flow ${keys.number} is there with both keys`);
        if (keys !== last.keys) check(entry >= 0 === before.includes(keys), `flow ${keys.number} is as it was`);
        if (entry >= 0) live.add(keys);
      }
      check(adopted.size === live.size, "as many are counted as there are");
      // And it works on: it can be filled, and emptied.
      for (const keys of CROWDED) {
        if (live.has(keys)) continue;
        const entry = insert(adopted, keys);
        check(entry >= 0 === live.size < CAPACITY, "every place can be taken again");
        if (entry >= 0) live.add(keys);
      }
      for (const keys of live) adopted.remove(findOriginal(adopted, keys), adopted.foundVersion);
      check(adopted.size === 0 && adopted.firstToGo(0) === -1, "it is empty in the end");
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 500 }));
});

test("memory of any content is taken up as a table that works", (t) => {
  const words = FlowTable.bytesFor(CAPACITY) / 4;
  const property = fc.property(fc.int32Array({ minLength: words, maxLength: words, size: "max" }), (content) => {
    const buffer = new ArrayBuffer(4 * words);
    FlowTable.open(buffer, CAPACITY, SEED); // a header that is right, before noise
    new Int32Array(buffer).set(content.subarray(4), 4);
    const table = FlowTable.open(buffer, CAPACITY, SEED);
    for (const entry of liveEntries(table)) table.removeLocked(entry);
    check(table.size === 0, "it is empty");
    for (let number = 0; number < CAPACITY; number++) check(insert(table, flowKeys(number)) >= 0, "it can be filled");
    check(insert(table, flowKeys(CAPACITY)) === -1, "and is full then");
  });
  t.notThrows(() => fc.assert(property, { numRuns: 100 }));
});
