// Agents of several versions in one cluster: what one of them cannot do, its node neither sees nor gets. Encrypted networks are the example.
import test from "ava";
import type { Kind } from "../../src/cluster/schema.ts";
import { Cluster } from "./cluster-fixture.ts";
import type { FakeNode } from "./fake-node.ts";

const workload = { runtime: "process" as const, command: ["true"] };

/** Nodes 1 and 2 have the feature, node 3 has not. */
async function mixed(): Promise<Cluster> {
  const cluster = await Cluster.start(3);
  for (const node of cluster.nodes.slice(0, 2)) node.features = ["sealed"];
  for (const node of cluster.nodes) await node.join(cluster.leader);
  await cluster.settle();
  await cluster.leader.execute({ type: "network.create", name: "sealed", encrypted: true });
  await cluster.leader.execute({ type: "network.create", name: "plain" });
  return cluster;
}

function create(cluster: Cluster, name: string, network: string, replicas: number) {
  return cluster.leader.execute({ type: "service.create", name, workload, networks: [network], replicas });
}

const SHOWN: readonly Kind[] = ["networks", "services", "tasks", "endpoints", "statuses"];

function keysOf({ state }: FakeNode): string[] {
  return SHOWN.flatMap((kind) => [...state![kind].keys()]).toSorted();
}

test("a row that needs a feature is withheld from nodes without it, and all that hangs on it; others see it", async (t) => {
  const cluster = await mixed();
  await create(cluster, "a", "sealed", 2);
  await create(cluster, "b", "plain", 3);
  const [first, , third] = cluster.nodes;
  await cluster.leader.execute({ type: "endpoint.create", node: first!.id!, network: "sealed", name: "e" });
  await cluster.settle();
  const hidden = SHOWN.flatMap((kind) => [...cluster.leader.state[kind].keys()]).filter(
    (key) => !keysOf(third!).includes(key),
  );
  t.is(hidden.length, 1 + 1 + 2 + 1 + 2, "the network, the service, its tasks, an endpoint, the tasks' statuses");
  t.deepEqual(keysOf(first!).length, keysOf(third!).length + hidden.length);
  const seen = keysOf(third!);
  await third!.join(cluster.leader);
  t.deepEqual(keysOf(third!), seen, "a snapshot holds what changes brought");
  t.is(third!.state!.revision, cluster.leader.state.revision);
});

test("changes of withheld rows alone bring the node their revision, and their end is no deletion there", async (t) => {
  const cluster = await mixed();
  const [, , third] = cluster.nodes;
  const before = keysOf(third!);
  await create(cluster, "a", "sealed", 2);
  t.deepEqual(keysOf(third!), before);
  t.is(third!.state!.revision, cluster.leader.state.revision);
  await cluster.leader.execute({ type: "service.remove", name: "a" });
  await cluster.settle();
  await cluster.leader.execute({ type: "network.remove", name: "sealed" });
  t.deepEqual(keysOf(third!), before);
  await cluster.settle();
  t.deepEqual(await cluster.leader.waitApplied(cluster.leader.state.revision, 0), []);
});

test("tasks that need a feature are placed on nodes with it, and say why when there is none", async (t) => {
  const cluster = await mixed();
  await create(cluster, "a", "sealed", 4);
  await cluster.settle();
  t.deepEqual(cluster.spread("a"), [2, 2, 0]);
  for (const name of ["node1", "node2"]) {
    await cluster.leader.execute({ type: "node.availability", name, availability: "drain" });
  }
  await create(cluster, "b", "sealed", 1);
  t.is(
    cluster.tasks("b")[0]!.error,
    "no suitable node (2 nodes are drained; 1 node has an agent without the feature 'sealed')",
  );
});

test("a node whose agent is an earlier version now gives its tasks of that feature to others", async (t) => {
  const cluster = await mixed();
  await create(cluster, "a", "sealed", 2);
  await cluster.settle();
  t.deepEqual(cluster.spread("a"), [1, 1, 0]);
  const [first] = cluster.nodes;
  first!.features = [];
  await first!.join(cluster.leader);
  await cluster.settle();
  await cluster.pass(60_000);
  t.deepEqual(cluster.spread("a"), [0, 2, 0]);
  t.false([...first!.state!.networks.values()].some(({ name }) => name === "sealed"));
});

test("nothing on a node without the feature is given an address that needs it", async (t) => {
  const cluster = await mixed();
  const node = cluster.nodes[2]!.id!;
  const message =
    /'sealed' needs the feature 'sealed', which the agent of node 'node3' does not have: update overlayd there/;
  await t.throwsAsync(cluster.leader.execute({ type: "endpoint.create", node, network: "sealed" }), { message });
  const attach = { type: "attach" as const, node, subject: "netns:x", subjectName: "x", network: "sealed" };
  await t.throwsAsync(cluster.leader.execute(attach), { message });
  await t.throwsAsync(cluster.leader.execute({ ...attach, service: "s" }), {
    message: /'s' needs the feature 'sealed', which the agent of node 'node3' does not have/,
  });
  t.is(cluster.leader.state.services.size, 0, "nothing half-made");
});

test("registry credentials of a withheld service do not reach the node either", async (t) => {
  const cluster = await mixed();
  const docker = { runtime: "docker" as const, image: "app:1", registryAuth: "secret" };
  await cluster.leader.execute({ type: "service.create", name: "a", workload: docker, networks: ["sealed"] });
  const [, , third] = cluster.nodes;
  t.false(JSON.stringify([...third!.state!.services.values()]).includes("app:1"));
});
