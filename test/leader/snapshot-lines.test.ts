// Snapshots that several nodes load: encoded once, and again only where a row has changed.
import test from "ava";
import { MAX_ROWS, type StreamMessage } from "../../src/cluster/protocol.ts";
import type { Change, Service } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { Workload } from "../../src/cluster/workload.ts";
import { SharedSnapshots } from "../../src/leader/snapshot-lines.ts";
import { put, serviceRow } from "../api/fake-backend.ts";
import { networkRow, putNetwork } from "../cluster/rows.ts";

/** Enough for several pieces. */
const COUNT = 5000;
const READER = { held: new Map<string, Service>(), onTaken: () => {} };

function stateOf(count: number) {
  const state = emptyState();
  state.apply(
    Array.from({ length: count }, (_, i): Change => putNetwork(i)),
    7,
  );
  return state;
}

const messagesOf = (piece: Buffer): StreamMessage[] =>
  piece
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as StreamMessage);
const messageOf = (piece: Buffer): StreamMessage => messagesOf(piece)[0]!;
const isRows = (piece: Buffer) => messageOf(piece).type === "rows";

test("two nodes get the same bytes, and after a change all but those of the changed rows", (t) => {
  const snapshots = new SharedSnapshots();
  const state = stateOf(COUNT);
  const [a, b] = [snapshots.linesFor(state, 7, READER), snapshots.linesFor(state, 7, READER)];
  const first = [a.next().value as Buffer, a.next().value as Buffer];
  const second = [...b];
  t.deepEqual(messageOf(second[0]!), { type: "snapshot", revision: 7, cluster: null, rows: COUNT });
  t.deepEqual(messageOf(second.at(-1)!), { type: "snapshot-end" });
  t.is(second[1], first[1]);
  const rest = [...a];
  t.deepEqual(rest.slice(0, -1), second.slice(2, -1));
  t.true(rest.slice(0, -1).every((line, i) => line === second[i + 2]));

  const c = snapshots.linesFor(state, 7, READER);
  const before = [c.next().value as Buffer, c.next().value as Buffer, c.next().value as Buffer];
  state.apply(
    [{ kind: "networks", key: networkRow(COUNT - 1).id, row: { ...networkRow(COUNT - 1), internal: true } }],
    8,
  );
  const after = [...snapshots.linesFor(state, 8, READER)].filter(isRows);
  const old = [...before, ...c].filter(isRows);
  t.is(after.length, old.length);
  t.deepEqual(
    after.map((line, i) => line === old[i]),
    after.map((_, i) => i < after.length - 1),
  );
  t.false(JSON.stringify(messagesOf(old.at(-1)!)).includes('"internal":true'), "a snapshot is of one revision");
});

test("nodes that load at the same time have the state looked at once, and after a change only the kind that has changed", (t) => {
  const snapshots = new SharedSnapshots();
  const state = stateOf(COUNT);
  const looked: string[] = [];
  for (const kind of ["networks", "tasks"] as const) {
    const values = state[kind].values.bind(state[kind]);
    Object.defineProperty(state[kind], "values", {
      value: () => {
        looked.push(kind);
        return values();
      },
    });
  }
  const readers = [1, 2, 3].map(() => snapshots.linesFor(state, 7, READER));
  for (const reader of readers) reader.next();
  t.deepEqual(looked, ["networks", "tasks"]);
  state.apply([putNetwork(COUNT)], 8);
  const later = [...snapshots.linesFor(state, 8, READER)];
  t.deepEqual(looked, ["networks", "tasks", "networks"]);
  t.like(messageOf(later[0]!), { rows: COUNT + 1 });
});

test("a snapshot has each row once, whatever changes while it is read", (t) => {
  const snapshots = new SharedSnapshots();
  const state = stateOf(COUNT);
  const lines = snapshots.linesFor(state, 7, READER);
  const seen: string[] = [];
  let i = 0;
  for (const line of lines) {
    state.apply([{ kind: "networks", key: networkRow(i).id, row: null }, putNetwork(COUNT + i++)], 8 + i);
    for (const message of messagesOf(line))
      if (message.type === "rows") seen.push(...message.rows.map((row) => (row as { id: string }).id));
  }
  t.deepEqual(
    seen,
    Array.from({ length: COUNT }, (_, i) => networkRow(i).id),
  );
});

test("a node that may read a secret gets it, in lines of its own, and others the common ones without it", (t) => {
  const snapshots = new SharedSnapshots();
  const state = emptyState();
  const workload = Workload.parse({ runtime: "docker", image: "app:1", registryAuth: "secret" });
  const services = Array.from({ length: 200 }, (_, i) => ({ ...serviceRow(`s${i}`), workload }));
  state.apply(services.map(put.service), 7);
  const held = services[150]!;
  const common = [...snapshots.linesFor(state, 7, READER)].filter(isRows);
  const others = snapshots.linesFor(state, 7, READER);
  const kept = others.next().value as Buffer;
  t.is(messageOf(kept).type, "snapshot");
  const shared = [...others].filter(isRows);
  const own = [...snapshots.linesFor(state, 7, { ...READER, held: new Map([[held.id, held]]) })].filter(isRows);
  t.false(common.concat(shared).some((line) => line.includes("secret")));
  const rowsOf = (lines: Buffer[]) =>
    lines.flatMap(messagesOf).flatMap((message) => (message.type === "rows" ? (message.rows as Service[]) : []));
  t.deepEqual(
    rowsOf(own).map(({ id }) => id),
    rowsOf(common).map(({ id }) => id),
  );
  t.deepEqual(
    rowsOf(own).filter((row) => JSON.stringify(row).includes("secret")),
    [held],
  );
});

test("large rows are lines of their own, of which each is short enough to be held whole", (t) => {
  const state = emptyState();
  const large = (i: number) => serviceRow(`large${i}`, { labels: { note: "x".repeat(700_000) } });
  state.apply(
    [1, 2, 3, 4].map((i) => put.service(large(i))),
    7,
  );
  const text = [...new SharedSnapshots().linesFor(state, 7, READER)].map(String).join("");
  const lines = text.split("\n").filter((line) => line !== "");
  t.true(lines.every(({ length }) => length < 1_100_000));
  const rows = lines.map((line) => JSON.parse(line) as StreamMessage).filter((message) => message.type === "rows");
  t.deepEqual(
    rows.map((message) => message.rows.length),
    [1, 1, 1, 1],
  );
});

test("many short rows come in few pieces of whole lines, none of which has more rows than a node takes", (t) => {
  const state = emptyState();
  const statuses = Array.from({ length: 5000 }, (_, i) => {
    const rest = { error: null, exitCode: null, message: null, restarts: 0 };
    const row = {
      taskId: `t${i}`.padStart(25, "0"),
      nodeId: "n".repeat(25),
      state: "running" as const,
      since: i,
      ...rest,
    };
    return { kind: "statuses" as const, key: row.taskId, row };
  });
  state.apply(statuses, 7);
  const pieces = [...new SharedSnapshots().linesFor(state, 7, READER)];
  t.true(pieces.length < 20, `${pieces.length} pieces`);
  t.true(pieces.every((piece) => piece.length < 200_000 && piece.at(-1) === 0x0a));
  const lines = Buffer.concat(pieces).toString().trimEnd().split("\n");
  const rows = lines.map((line) => JSON.parse(line) as StreamMessage).filter((message) => message.type === "rows");
  t.true(rows.every((message) => message.rows.length <= MAX_ROWS));
  t.deepEqual(
    rows.flatMap((message) => message.rows),
    statuses.map(({ row }) => row),
  );
});
