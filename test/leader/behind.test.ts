// Nodes that are alive and do not put in force what they are told, and reports that cannot be kept.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { deafSink } from "./fake-node.ts";

const create: CommandInput = {
  type: "service.create",
  name: "s",
  workload: { runtime: "process", command: ["true"] },
  replicas: 3,
};
const scale = (replicas: number): CommandInput => ({ type: "service.scale", name: "s", replicas });

/** Lets time pass while node3 reports its tasks but applies nothing, and the other nodes apply everything. */
async function passBehind(cluster: Cluster, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 3000) {
    await cluster.clock.advance(3000);
    const [first, second, third] = cluster.nodes;
    for (const node of [first!, second!]) await node.obey();
    await third!.report((id) => (third!.state!.tasks.get(id)!.desired === "shutdown" ? "shutdown" : "running"));
  }
}

async function behind(cluster: Cluster, revision: number): Promise<string[]> {
  const waiting = cluster.leader.waitApplied(revision, 1);
  await cluster.clock.advance(1);
  return waiting;
}

function released(cluster: Cluster): number {
  return [...cluster.leader.state.allocations.values()].filter(({ releasedAt }) => releasedAt !== null).length;
}

test("a node that cannot apply is shown after a minute, gets no tasks, and holds addresses back for ten minutes", async (t) => {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(create);
  await cluster.settle();
  await cluster.leader.execute(scale(0));
  await passBehind(cluster, 51_000);
  t.is(cluster.node("node3").health, "well");
  t.is(released(cluster), 3);
  await passBehind(cluster, 15_000);
  t.is(cluster.node("node3").health, "behind");
  await cluster.leader.execute(scale(4));
  t.deepEqual(cluster.spread("s"), [2, 2, 0]);
  t.is(released(cluster), 3);
  await passBehind(cluster, 600_000);
  t.is(cluster.node("node3").health, "stuck");
  t.is(released(cluster), 0);
  t.deepEqual(await behind(cluster, cluster.leader.state.revision), ["node3"]);
  await cluster.settle();
  t.is(cluster.node("node3").health, "well");
  await cluster.leader.execute(scale(6));
  t.deepEqual(cluster.spread("s"), [2, 2, 2]);
});

test("a node that keeps up with a state that changes all the time is not behind, and a new session does not begin the count anew", async (t) => {
  const cluster = await Cluster.start(3);
  const [first, second, third] = cluster.nodes;
  for (let i = 0; i < 60; i++) {
    for (const node of cluster.nodes) node.apply();
    await cluster.leader.execute({ type: "network.create", name: `n${i}` });
    await cluster.clock.advance(3000);
    for (const node of cluster.nodes) await node.report();
  }
  t.true([first, second, third].every((node) => cluster.node(node!.identity.name).health === "well"));
  for (let minute = 0; minute < 12; minute++) {
    await third!.join(cluster.leader);
    third!.applied = undefined;
    await passBehind(cluster, 60_000);
  }
  t.is(cluster.node("node3").health, "stuck");
});

test("what a report says counts only once it is kept: a task that runs is not taken for one that is gone", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute({ ...create, replicas: 20 });
  await cluster.settle();
  const [node] = cluster.nodes;
  await cluster.leader.stop();
  await cluster.lead();
  await node!.join(cluster.leader);
  // The disk is nearly full: the large report is not kept, small changes are.
  const { store } = cluster;
  const commit = store.commit.bind(store);
  store.commit = async (changes, revision) => {
    if (changes.length > 10) store.full = true;
    try {
      await commit(changes, revision);
    } finally {
      store.full = false;
    }
  };
  await t.throwsAsync(
    node!.report(() => "failed"),
    { message: /full/ },
  );
  t.deepEqual(await behind(cluster, 1), ["node1"]);
  await cluster.leader.execute(scale(19));
  t.is(cluster.tasks("s").length, 20);
  t.is(released(cluster), 0);
});

test("a report that was held up on its way does not undo a later one", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute({ ...create, replicas: 1 });
  await cluster.settle();
  const [task] = cluster.tasks("s");
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  const status = {
    taskId: task!.id,
    nodeId: task!.nodeId!,
    since: 0,
    error: null,
    exitCode: null,
    message: null,
    restarts: 0,
  };
  const report = (seq: number, state: "starting" | "running") =>
    cluster.leader.sessions.report(session, {
      seq,
      statuses: [{ ...status, state }],
      full: true,
      gone: [],
      applied: 0,
    });
  await report(1, "starting");
  await report(3, "running");
  await report(2, "starting");
  t.is(cluster.leader.state.statuses.get(task!.id)!.state, "running");
});

test("statuses of tasks that are not the node's are counted, and one that is gone meanwhile is none", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ ...create, replicas: 2 });
  await cluster.settle();
  t.is(cluster.leader.sessions.refusedStatuses, 0);
  const [own, other] = cluster.tasks("s").toSorted((a) => (a.nodeId === cluster.node("node1").id ? -1 : 1));
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  const status = (taskId: string, nodeId: string) =>
    ({ taskId, nodeId, state: "failed", since: 0, error: null, exitCode: null, message: null, restarts: 0 }) as const;
  const gone = status("g".repeat(25), own!.nodeId!);
  const statuses = [status(other!.id, own!.nodeId!), status(own!.id, "f".repeat(25)), gone];
  await cluster.leader.sessions.report(session, { statuses, full: false, gone: [], applied: 0 });
  t.is(cluster.leader.sessions.refusedStatuses, 2);
  t.is(cluster.leader.state.statuses.get(other!.id)!.state, "running");
});

test("a node lives whose report is not understood", async (t) => {
  const cluster = await Cluster.start(1);
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  for (let i = 0; i < 20; i++) {
    await cluster.clock.advance(3000);
    const report = { statuses: "of a later version", full: true, gone: [], applied: 0 };
    await t.throwsAsync(cluster.leader.sessions.report(session, report as never), { message: /statuses/ });
  }
  t.is(cluster.node("node1").state, "ready");
  await t.throwsAsync(cluster.leader.execute({ type: "node.remove", name: "node1" }), { message: /is up/ });
});
