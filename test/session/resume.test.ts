// A node that comes to a leader with what it has is sent what is not the same, and nothing else.
import test, { type ExecutionContext } from "ava";
import type { StreamMessage } from "../../src/cluster/protocol.ts";
import { RowBuckets } from "../../src/cluster/row-buckets.ts";
import { type Change, NODE_KINDS, type Service } from "../../src/cluster/schema.ts";
import { emptyState, type LiveState, uncheckedRow } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { Workload } from "../../src/cluster/workload.ts";
import { SharedSnapshots } from "../../src/leader/snapshot-lines.ts";
import { IncomingSnapshot } from "../../src/session/snapshot-stream.ts";
import { put, serviceRow } from "../api/fake-backend.ts";
import { networkRow, putNetwork } from "../cluster/rows.ts";
import { createSearch, World } from "../sim/world.ts";

const COUNT = 5000;
const NO_SECRETS = new Map<string, Service>();

function stateOf(count: number): LiveState {
  const state = emptyState();
  const rows = Array.from({ length: count }, (_, i) => putNetwork(i));
  state.apply(rows, 7);
  return state;
}

/** What a node that has `before` makes of a leader's state, and how many rows it was sent. */
function come(
  snapshots: SharedSnapshots,
  state: State,
  { before, held = NO_SECRETS }: { before: State; held?: ReadonlyMap<string, Service> },
): { after: LiveState; sent: number } {
  const has = RowBuckets.of(before).digests();
  const pieces = snapshots.linesFor(state, state.revision, { held, has, onTaken: () => {} });
  const messages = [...pieces].flatMap((piece) =>
    piece
      .toString()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as StreamMessage),
  );
  const [head] = messages;
  if (head?.type !== "snapshot") throw new Error("no snapshot begins");
  const incoming = new IncomingSnapshot(head, before, uncheckedRow);
  let sent = 0;
  for (const message of messages) {
    if (message.type === "rows") {
      sent += message.rows.length;
      incoming.add(message.kind, message.rows);
    } else if (message.type === "same") incoming.keep(message.buckets);
  }
  return { after: incoming.finish(), sent };
}

function isSame(t: ExecutionContext, a: State, b: State): void {
  t.is(a.revision, b.revision);
  for (const kind of NODE_KINDS) t.deepEqual(Object.fromEntries(a[kind]), Object.fromEntries(b[kind]), kind);
}

test("a node that has all is sent no row, at whatever revision it is", (t) => {
  const [state, before] = [stateOf(COUNT), stateOf(COUNT)];
  state.apply([], 9);
  const { after, sent } = come(new SharedSnapshots(), state, { before });
  t.is(sent, 0);
  isSame(t, after, state);
  t.is(after.networks.get(networkRow(1).id), before.networks.get(networkRow(1).id), "rows stay the same objects");
});

test("a node that is behind, or whose rows are damaged, is sent the buckets of what is not the same", (t) => {
  const snapshots = new SharedSnapshots();
  const [state, before] = [stateOf(COUNT), stateOf(COUNT)];
  come(snapshots, state, { before }); // digests are there, and follow the changes
  const row = (i: number, internal: boolean | null): Change => ({
    ...{ kind: "networks", key: networkRow(i).id },
    row: internal === null ? null : { ...networkRow(i), internal },
  });
  snapshots.changed(state.apply([row(3, true), row(4, null), putNetwork(COUNT)], 8));
  const behind = come(snapshots, state, { before });
  isSame(t, behind.after, state);
  t.true(behind.sent > 0 && behind.sent < COUNT / 20, `${behind.sent} rows`);

  const damaged = stateOf(COUNT);
  damaged.apply([row(3, true), row(4, null), putNetwork(COUNT), row(9, null), row(10, true), putNetwork(COUNT + 1)], 8);
  const mended = come(snapshots, state, { before: damaged });
  isSame(t, mended.after, state);
  t.true(mended.sent > 0 && mended.sent < COUNT / 20, `${mended.sent} rows`);
});

test("a node with nothing, or of another cluster's rows, is sent all", (t) => {
  const state = stateOf(COUNT);
  const { after, sent } = come(new SharedSnapshots(), state, { before: emptyState() });
  t.is(sent, COUNT);
  isSame(t, after, state);
});

test("a secret comes with each session of a node that may have it, and goes from one that may not", (t) => {
  const workload = Workload.parse({ runtime: "docker", image: "app:1", registryAuth: "secret" });
  const service = { ...serviceRow("app"), workload } as Service;
  const [state, withheld] = [emptyState(), emptyState()];
  state.apply([put.service(service)], 7);
  const snapshots = new SharedSnapshots();
  const bare = { ...service, workload: { ...workload, registryAuth: null, isAuthWithheld: true } } as Service;
  withheld.apply([put.service(bare)], 7);
  const authOf = ({ services }: State) =>
    (services.get(service.id)!.workload as { registryAuth: string | null }).registryAuth;

  const held = new Map([[service.id, service]]);
  const given = come(snapshots, state, { before: withheld, held });
  t.deepEqual([authOf(given.after), given.sent], ["secret", 1]);
  const taken = come(snapshots, state, { before: given.after });
  t.deepEqual([authOf(taken.after), taken.sent], [null, 0]);
});

test("nodes that come to a new leader get no rows that they have, and are where it is", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const told: object[] = [];
  for (const { session } of world.nodes) session.onChanges((changes) => told.push(...changes));
  await world.stopLeader();
  await world.until("it is noticed", () => world.nodes.every(({ session }) => !session.connected));
  world.wire.rows = 0;
  await world.lead();
  await world.until("all are connected", () => world.nodes.every(({ session }) => session.connected));
  t.deepEqual([world.wire.rows, told], [0, []]);
  const { session, calls } = world.nodes[0]!;
  t.is(session.live.revision, world.leader!.state.revision);
  await world.during(calls.waitApplied(session.live.revision, 10_000));
  await world.end();
});
