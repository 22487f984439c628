// A leader of a later version: what this version does not know of its stream is passed over, and the session goes on.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { FEATURES, PROTOCOL } from "../../src/cluster/features.ts";
import { createLog } from "../../src/lib/log.ts";
import { Session } from "../../src/session/session.ts";
import { nodeRow } from "../api/fake-backend.ts";
import { networkRow, putNetwork, SERVICE } from "../cluster/rows.ts";
import { CLUSTER, changes, opening, SCRIPTED_NODE, ScriptedLeader, type ScriptStep } from "../fakes/scripted-leader.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { identityOf } from "../leader/fake-node.ts";
import { temporaryDirectory } from "../temporary.ts";

const workload = { ...SERVICE.workload, later: 1, naming: { hosts: [], later: [] } };
const SCRIPT: ScriptStep[] = [
  { ...opening(4), later: true },
  { type: "later", of: "before the snapshot" },
  { type: "snapshot", revision: 4, cluster: { ...CLUSTER, later: 1 }, rows: 6, later: 1 },
  { type: "rows", kind: "nodes", rows: [{ ...nodeRow("node1", { id: SCRIPTED_NODE }), later: 1 }] },
  { type: "rows", kind: "networks", rows: [{ ...networkRow(1), later: { a: 1 } }] },
  { type: "rows", kind: "laters", rows: [{ id: "x" }, { id: "y" }] },
  { type: "later" },
  { type: "rows", kind: "services", rows: [{ ...SERVICE, workload, balancing: { ...SERVICE.balancing, later: 1 } }] },
  { type: "rows", kind: "tokens", rows: [{ anything: 1 }] },
  { type: "snapshot-end" },
  { ...changes(4, 5, putNetwork(2)), changes: [putNetwork(2), { kind: "laters", key: "x", row: null }] },
  { type: "later-still" },
  changes(5, 6, putNetwork(3)),
];

test("unknown lines, kinds and fields are passed over, with one line in the log, and all else is taken", async (t) => {
  const directory = temporaryDirectory("later");
  t.teardown(() => rm(directory, { recursive: true }));
  const leader = new ScriptedLeader(SCRIPT);
  const logged: string[] = [];
  const clock = new VirtualClock();
  const begin = async (managers: string[]) => {
    const session = new Session({
      ...{ identity: identityOf(1), managers, snapshotPath: join(directory, "snapshot"), clock },
      ...{ log: createLog("debug", { write: (line: string) => logged.push(line) }), transport: leader.transport },
    });
    await session.start();
    await clock.advance(0);
    return session;
  };
  const session = await begin(["192.0.2.11:2377"]);
  t.is(session.problem, undefined);
  t.true(session.connected);
  t.is(session.state!.revision, 6);
  t.deepEqual([...session.state!.networks.values()], [networkRow(1), networkRow(2), networkRow(3)]);
  t.deepEqual(
    [...session.state!.services.values()].map(({ id }) => id),
    [SERVICE.id],
  );
  t.false(JSON.stringify([...session.state!.services.values()]).includes("later"));
  t.is(logged.filter((line) => line.includes("passes over lines 'later'")).length, 1);
  await session.stop();
  t.like(leader.requests[0], { protocol: PROTOCOL, features: [...FEATURES] });
  const again = await begin([]);
  t.is(again.state!.revision, 6, "the copy on disk is whole");
  await again.stop();
});
