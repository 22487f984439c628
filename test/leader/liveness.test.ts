// Nodes lost and found: what becomes of their tasks.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { stateToJson } from "../../src/cluster/state.ts";
import { soleLeadership } from "../../src/leader/store.ts";
import { Cluster, LIVENESS_MS } from "./cluster-fixture.ts";
import { FakeNode, identityOf } from "./fake-node.ts";

const service = (replicas: number, rest: object = {}): CommandInput => ({
  type: "service.create",
  name: "s",
  workload: { runtime: "process", command: ["true"] },
  replicas,
  ...rest,
});

async function withService(nodes: number, replicas: number, rest: object = {}): Promise<Cluster> {
  const cluster = await Cluster.start(nodes);
  await cluster.leader.execute(service(replicas, rest));
  await cluster.settle();
  return cluster;
}

test("a lost node is down after the period, and its tasks are replaced elsewhere under the same slots", async (t) => {
  const cluster = await withService(3, 3);
  cluster.nodes[2]!.lose();
  await cluster.pass(LIVENESS_MS - 3000);
  t.is(cluster.node("node3").state, "ready");
  await cluster.pass(9000);
  t.is(cluster.node("node3").state, "down");
  t.deepEqual(cluster.spread("s").toSorted(), [0, 1, 2]);
  const [old] = cluster.tasks("s").filter(({ desired }) => desired === "shutdown");
  t.is(old!.nodeId, cluster.node("node3").id);
  t.is(cluster.tasks("s").filter(({ slot }) => slot === old!.slot).length, 2);
  for (const address of Object.values(old!.addresses))
    t.is(cluster.leader.state.allocations.get(address)!.releasedAt, null);
});

test("a node that leaves is down at once, and its tasks are replaced elsewhere", async (t) => {
  const cluster = await withService(3, 3);
  const node = cluster.nodes[2]!;
  await cluster.leader.execute({ type: "node.leave", node: node.id! });
  t.is(cluster.node("node3").state, "down");
  t.false(node.joined, "its session is over");
  await cluster.settle();
  t.deepEqual(cluster.spread("s").toSorted(), [0, 1, 2]);
  await cluster.leader.execute({ type: "node.leave", node: node.id! });
  await cluster.leader.execute({ type: "node.remove", name: "node3" });
  await t.throwsAsync(cluster.leader.execute({ type: "node.leave", node: node.id! }), { message: /was removed from/ });
});

test("a node that returns has its task again, and the one that stood in goes once it runs", async (t) => {
  const cluster = await withService(3, 3);
  const before = cluster.tasks("s");
  cluster.nodes[2]!.lose();
  await cluster.pass(30_000);
  await cluster.nodes[2]!.join(cluster.leader);
  t.is(cluster.tasks("s").filter(({ desired }) => desired === "running").length, 4);
  await cluster.settle();
  t.deepEqual(cluster.tasks("s").toSorted(bySlot), before.toSorted(bySlot));
  t.deepEqual(cluster.spread("s"), [1, 1, 1]);
});

test("a node that returns to a service that shrank stops its task", async (t) => {
  const cluster = await withService(3, 3);
  cluster.nodes[2]!.lose();
  await cluster.pass(30_000);
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 2 });
  await cluster.settle();
  await cluster.nodes[2]!.join(cluster.leader);
  await cluster.settle();
  t.is(cluster.tasks("s").length, 2);
});

test("a lost node that is removed gives back its tasks' addresses and its own", async (t) => {
  const cluster = await withService(3, 3);
  cluster.nodes[2]!.lose();
  await cluster.pass(30_000);
  await cluster.leader.execute({ type: "node.remove", name: "node3" });
  await cluster.settle();
  t.is(cluster.leader.state.tasks.size, 3);
  t.is(cluster.leader.state.nodes.size, 2);
  t.is(cluster.leader.state.allocations.size, 2 + 2 + 1 + 3);
  const anew = new FakeNode(identityOf(3));
  await anew.join(cluster.leader);
  t.not(anew.id, cluster.nodes[2]!.id);
});

test("when most nodes are silent at once, none is judged", async (t) => {
  const cluster = await withService(3, 3);
  for (const node of cluster.nodes.slice(1)) node.lose();
  await cluster.pass(60_000);
  t.deepEqual(
    [...cluster.leader.state.nodes.values()].map(({ state }) => state),
    ["ready", "ready", "ready"],
  );
  await cluster.nodes[1]!.join(cluster.leader);
  await cluster.pass(30_000);
  t.is(cluster.node("node2").state, "ready");
  t.is(cluster.node("node3").state, "down");
});

test("after a start no node is judged for one period", async (t) => {
  const cluster = await withService(3, 3);
  await cluster.leader.stop();
  await cluster.clock.advance(3_600_000);
  await cluster.lead();
  await cluster.nodes[0]!.join(cluster.leader);
  await cluster.nodes[1]!.join(cluster.leader);
  await cluster.pass(LIVENESS_MS - 3000);
  t.is(cluster.node("node3").state, "ready");
  await cluster.pass(9000);
  t.is(cluster.node("node3").state, "down");
});

test("nodes that come to a new leader slowly, one after the other, are all waited for", async (t) => {
  const cluster = await withService(5, 5);
  await cluster.leader.stop();
  await cluster.lead();
  for (const node of cluster.nodes.slice(0, 4)) {
    await node.join(cluster.leader);
    await cluster.pass(LIVENESS_MS - 3000);
  }
  t.is(cluster.node("node5").state, "ready", "node4 came less than a period ago");
  cluster.nodes.push(new FakeNode(identityOf(6)));
  await cluster.nodes[5]!.join(cluster.leader);
  await cluster.pass(9000);
  t.is(cluster.node("node5").state, "down", "a node that is new does not count: nothing was to come from it");
});

test("a new leader has all of it from the store, and gives away no address while it knows of no node's progress", async (t) => {
  const cluster = await withService(3, 3);
  await cluster.leader.execute({ type: "service.remove", name: "s" });
  const before = stateToJson(cluster.leader.state);
  await cluster.leader.stop();
  await cluster.lead();
  t.deepEqual(stateToJson(cluster.leader.state), before);
  for (const node of cluster.nodes) await node.join(cluster.leader);
  const held = () => [...cluster.leader.state.allocations.values()].filter(({ releasedAt }) => releasedAt !== null);
  t.true(held().length > 0);
  await cluster.settle();
  t.is(held().length, 0);
  t.is(cluster.leader.state.tasks.size, 0);
});

test("a drained node's tasks move, and it takes new ones when it is active again", async (t) => {
  const cluster = await withService(3, 3);
  await cluster.leader.execute({ type: "node.availability", name: "node2", availability: "drain" });
  await cluster.settle();
  t.is(cluster.spread("s")[1], 0);
  t.is(cluster.tasks("s").length, 3);
  await cluster.leader.execute({ type: "node.availability", name: "node2", availability: "active" });
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 4 });
  t.is(cluster.spread("s")[1], 1);
});

test("a service that no node can take says why on its tasks, and runs when one can", async (t) => {
  const cluster = await withService(2, 1, { constraints: ["node.name==node3"] });
  const [task] = cluster.tasks("s");
  t.is(task!.error, "no suitable node (2 nodes do not match node.name==node3)");
  t.deepEqual([task!.nodeId, task!.addresses], [null, {}]);
  cluster.nodes.push(new FakeNode(identityOf(3)));
  await cluster.nodes[2]!.join(cluster.leader);
  const [placed] = cluster.tasks("s");
  t.deepEqual([placed!.id, placed!.nodeId, placed!.error], [task!.id, cluster.node("node3").id, null]);
});

test("a network without a free address is named on the tasks that wait for one", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute({ type: "network.create", name: "tiny", subnet: "10.200.0.0/29" });
  await cluster.leader.execute(service(6, { networks: ["default", "tiny"] }));
  const waiting = cluster.tasks("s").filter(({ nodeId }) => nodeId === null);
  t.deepEqual(
    new Set(waiting.map(({ error }) => error)),
    new Set(["network 'tiny' (10.200.0.0/29) has no free address"]),
  );
  t.is(waiting.length, 2);
  await cluster.settle();
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 4 });
  t.is(cluster.tasks("s").filter(({ nodeId }) => nodeId === null).length, 0);
});

test("scaling down stops what does not run first, then evens the spread", async (t) => {
  const cluster = await withService(3, 7);
  t.deepEqual(cluster.spread("s"), [3, 2, 2]);
  const failing = cluster.tasks("s").find(({ nodeId }) => nodeId === cluster.node("node2").id)!;
  await cluster.nodes[1]!.report((id) => (id === failing.id ? "failed" : "running"));
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 6 });
  t.is(cluster.tasks("s").find(({ id }) => id === failing.id)?.desired ?? "shutdown", "shutdown");
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 4 });
  t.deepEqual(cluster.spread("s").toSorted(), [1, 1, 2]);
});

test("a task that fails or is rejected stays on its node", async (t) => {
  const cluster = await withService(2, 2);
  const before = cluster.tasks("s");
  await cluster.nodes[0]!.report(() => "failed");
  await cluster.nodes[1]!.report(() => "rejected");
  t.deepEqual(cluster.tasks("s"), before);
});

test("a stopped task's address is held back until every live node knows", async (t) => {
  const cluster = await withService(2, 2);
  const [first] = cluster.tasks("s");
  await cluster.leader.execute({ type: "service.remove", name: "s" });
  const address = Object.values(first!.addresses)[0]!;
  const releasedAt = () => cluster.leader.state.allocations.get(address)?.releasedAt;
  t.is(releasedAt(), null);
  await cluster.nodes[0]!.obey();
  t.is(releasedAt(), cluster.leader.state.revision);
  await cluster.nodes[0]!.obey();
  t.truthy(releasedAt());
  await cluster.settle();
  t.is(releasedAt(), undefined);
});

function bySlot(a: { slot: number }, b: { slot: number }): number {
  return a.slot - b.slot;
}

test("why no node can take a task is counts, however many nodes there are", async (t) => {
  const cluster = await withService(12, 0, { constraints: ["node.name==node1"] });
  for (const name of ["node1", "node2", "node3"]) {
    await cluster.leader.execute({ type: "node.availability", name, availability: "drain" });
  }
  await cluster.leader.execute({ type: "service.scale", name: "s", replicas: 1 });
  t.is(cluster.tasks("s")[0]!.error, "no suitable node (9 nodes do not match node.name==node1; 3 nodes are drained)");
});

test("a standby that has waited for long judges no node in its first period", async (t) => {
  const cluster = await Cluster.start(3);
  const { store } = cluster;
  const campaign = store.campaign.bind(store);
  let elect = () => {};
  store.campaign = async () => {
    await new Promise<void>((resolve) => {
      elect = resolve;
    });
    return campaign();
  };
  const leading = cluster.lead();
  await cluster.clock.advance(10 * LIVENESS_MS);
  store.campaign = campaign;
  elect();
  await leading;
  await t.throwsAsync(cluster.leader.execute({ type: "node.remove", name: "node2" }), { message: /'node2' is up/ });
});

test("a leadership that is lost before it begins is none", async (t) => {
  const cluster = new Cluster();
  const { store } = cluster;
  const lost = AbortSignal.abort(new Error("another manager leads"));
  store.campaign = async () => ({ ...soleLeadership(), lost });
  await cluster.lead();
  await t.throwsAsync(cluster.leader.execute({ type: "network.create", name: "web" }), {
    message: /leads no longer: another manager leads/,
  });
});

test("nodes that are silent while most are, and none is judged, are shown so and can be removed", async (t) => {
  const cluster = await withService(3, 3);
  for (const node of cluster.nodes.slice(1)) node.lose();
  await cluster.pass(3 * LIVENESS_MS);
  const health = () =>
    cluster.nodes.map(({ identity }) => `${cluster.node(identity.name)?.state} ${cluster.node(identity.name)?.health}`);
  t.deepEqual(health(), ["ready well", "ready silent", "ready silent"]);
  await cluster.nodes[1]!.join(cluster.leader);
  await cluster.pass(LIVENESS_MS);
  t.is(cluster.node("node2").health, "well");
  await cluster.leader.execute({ type: "node.remove", name: "node3" });
  await cluster.settle();
  t.deepEqual(
    cluster
      .spread("s")
      .slice(0, 2)
      .reduce((a, b) => a + b),
    3,
  );
});
