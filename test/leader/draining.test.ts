// Tasks that go while they serve: first no node sends new connections to them, then they are stopped.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import type { Task } from "../../src/cluster/schema.ts";
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

async function withService(): Promise<Cluster> {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(create);
  await cluster.settle();
  return cluster;
}

function desired(cluster: Cluster): Task["desired"][] {
  return cluster
    .tasks("s")
    .map((task) => task.desired)
    .toSorted();
}

test("a task that is scaled away drains until every live node has that in force", async (t) => {
  const cluster = await withService();
  await cluster.leader.execute(scale(2));
  t.deepEqual(desired(cluster), ["draining", "running", "running"]);
  const [first, second, third] = cluster.nodes;
  for (const node of [first!, second!]) await node.obey();
  t.deepEqual(desired(cluster), ["draining", "running", "running"]);
  await third!.obey();
  t.deepEqual(desired(cluster), ["running", "running", "shutdown"]);
  await cluster.settle();
  t.deepEqual(desired(cluster), ["running", "running"]);
});

test("a node that is behind for long is not waited for", async (t) => {
  const cluster = await withService();
  await cluster.leader.execute(scale(2));
  const [first, second] = cluster.nodes;
  const keepUp = async (ms: number) => {
    await cluster.clock.advance(ms);
    for (const node of [first!, second!]) await node.obey();
    await cluster.nodes[2]!.report(() => "running"); // alive, and behind
  };
  for (let passed = 0; passed < 25_000; passed += 1000) await keepUp(1000);
  t.true(desired(cluster).includes("draining"));
  for (let passed = 0; passed < 10_000; passed += 1000) await keepUp(1000);
  t.false(desired(cluster).includes("draining"));
});

test("a task that did not run is stopped at once", async (t) => {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(create);
  await cluster.leader.execute(scale(2));
  t.deepEqual(desired(cluster), ["running", "running"]);
});

test("a drained node's task serves until the one that takes its place runs", async (t) => {
  const cluster = await withService();
  const [, , third] = cluster.nodes;
  await cluster.leader.execute({ type: "node.availability", name: "node3", availability: "drain" });
  for (const node of cluster.nodes) node.apply();
  await third!.report(() => "running");
  for (const node of cluster.nodes.slice(0, 2))
    await node.report((id) => (isNew(cluster, id) ? "starting" : "running"));
  t.deepEqual(desired(cluster), ["draining", "running", "running", "running"]);
  await cluster.settle();
  t.deepEqual(cluster.spread("s").toSorted(), [0, 1, 2]);
  t.deepEqual(desired(cluster), ["running", "running", "running"]);
});

for (const [title, constraints, staysMs, leftMs] of [
  ["while the one that takes its place is on its way: ten minutes at most", [], 590_000, 20_000],
  ["without a place for another: half a minute at most", ["node.name==node2"], 25_000, 10_000],
] as const) {
  test(`a drained node's task serves on ${title}`, async (t) => {
    const cluster = await Cluster.start(2);
    await cluster.leader.execute({ ...create, replicas: 1, constraints: [...constraints] });
    await cluster.settle();
    const [task] = cluster.tasks("s");
    const { name } = cluster.leader.state.nodes.get(task!.nodeId!)!;
    await cluster.leader.execute({ type: "node.availability", name, availability: "drain" });
    const pass = async (ms: number) => {
      for (let passed = 0; passed < ms; passed += 5000) {
        await cluster.clock.advance(5000);
        for (const node of cluster.nodes) node.apply();
        for (const node of cluster.nodes) await node.report((id) => (id === task!.id ? "running" : "preparing"));
      }
    };
    await pass(staysMs);
    t.deepEqual(desired(cluster), ["draining", "running"]);
    await pass(leftMs);
    t.deepEqual(desired(cluster), ["running", "shutdown"]);
  });
}

test("a service that is removed has its tasks stopped at once", async (t) => {
  const cluster = await withService();
  await cluster.leader.execute({ type: "service.remove", name: "s" });
  t.true([...cluster.leader.state.tasks.values()].every((task) => task.desired === "shutdown"));
});

for (const [how, stepMs] of [
  ["back an hour", -3_600_000],
  ["forward an hour", 3_600_000],
] as const) {
  test(`a wall clock that is set ${how} neither lengthens nor cuts short how long a task drains`, async (t) => {
    const cluster = await withService();
    await cluster.leader.execute(scale(2));
    const [first, second, third] = cluster.nodes;
    const pass = async (ms: number) => {
      for (let passed = 0; passed < ms; passed += 1000) {
        await cluster.clock.advance(1000);
        for (const node of [first!, second!]) await node.obey();
        await third!.report(() => "running"); // alive, and behind
      }
    };
    cluster.clock.step(stepMs);
    await pass(25_000);
    t.true(desired(cluster).includes("draining"));
    await pass(10_000);
    t.false(desired(cluster).includes("draining"));
  });
}

test("a new leader lets a task drain anew, whatever its clock says", async (t) => {
  const cluster = await withService();
  await cluster.leader.execute(scale(2));
  await cluster.leader.stop();
  cluster.clock.step(3_600_000);
  await cluster.lead();
  const [first, second, third] = cluster.nodes;
  for (const node of cluster.nodes) await node.join(cluster.leader);
  for (const node of [first!, second!]) await node.obey();
  await third!.report(() => "running");
  t.true(desired(cluster).includes("draining"));
});

test("what a new leader remembers of the one that takes a task's place does not end the task: its node has to say that it runs", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ ...create, replicas: 1 });
  await cluster.settle();
  const [old] = cluster.tasks("s");
  const place = cluster.leader.state.nodes.get(old!.nodeId!)!.name;
  await cluster.leader.execute({ type: "node.availability", name: place, availability: "drain" });
  const leaving = cluster.nodes.find(({ identity }) => identity.name === place)!;
  const taking = cluster.nodes.find(({ identity }) => identity.name !== place)!;
  taking.apply();
  await taking.report(() => "running"); // the other node has nothing in force yet
  await cluster.leader.stop();
  await cluster.lead();
  await leaving.join(cluster.leader);
  await taking.join(cluster.leader);
  // All have it in force; only the old task's node has told of its tasks.
  for (const node of cluster.nodes) node.apply();
  await leaving.report(() => "running");
  const session = await openSession(cluster.leader, taking.identity, deafSink);
  const revision = cluster.leader.state.revision;
  await cluster.leader.sessions.report(session, { statuses: [], full: false, gone: [], applied: revision });
  t.deepEqual(desired(cluster), ["draining", "running"]);
  await taking.join(cluster.leader);
  await cluster.settle();
  t.deepEqual(desired(cluster), ["running"]);
});

function isNew(cluster: Cluster, id: string): boolean {
  return cluster.leader.state.statuses.get(id)?.state !== "running";
}
