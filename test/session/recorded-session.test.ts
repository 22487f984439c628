// Sessions that earlier versions had, as they were recorded (record-session.ts): this version reads both sides of each.
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { FEATURES, PROTOCOL } from "../../src/cluster/features.ts";
import { NodeIdentity, type ReportInput, type SessionRequest } from "../../src/cluster/protocol.ts";
import { NODE_KINDS } from "../../src/cluster/schema.ts";
import { stateFromJson, stateToJson } from "../../src/cluster/state.ts";
import { Leader } from "../../src/leader/leader.ts";
import { silentLog } from "../../src/lib/log.ts";
import { Session } from "../../src/session/session.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { ScriptedLeader } from "../fakes/scripted-leader.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { LEADER_CONFIG } from "../leader/cluster-fixture.ts";
import { deafSink } from "../leader/fake-node.ts";
import { countingIds } from "../leader/ids.ts";
import { temporaryDirectory } from "../temporary.ts";

interface Recorded {
  protocol: number;
  nodeId: string;
  request: SessionRequest;
  /** What the leader sent. */
  lines: object[];
  reports: ReportInput[];
  /** The state that the node had of it, and the leader's own. */
  seen: unknown;
  state: unknown;
}

const DIRECTORY = "test/golden";
const names = (await readdir(DIRECTORY)).filter((name) => /^session-protocol-\d+(-\w+)?\.json$/.test(name));

async function read(name: string): Promise<Recorded> {
  return JSON.parse(await readFile(join(DIRECTORY, name), "utf8")) as Recorded;
}

test("each protocol that this version speaks has a recorded session, and each feature", async (t) => {
  t.true(names.includes(`session-protocol-${PROTOCOL}.json`));
  for (const feature of FEATURES) {
    const { request } = await read(`session-protocol-${PROTOCOL}-${feature}.json`);
    t.true(request.features!.includes(feature));
  }
});

for (const name of names) {
  test(`a node of this version follows the stream of ${name}`, async (t) => {
    const { request, lines, seen, nodeId } = await read(name);
    const directory = temporaryDirectory("recorded");
    t.teardown(() => rm(directory, { recursive: true }));
    const clock = new VirtualClock();
    const session = new Session({
      ...{
        identity: NodeIdentity.parse(request),
        managers: ["192.0.2.11:2377"],
        snapshotPath: join(directory, "snapshot"),
      },
      ...{ clock, log: silentLog, transport: new ScriptedLeader(lines).transport },
    });
    await session.start();
    await clock.advance(0);
    t.is(session.problem, undefined);
    t.is(session.nodeId, nodeId);
    const expected = stateFromJson(seen);
    const state = stateFromJson(stateToJson(session.state!));
    t.is(state.revision, expected.revision);
    t.true(expected.tasks.size > 0 && expected.services.size > 0 && expected.endpoints.size > 0);
    for (const kind of NODE_KINDS) {
      t.deepEqual(Object.fromEntries(state[kind]), Object.fromEntries(expected[kind]), kind);
    }
    await session.stop();
  });

  test(`a leader of this version takes the request and reports of ${name}`, async (t) => {
    const { request, reports, state, nodeId } = await read(name);
    const store = new MemoryStore();
    const expected = stateFromJson(state);
    await store.fill(stateFromJson(state));
    const leader = new Leader({
      store,
      clock: new VirtualClock(),
      log: silentLog,
      newId: countingIds(),
      config: LEADER_CONFIG,
    });
    await leader.start();
    const id = await leader.sessions.open({ id: nodeId }, { ...request, known: null }, deafSink);
    for (const report of reports) await leader.sessions.report(id, report);
    t.is(leader.state.nodes.get(nodeId)!.state, "ready");
    const statuses = (of: typeof leader.state) =>
      Object.fromEntries(of.statuses.by("node", nodeId).map((row) => [row.taskId, row]));
    t.true(expected.statuses.count("node", nodeId) > 0);
    t.deepEqual(statuses(leader.state), statuses(expected));
    await leader.stop();
  });
}
