// What nodes tell of themselves, and what follows for where tasks go.
import test from "ava";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { deafSink, type FakeNode } from "./fake-node.ts";

test("registry credentials are known to the nodes that have tasks of the service, and to no other", async (t) => {
  const cluster = await Cluster.start(3);
  for (const node of cluster.nodes) {
    const session = await openSession(cluster.leader, node.identity, deafSink);
    await cluster.leader.sessions.report(session, { statuses: [], full: true, gone: [], applied: 0, docker: true });
    await node.join(cluster.leader);
  }
  const workload = { runtime: "docker" as const, image: "app:1", registryAuth: "secret" };
  await cluster.leader.execute({ type: "service.create", name: "app", workload, replicas: 1 });
  await cluster.settle();
  const known = () =>
    cluster.nodes
      .filter(({ state }) => JSON.stringify([...state!.services.values()]).includes("secret"))
      .map(({ id }) => id);
  const holders = () =>
    cluster
      .tasks("app")
      .map(({ nodeId }) => nodeId)
      .sort();
  t.is(holders().length, 1);
  t.deepEqual(known(), holders());
  await cluster.leader.execute({ type: "service.scale", name: "app", replicas: 2 });
  await cluster.settle();
  t.is(holders().length, 2);
  t.deepEqual(known().sort(), holders());
  // It is forgotten with the last task, and not told to a node that comes.
  await cluster.leader.execute({ type: "service.scale", name: "app", replicas: 1 });
  await cluster.settle();
  t.is(holders().length, 1);
  t.deepEqual(known(), holders());
  for (const node of cluster.nodes) await node.join(cluster.leader);
  t.deepEqual(known(), holders());
  const service = [...cluster.leader.state.services.values()][0]?.workload;
  t.is(service?.runtime === "docker" && service.registryAuth, "secret");
});

test("a node that attaches a container to a service has no credentials of that service", async (t) => {
  const cluster = await Cluster.start(2);
  const session = await openSession(cluster.leader, cluster.nodes[0]!.identity, deafSink);
  await cluster.leader.sessions.report(session, { statuses: [], full: true, gone: [], applied: 0, docker: true });
  await cluster.nodes[0]!.join(cluster.leader);
  const workload = { runtime: "docker" as const, image: "app:1", registryAuth: "secret" };
  await cluster.leader.execute({ type: "service.create", name: "app", workload, replicas: 1 });
  const [node1, node2] = cluster.nodes;
  const attach = { type: "attach", subject: "netns:x", subjectName: "x", service: "app" } as const;
  await cluster.leader.execute({ ...attach, node: node2!.id! });
  const isKnown = (node: FakeNode) => JSON.stringify([...node.state!.services.values()]).includes("secret");
  t.deepEqual([isKnown(node1!), isKnown(node2!)], [true, false]);
  await node2!.join(cluster.leader);
  t.false(isKnown(node2!), "a new session's snapshot has none either");
});

test("containers go to nodes whose Docker answers, and stay when it does no more", async (t) => {
  const cluster = await Cluster.start(2);
  const session = await openSession(cluster.leader, cluster.nodes[1]!.identity, deafSink);
  const report = { statuses: [], full: false, gone: [], applied: 0 };
  const workload = { runtime: "docker" as const, image: "app:1" };
  await cluster.leader.execute({ type: "service.create", name: "app", workload, replicas: 2 });
  t.is(cluster.tasks("app")[0]?.error, "no suitable node (2 nodes have no Docker that answers)");
  await cluster.leader.sessions.report(session, { ...report, docker: true });
  const nodes = () => cluster.tasks("app").map(({ nodeId }) => nodeId);
  t.deepEqual(nodes(), [cluster.node("node2").id, cluster.node("node2").id]);
  // Nothing said is no news.
  await cluster.leader.sessions.report(session, report);
  t.true(cluster.node("node2").docker);
  await cluster.leader.sessions.report(session, { ...report, docker: false });
  t.false(cluster.node("node2").docker);
  t.deepEqual(nodes(), [cluster.node("node2").id, cluster.node("node2").id]);
});

test("a host whose name has other capitals now is the same node, and constraints still mean it", async (t) => {
  const cluster = await Cluster.start(1);
  const { id } = cluster.node("node1");
  await cluster.nodes[0]!.join(cluster.leader);
  const renamed = { ...cluster.nodes[0]!.identity, name: "Node1" };
  await openSession(cluster.leader, renamed, deafSink);
  t.is(cluster.leader.state.nodes.get(id)!.name, "Node1");
  t.is(cluster.leader.state.nodes.size, 1);
  const workload = { runtime: "process" as const, command: ["true"] };
  await cluster.leader.execute({ type: "service.create", name: "s", workload, constraints: ["node.name==node1"] });
  t.is(cluster.tasks("s")[0]!.nodeId, id);
});
