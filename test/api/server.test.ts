// The local API over a real unix socket: what it answers, what it refuses, and who may open it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import test from "ava";
import { ApiClient } from "../../src/api/client.ts";
import { LogFilter } from "../../src/api/schema.ts";
import { serveApi } from "../../src/api/server.ts";
import { ownerOfSocket } from "../../src/api/socket-owner.ts";
import { PlatformError, UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { temporaryDirectory } from "../temporary.ts";
import { FakeBackend, id, networkRow, nodeRow, put, served, serviceRow, statusRow, taskRow } from "./fake-backend.ts";

function search(): FakeBackend {
  const tasks = [taskRow("search", 1, "node1"), taskRow("search", 2, "node2"), taskRow("search", 3, null)];
  return new FakeBackend([
    ...["node10", "node2", "node1"].map((name) => put.node(nodeRow(name))),
    put.network(networkRow("web")),
    put.service(
      serviceRow("search", {
        replicas: 3,
        ports: [{ published: 9200, target: 9200, protocol: "tcp", mode: "ingress", address: null }],
      }),
    ),
    ...tasks.map(put.task),
    put.status(statusRow(tasks[0]!, "running")),
    put.status(statusRow(tasks[1]!, "failed", { error: "exit status 1", exitCode: 1, restarts: 4 })),
  ]);
}

/** One raw call: what a client of another kind would send. */
async function call(socketPath: string, method: string, path: string, body = ""): Promise<[number, unknown]> {
  const sent = request({ socketPath, method, path, agent: false, headers: { "content-type": "application/json" } });
  sent.end(body);
  const [response] = await once(sent, "response");
  let text = "";
  for await (const part of response) text += part;
  return [response.statusCode, JSON.parse(text)];
}

test("progress says how far a task is that is being prepared, and asks for no other", async (t) => {
  const backend = search();
  const preparing = taskRow("search", 3, "node1");
  backend.change(put.task(preparing), put.status(statusRow(preparing, "preparing", { message: "pulling web:1" })));
  const api = new ApiClient(await served(t, backend));
  const messages = async () => (await api.progress("search")).tasks.map(({ message }) => message);
  t.deepEqual(await messages(), [null, null, "pulling web:1"]);
  backend.preparations.set(preparing.id, "pulling web:1: 3.0 of 9.0 MB");
  backend.preparations.set(taskRow("search", 1, "node1").id, "not asked for");
  t.deepEqual(await messages(), [null, null, "pulling web:1: 3.0 of 9.0 MB"]);
});

test("views say what the rows say, by name", async (t) => {
  const api = new ApiClient(await served(t, search()));
  const service = await api.service("search");
  t.like(service, { running: 1, replicas: 3, command: ["node", "server.js"] });
  t.deepEqual(service.networks, [{ id: id("web"), name: "web", vip: "10.192.32.2", aliases: [] }]);
  t.deepEqual(
    (await api.tasks("search")).map(({ name, node, state, error }) => [name, node, state, error]),
    [
      ["search.1", "node1", "running", null],
      ["search.2", "node2", "failed", "exit status 1"],
      ["search.3", null, "pending", null],
    ],
  );
  t.deepEqual((await api.network("web")).endpoints[0], {
    id: id("search1t"),
    name: "search.1",
    address: "10.192.32.11",
    node: "node1",
  });
  t.deepEqual((await api.network("web")).services, [{ name: "search", vip: "10.192.32.2" }]);
});

test("nodes are listed in the order of their numbers, with leader and self", async (t) => {
  const nodes = await new ApiClient(await served(t, search())).nodes();
  t.deepEqual(
    nodes.map(({ name, leader, self, tasks }) => [name, leader, self, tasks]),
    [
      ["node1", true, true, 1],
      ["node2", false, false, 1],
      ["node10", false, false, 0],
    ],
  );
});

test("a listing of 10,000 services is whole, and other calls are answered while it is written", async (t) => {
  const services = Array.from({ length: 10_000 }, (_, i) => put.service(serviceRow(`service${i}`)));
  const backend = new FakeBackend([put.network(networkRow("web")), ...services]);
  const api = new ApiClient(await served(t, backend));
  let isListed = false;
  let others = 0;
  const listing = api.services().finally(() => {
    isListed = true;
  });
  while (!isListed) {
    await api.stats();
    others++;
  }
  const rows = await listing;
  t.deepEqual([rows.length, rows[9999]!.name, rows[9999]!.running], [10_000, "service9999", 0]);
  t.true(others > 3, `${others} other calls`);
  t.deepEqual(await api.tasks("service1"), []);
});

test("a task whose node is down does not count as running", async (t) => {
  const backend = search();
  backend.change(put.node(nodeRow("node1", { state: "down" })));
  t.is((await new ApiClient(await served(t, backend)).service("search")).running, 0);
});

test("nodes that a service names and that there are not are warned of", async (t) => {
  const backend = search();
  const weights = { node2: 3, nod10: 1 };
  const { balancing } = serviceRow("search");
  const constraints = ["node.name!=node3", "node.name==node1"];
  backend.change(put.service(serviceRow("search", { constraints, balancing: { ...balancing, weights } })));
  const { warnings } = await new ApiClient(await served(t, backend)).service("search");
  t.deepEqual(warnings, [
    "node.name!=node3: there is no node 'node3'; did you mean 'node2'?",
    "weight of nod10: there is no node 'nod10'; did you mean 'node10'?",
  ]);
});

test("a read says where its state is from, a long listing too, and a write does not", async (t) => {
  const backend = search();
  const api = new ApiClient(await served(t, backend));
  await api.networks();
  t.is(api.stateSource, "leader");
  backend.connected = false;
  for (const keptState of ["kept", "disk"] as const) {
    backend.keptState = keptState;
    for (const read of [api.networks, api.services, () => api.service("search")]) {
      await read();
      t.is(api.stateSource, keptState);
    }
    await api.scaleService("search", 2);
    t.is(api.stateSource, "leader");
  }
});

test("no leader is named while there is no session with it", async (t) => {
  const backend = search();
  backend.connected = false;
  const api = new ApiClient(await served(t, backend));
  t.like(await api.status(), { node: "node1", leader: "node1", connected: false, revision: 1 });
  t.false((await api.node("node1")).leader);
});

for (const [word, found] of [
  ["search", "search"],
  [id("search"), "search"],
  ["sear", "search"],
] as const) {
  test(`a service is found by '${word}'`, async (t) => {
    t.is((await new ApiClient(await served(t, search())).service(word)).name, found);
  });
}

test("the beginning of two ids names neither", async (t) => {
  const backend = search();
  backend.change(put.service(serviceRow("searches")));
  await t.throwsAsync(new ApiClient(await served(t, backend)).service("sear"), { message: /^no such service: sear/ });
});

test("a write is sent to the leader with names in place of ids", async (t) => {
  const backend = search();
  const api = new ApiClient(await served(t, backend));
  const scaled = await api.scaleService(id("search").slice(0, 12), 2);
  t.deepEqual(scaled, { id: id("search"), name: "search", revision: 2 });
  t.deepEqual(backend.commands, [{ type: "service.scale", name: "search", replicas: 2 }]);
});

const refusals: [name: string, method: string, path: string, body: string, status: number, answer: object][] = [
  ["an unknown call", "GET", "/v1/moon", "", 404, { error: "no such call: GET /v1/moon" }],
  [
    "a body that is no JSON",
    "POST",
    "/v1/networks",
    "{",
    400,
    { error: "Body is not valid JSON but content-type is set to 'application/json'" },
  ],
  [
    "a body left out",
    "POST",
    "/v1/services/search/scale",
    "",
    400,
    { error: "Body cannot be empty when content-type is set to 'application/json'" },
  ],
  ["a field left out", "POST", "/v1/networks", "{}", 400, { field: "name" }],
  [
    "a field that is not known",
    "POST",
    "/v1/networks",
    '{"name":"a","colour":1}',
    400,
    { error: "colour: no such field", field: "colour" },
  ],
  [
    "a field of the wrong type",
    "POST",
    "/v1/services",
    '{"name":"a","workload":{"runtime":"process","command":["a"]},"replicas":"b"}',
    400,
    { field: "replicas" },
  ],
  [
    "a nested field of the wrong type",
    "POST",
    "/v1/services",
    '{"name":"a","workload":{"runtime":"process","command":["a"]},"ports":[{"published":"x","target":1}]}',
    400,
    { field: "ports.0.published" },
  ],
  ["what the leader finds wrong", "POST", "/v1/networks", '{"name":"a b"}', 400, { field: "name" }],
  ["a limit of no number", "GET", "/v1/flows?limit=x", "", 400, { field: "limit" }],
  [
    "a name that is nearly right",
    "GET",
    "/v1/services/serach",
    "",
    404,
    { error: "no such service: serach; did you mean 'search'?" },
  ],
  ["a name of nothing", "GET", "/v1/networks/zzzzzz", "", 404, { error: "no such network: zzzzzz" }],
];
for (const [name, method, path, body, status, answer] of refusals) {
  test(`refused: ${name}`, async (t) => {
    const [code, failure] = await call(await served(t, search()), method, path, body);
    t.is(code, status);
    t.like(failure, answer);
  });
}

for (const [error, status] of [
  [new UserError(409, "port 9200/tcp is published by service 'search'", { field: "ports" }), 409],
  [new UserError(503, "no leader answers"), 503],
  [new UserError(507, "the disk is full"), 507],
  [new PlatformError("no TUN", "modprobe tun"), 503],
  [new TypeError("a mistake of ours"), 500],
] as const) {
  test(`an error of the backend is answered as ${status}: ${error.name}`, async (t) => {
    const backend = search();
    backend.refusal = error;
    const [code, failure] = await call(await served(t, backend), "POST", "/v1/networks", '{"name":"a"}');
    t.is(code, status);
    t.true((failure as { error: string }).error.includes(error.message));
  });
}

test("the client throws what the agent answered, with its field", async (t) => {
  const api = new ApiClient(await served(t, search()));
  const error = await t.throwsAsync(api.createNetwork({ name: "a b" }), { instanceOf: UserError });
  t.is(error?.code, 400);
  t.is(error?.field, "name");
});

test("sandboxes, peers, stats and flows come from the backend", async (t) => {
  const backend = search();
  const api = new ApiClient(await served(t, backend));
  const { netns, id: sandbox } = await api.openSandbox({ network: "web", name: null, pid: 42 });
  t.is(netns, "ovl-node1-sandbox");
  await api.closeSandbox(sandbox);
  t.deepEqual([backend.opened, backend.closed], [[{ network: "web", name: null, pid: 42 }], [sandbox]]);
  t.deepEqual(await api.peers(), []);
  t.is((await api.stats()).drops.NoRoute, 3);
  t.is((await api.flows({ limit: 5 })).length, 1);
  t.is((await api.flows({ service: "none", limit: 5 })).length, 0);
});

test("only the owner may open the socket where there is no group overlayd, and it goes with the server", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "run", "overlayd.sock");
  const server = await serveApi(search(), { socketPath, log: silentLog, owner: ownerOfSocket("root:x:0:\n", true) });
  t.is(statSync(socketPath).mode & 0o777, 0o600);
  await server.close();
  t.false(existsSync(socketPath));
});

test("members of the group overlayd may open the socket too, where root runs the agent", async (t) => {
  const groups = "root:x:0:\nnot-overlayd:x:7:\noverlayd:x:982:alice,bob\n";
  t.deepEqual(ownerOfSocket(groups, true), { group: 982, mode: 0o660 });
  t.deepEqual(ownerOfSocket(groups, false), { group: undefined, mode: 0o600 });
  if (process.geteuid?.() !== 0) return; // only root may give a file to a group that it is not in
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  const server = await serveApi(search(), { socketPath, log: silentLog, owner: ownerOfSocket(groups, true) });
  const { mode, uid, gid } = statSync(socketPath);
  t.deepEqual([mode & 0o777, uid, gid], [0o660, 0, 982]);
  await server.close();
});

test("a live agent's socket is not taken", async (t) => {
  const socketPath = await served(t, search());
  await t.throwsAsync(serveApi(search(), { socketPath, log: silentLog }), {
    instanceOf: PlatformError,
    message: /another agent answers/,
  });
  t.is((await new ApiClient(socketPath).status()).node, "node1");
});

test("a dead agent's socket is replaced", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  const listen = `require("net").createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, "SIGKILL"))`;
  await once(spawn(process.execPath, ["-e", listen]), "exit");
  t.true(existsSync(socketPath));
  await t.throwsAsync(new ApiClient(socketPath).status(), {
    message: /the agent that made .* is gone: start it again/,
  });
  const server = await serveApi(search(), { socketPath, log: silentLog });
  t.teardown(() => server.close());
  t.is((await new ApiClient(socketPath).status()).node, "node1");
});

test("a file in the socket's place is left alone", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  writeFileSync(socketPath, "mine");
  await t.throwsAsync(serveApi(search(), { socketPath, log: silentLog }), { message: /is not a socket/ });
});

test("without an agent the client says what to do", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  const error = await t.throwsAsync(new ApiClient(socketPath).status(), { instanceOf: UserError });
  t.is(error?.code, 503);
  t.true(error?.message.startsWith(`no agent listens on ${socketPath}: start it with 'overlayd --config FILE'`));
});

test("an agent that stops before it answers is said to have", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  const server = createServer((socket) => void socket.once("data", () => socket.destroy())).listen(socketPath);
  await once(server, "listening");
  t.teardown(() => server.close());
  const read = await t.throwsAsync(new ApiClient(socketPath).status(), { instanceOf: UserError });
  t.deepEqual([read?.code, read?.message], [503, `the agent on ${socketPath} stopped before it answered`]);
  const write = new ApiClient(socketPath).createNetwork({ name: "web", internal: false });
  const error = await t.throwsAsync(write, { instanceOf: UserError });
  t.is(error?.code, 504);
  t.regex(error!.message, /stopped before it answered; look whether it was carried out before you ask again$/);
});

test("something else on the socket is told apart", async (t) => {
  const socketPath = join(temporaryDirectory("api"), "overlayd.sock");
  const server = createServer((socket) => void socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\n\r\nhello")));
  await once(server.listen(socketPath), "listening");
  t.teardown(() => server.close());
  await t.throwsAsync(new ApiClient(socketPath).status(), { message: /is not overlayd/ });
});

for (const id of ["../../../../etc/passwd", "..", "x", "A".repeat(25)]) {
  test(`a sandbox or task named '${id}' is refused before anything is looked for`, async (t) => {
    const backend = search();
    const api = new ApiClient(await served(t, backend));
    await t.throwsAsync(api.closeSandbox(id), { message: /not an id/ });
    await t.throwsAsync(api.taskLog(id, LogFilter.parse({})), { message: /not an id/ });
    t.deepEqual(backend.closed, []);
  });
}
