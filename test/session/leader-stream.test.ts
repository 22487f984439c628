// What a node makes of a leader's stream: what does not fit is not used, the node asks anew, and nothing is lost.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import type { Change } from "../../src/cluster/schema.ts";
import { type AppliedChange, emptyState, type LiveState, schemaDigest, stateToJson } from "../../src/cluster/state.ts";
import { silentLog } from "../../src/lib/log.ts";
import { Session } from "../../src/session/session.ts";
import { readSnapshot } from "../../src/session/snapshot-file.ts";
import { networkRow, putNetwork } from "../cluster/rows.ts";
import { CLUSTER, changes, opening, ScriptedLeader, type ScriptStep, snapshotOf } from "../fakes/scripted-leader.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { identityOf } from "../leader/fake-node.ts";
import { temporaryDirectory } from "../temporary.ts";

const remove = (i: number): Change => ({ kind: "networks", key: networkRow(i).id, row: null });

function stateOf(revision: number, ...rows: Change[]): LiveState {
  const state = emptyState();
  state.cluster = CLUSTER;
  state.apply(rows, revision);
  return state;
}

async function withSession(
  leader: ScriptedLeader,
  work: (session: Session, clock: VirtualClock, snapshotPath: string) => Promise<void>,
): Promise<void> {
  const directory = temporaryDirectory("stream");
  const snapshotPath = join(directory, "snapshot");
  const clock = new VirtualClock();
  const session = new Session({
    identity: identityOf(1),
    managers: ["192.0.2.11:2377"],
    snapshotPath,
    clock,
    log: silentLog,
    random: () => 0.5,
    transport: leader.transport,
  });
  await session.start();
  await clock.advance(0);
  await work(session, clock, snapshotPath);
  await session.stop();
  await rm(directory, { recursive: true });
}

const [HEAD, ...ROWS] = snapshotOf(stateOf(4, putNetwork(1), putNetwork(2)));
const BEGUN: ScriptStep[] = [opening(4), HEAD!, ...ROWS];
const GOOD = stateOf(9, putNetwork(1), putNetwork(3), putNetwork(4));

const bad: { what: string; steps: ScriptStep[]; reason: RegExp }[] = [
  { what: "a gap", steps: [changes(5, 6, putNetwork(3))], reason: /from revision 5 to 6 do not follow on revision 4/ },
  { what: "changes once more", steps: [changes(3, 4, putNetwork(3))], reason: /do not follow/ },
  { what: "changes that go back", steps: [changes(4, 3, putNetwork(3))], reason: /do not follow/ },
  {
    what: "a deletion of a row that is not there",
    steps: [changes(4, 5, putNetwork(3), remove(7))],
    reason: /deletes a row of networks that is not here/,
  },
  {
    what: "changes of which one is none",
    steps: [
      { type: "changes", after: 4, revision: 5, changes: [putNetwork(3), { kind: "networks", key: "x", row: {} }] },
    ],
    reason: /./,
  },
  { what: "a line without a type", steps: [{ typo: "what" }], reason: /./ },
  { what: "rows without a snapshot", steps: [ROWS[0]!], reason: /rows before its snapshot/ },
  { what: "an end without a snapshot", steps: [{ type: "snapshot-end" }], reason: /no snapshot to end/ },
  { what: "its end", steps: ["end"], reason: /the stream ended/ },
];
for (const { what, steps, reason } of bad) {
  test(`after ${what} the node asks anew, with what it had, and loses nothing`, (t) =>
    withSession(new ScriptedLeader([...BEGUN, ...steps], [opening(9), ...snapshotOf(GOOD)]), async (session, clock) => {
      t.regex(session.problem ?? "", reason);
      t.deepEqual(stateToJson(session.state!), stateToJson(stateOf(4, putNetwork(1), putNetwork(2))));
      const told: AppliedChange[] = [];
      session.onChanges((changes) => told.push(...changes));
      await clock.advance(5000);
      t.true(session.connected);
      t.deepEqual(stateToJson(session.state!), stateToJson(GOOD));
      t.deepEqual(
        told.map(({ key, row }) => [key, row !== null]),
        [
          [networkRow(2).id, false],
          [networkRow(3).id, true],
          [networkRow(4).id, true],
        ],
      );
    }));
}

const badSnapshots: { what: string; steps: ScriptStep[]; reason: RegExp }[] = [
  { what: "is cut off", steps: [HEAD!, ROWS[0]!, "end"], reason: /ended before its snapshot did/ },
  { what: "is cut off after its last row", steps: [HEAD!, ...ROWS.slice(0, -1), "end"], reason: /ended before/ },
  { what: "lacks a row", steps: [HEAD!, ROWS[0]!, { type: "snapshot-end" }], reason: /has 1 row of 2/ },
  {
    what: "has a row twice",
    steps: [HEAD!, ROWS[0]!, ROWS[0]!, ROWS[1]!],
    reason: /two rows of networks with the key/,
  },
  { what: "has changes in it", steps: [HEAD!, changes(4, 5, putNetwork(3))], reason: /changes before its state/ },
  { what: "has a row that is none", steps: [HEAD!, { type: "rows", kind: "networks", rows: [{}] }], reason: /./ },
];
for (const { what, steps, reason } of badSnapshots) {
  test(`a snapshot that ${what} is not used, and the node asks anew`, (t) => {
    const leader = new ScriptedLeader(BEGUN, [opening(8), ...steps], [opening(9), ...snapshotOf(GOOD)]);
    return withSession(leader, async (session, clock) => {
      const told: (readonly AppliedChange[])[] = [];
      session.onChanges((changes) => told.push(changes));
      leader.send("end");
      await clock.advance(400);
      t.regex(session.problem ?? "", reason);
      t.deepEqual(told, []);
      t.deepEqual(stateToJson(session.state!), stateToJson(stateOf(4, putNetwork(1), putNetwork(2))));
      await clock.advance(5000);
      t.deepEqual(stateToJson(session.state!), stateToJson(GOOD));
      t.deepEqual(
        leader.requests.map(({ known }) => known?.revision),
        [undefined, 4, 4],
      );
    });
  });
}

test("revisions that hold nothing for nodes are left out of the stream", (t) => {
  const leader = new ScriptedLeader([...BEGUN, changes(4, 7, putNetwork(3)), changes(7, 20, remove(1))]);
  return withSession(leader, async (session) => {
    t.true(session.connected);
    t.deepEqual(stateToJson(session.state!), stateToJson(stateOf(20, putNetwork(2), putNetwork(3))));
  });
});

test("a line that takes longer than the leader may be silent is waited for while its bytes come", (t) => {
  const leader = new ScriptedLeader([opening(4), HEAD!]);
  return withSession(leader, async (session, clock) => {
    for (let i = 0; i < 20; i++) {
      await clock.advance(5000);
      leader.send("heard");
    }
    t.is(leader.requests.length, 1);
    for (const row of ROWS) leader.send(row);
    await clock.advance(5000);
    t.true(session.connected);
    await clock.advance(2000);
    t.false(session.connected);
    t.regex(session.problem ?? "", /no word for 6000 ms/);
  });
});

test("a listener that throws ends the session, and the copy on disk lacks nothing all the same", (t) => {
  const leader = new ScriptedLeader([...BEGUN], [opening(4), HEAD!, ...ROWS, changes(4, 6, putNetwork(4))]);
  return withSession(leader, async (session, clock, snapshotPath) => {
    const stopListening = session.onChanges(() => {
      throw new Error("a part of the agent is broken");
    });
    leader.send(changes(4, 5, putNetwork(3)));
    await clock.advance(0);
    t.regex(session.problem ?? "", /a part of the agent is broken/);
    stopListening();
    await session.stop();
    const { state } = (await readSnapshot(snapshotPath, silentLog))!;
    t.deepEqual(stateToJson(state), stateToJson(stateOf(5, putNetwork(1), putNetwork(2), putNetwork(3))));
  });
});

for (const { whose, schema, notes } of [
  {
    whose: "of a leader whose rows have another form are made this build's",
    schema: "another",
    notes: [undefined, undefined],
  },
  {
    whose: "of a leader whose rows have this build's form are taken as they are",
    schema: schemaDigest(),
    notes: [1, 2],
  },
])
  test(`rows ${whose}`, (t) => {
    const rowOf = (i: number) => ({ ...networkRow(i), note: i });
    const putOf = (i: number) => ({ kind: "networks", key: networkRow(i).id, row: rowOf(i) }) as Change;
    const [head, ...rows] = snapshotOf(stateOf(4, putOf(1)));
    const leader = new ScriptedLeader([opening(4, 15_000, schema), head!, ...rows, changes(4, 5, putOf(2))]);
    return withSession(leader, async (session) => {
      const kept = [1, 2].map(
        (i) => session.live.networks.get(networkRow(i).id) as ReturnType<typeof rowOf> | undefined,
      );
      t.deepEqual(
        kept.map((row) => row?.note),
        notes,
      );
    });
  });
