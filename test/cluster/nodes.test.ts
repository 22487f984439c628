// What nodes tell of themselves, and what follows for where tasks go.
import test from "ava";
import { Cluster } from "./cluster-fixture.ts";

test("containers go to nodes whose Docker answers, and stay when it does no more", async (t) => {
  const cluster = await Cluster.start(2);
  const session = await cluster.leader.openSession(cluster.nodes[1]!.identity, { send: () => {}, close: () => {} });
  const report = { statuses: [], full: false, gone: [], applied: 0 };
  const workload = { runtime: "docker" as const, image: "app:1" };
  await cluster.leader.execute({ type: "service.create", name: "app", workload, replicas: 2 });
  t.is(
    cluster.tasks("app")[0]?.error,
    "no node can take it: node1 has no Docker that answers; node2 has no Docker that answers",
  );
  await cluster.leader.report(session, { ...report, docker: true });
  const nodes = () => cluster.tasks("app").map(({ nodeId }) => nodeId);
  t.deepEqual(nodes(), [cluster.node("node2").id, cluster.node("node2").id]);
  // Nothing said is no news.
  await cluster.leader.report(session, report);
  t.true(cluster.node("node2").docker);
  await cluster.leader.report(session, { ...report, docker: false });
  t.false(cluster.node("node2").docker);
  t.deepEqual(nodes(), [cluster.node("node2").id, cluster.node("node2").id]);
});
