// What users are answered from any machine: all of the cluster, and nothing that is asked of one node.
import test from "ava";
import { fastify } from "fastify";
import { addOperatorRoutes } from "../../src/api/operator-routes.ts";
import { answerFailures } from "../../src/lib/http-server.ts";
import { silentLog } from "../../src/lib/log.ts";
import { FakeBackend, nodeRow, put } from "./fake-backend.ts";

function served() {
  const backend = new FakeBackend([put.node(nodeRow("node1")), put.node(nodeRow("node2"))]);
  const app = fastify();
  answerFailures(app, silentLog);
  addOperatorRoutes(app, backend, silentLog);
  return { app, backend };
}

test("nodes are listed, promoted and removed, tokens read, users added", async (t) => {
  const { app, backend } = served();
  const nodes = await app.inject({ method: "GET", url: "/v1/nodes" });
  t.deepEqual(
    nodes.json<{ name: string }[]>().map(({ name }) => name),
    ["node1", "node2"],
  );
  const promoted = await app.inject({ method: "POST", url: "/v1/nodes/node2/role", payload: { role: "manager" } });
  t.is(promoted.json<{ name: string }>().name, "node2");
  await app.inject({ method: "DELETE", url: "/v1/nodes/node2?force=true" });
  t.deepEqual(backend.commands, [
    { type: "node.promote", name: "node2" },
    { type: "node.remove", name: "node2", force: true },
  ]);
  await app.inject({ method: "GET", url: "/v1/join-tokens/worker" });
  await app.inject({ method: "POST", url: "/v1/join-tokens/manager/rotate" });
  t.deepEqual(backend.tokensAsked, [
    ["worker", false],
    ["manager", true],
  ]);
  const wrong = await app.inject({ method: "POST", url: "/v1/nodes/node2/role", payload: { role: "boss" } });
  t.is(wrong.statusCode, 400);
});

for (const [method, path] of [
  ["POST", "leave"],
  ["POST", "attach"],
  ["POST", "detach"],
  ["POST", "sandboxes"],
  ["DELETE", "sandboxes/0123456789abcdefghijklmno"],
  ["POST", "cluster/init"],
  ["POST", "cluster/join"],
] as const) {
  test(`${method} ${path} is of one node, and says so`, async (t) => {
    const { app, backend } = served();
    const answer = await app.inject({ method, url: `/v1/${path}`, payload: {} });
    t.is(answer.statusCode, 400);
    t.regex(answer.json<{ error: string }>().error, /this is asked of one node: run it there, without --context/);
    t.deepEqual([backend.commands, backend.left, backend.closed], [[], [], []]);
  });
}
