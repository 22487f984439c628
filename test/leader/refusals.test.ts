// Who is refused by a manager, and in which words: certificates that are worth nothing, workers that ask for more than is
// theirs, machines that may not join. Each is tried over TLS.
import { once } from "node:events";
import { connect } from "node:net";
import test, { type ExecutionContext } from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { PROTOCOL } from "../../src/cluster/features.ts";
import type { Node } from "../../src/cluster/schema.ts";
import { Joining } from "../../src/leader/joining.ts";
import type { Leader } from "../../src/leader/leader.ts";
import { MisdirectedError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { onBehalfOf } from "../../src/lib/on-behalf.ts";
import { createRequest } from "../../src/trust/authority.ts";
import { createKey } from "../../src/trust/certificates.ts";
import type { Credentials } from "../../src/trust/credentials.ts";
import { KeyRing } from "../../src/trust/key-ring.ts";
import { certified, managerKeys } from "../fakes/secure-manager.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";
import { Cluster } from "./cluster-fixture.ts";
import { identityOf } from "./fake-node.ts";
import { type Member, SecureCluster } from "./secure-cluster.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const WEB: CommandInput = { type: "network.create", name: "web" };

async function started(
  t: ExecutionContext,
  ...[options]: Parameters<typeof SecureCluster.start>
): Promise<SecureCluster> {
  const cluster = await SecureCluster.start(options);
  t.teardown(() => cluster.close());
  return cluster;
}

function firstNode({ state }: Leader): Node {
  return [...state.nodes.values()][0]!;
}

const badCertificates: [
  what: string,
  make: (cluster: SecureCluster) => Promise<Credentials | undefined>,
  says: RegExp,
][] = [
  ["none", async () => undefined, /^a certificate of this cluster is needed: .*'overlayctl join'/],
  [
    "one of another cluster",
    async () => {
      const clusterId = "d".repeat(25);
      const { nodes } = await managerKeys(clusterId);
      return certified(nodes, { kind: "node", clusterId, id: "n".repeat(25), name: "node1", role: "manager" });
    },
    /^the certificate of node 'node1' is of another cluster \(d+\)/,
  ],
  [
    "one that another authority signed for this cluster",
    async ({ leader }) => {
      const { id, name } = firstNode(leader);
      const clusterId = leader.state.cluster!.id;
      const { nodes } = await managerKeys(clusterId);
      return certified(nodes, { kind: "node", clusterId, id, name, role: "manager" });
    },
    /is not signed by this cluster's CA/,
  ],
  [
    "one that has expired",
    async ({ leader, manager }) => {
      const { id, name } = firstNode(leader);
      const subject = { kind: "node", clusterId: leader.state.cluster!.id, id, name, role: "manager" } as const;
      return certified(manager.keys.nodes, subject, Date.now() - 91 * DAY_MS);
    },
    /^the certificate of node 'node1' expired on .*'overlayctl join'.*with its id and tasks/,
  ],
  [
    "one of the store's authority",
    async ({ leader, manager }) => {
      const { id, name } = firstNode(leader);
      const subject = { kind: "node", clusterId: leader.state.cluster!.id, id, name, role: "manager" } as const;
      return certified(manager.keys.store, subject);
    },
    /is one of the store's CA, which is for etcd alone/,
  ],
  [
    "one of a node that was removed",
    async (cluster) => {
      const { credentials } = await cluster.join(identityOf(2));
      await cluster.leader.execute({ type: "node.remove", name: "node2", force: true });
      return credentials;
    },
    /^the certificate of node 'node2' is revoked: the node was removed from the cluster/,
  ],
  [
    "one of a user that was removed",
    async ({ leader, manager }) => {
      const { id } = await leader.execute({ type: "user.add", name: "alice", expires: Date.now() + DAY_MS });
      await leader.execute({ type: "user.remove", name: "alice" });
      const clusterId = leader.state.cluster!.id;
      return certified(manager.keys.nodes, { kind: "user", clusterId, id, name: "alice" });
    },
    /^the certificate of user 'alice' is revoked/,
  ],
  [
    "one whose row says that it has expired",
    async (cluster) => {
      const { id, credentials } = await cluster.join(identityOf(2));
      await cluster.leader.renewed(id, { certificateExpires: Date.now() - 1000 });
      return credentials;
    },
    /^the certificate of node 'node2' has expired/,
  ],
];
for (const [what, make, says] of badCertificates) {
  test(`a command with a certificate is refused when it is ${what}`, async (t) => {
    const cluster = await started(t);
    const { status, body } = await cluster.manager.ask(await make(cluster), "POST", "/v1/commands", WEB);
    t.true(status === 401 || status === 403);
    t.regex(body.error!, says);
    t.is(
      [...cluster.leader.state.networks.values()].find(({ name }) => name === "web"),
      undefined,
    );
  });
}

const forOthers: [what: string, ask: (ids: { own: string; other: string }) => CommandInput, says: RegExp][] = [
  [
    "write a service",
    () => ({ type: "service.create", name: "s", workload: { runtime: "process", command: ["sh"] } }),
    /^node 'node2' is a worker, and workers may not do 'service.create': run this on a manager/,
  ],
  ["make itself a manager", () => ({ type: "node.promote", name: "node2" }), /workers may not do 'node.promote'/],
  ["rotate a token", () => ({ type: "token.rotate", role: "worker" }), /workers may not do 'token.rotate'/],
  [
    "ask an address for another node",
    ({ other }) => ({ type: "endpoint.create", node: other, network: "default" }),
    /^node 'node2' is a worker and may do 'endpoint.create' for itself, not for node 'node3'/,
  ],
  [
    "attach a container of another node",
    ({ other }) => ({ type: "attach", node: other, subject: "netns:x", subjectName: "x" }),
    /may do 'attach' for itself, not for node 'node3'/,
  ],
  [
    "have another node leave",
    ({ other }) => ({ type: "node.leave", node: other }),
    /may do 'node.leave' for itself, not for node 'node3'/,
  ],
];
for (const [what, ask, says] of forOthers) {
  test(`a worker may not ${what}, unless workers may write`, async (t) => {
    const cluster = await started(t);
    const { id: own, credentials } = await cluster.join(identityOf(2));
    const { id: other } = await cluster.join(identityOf(3));
    const command = ask({ own, other });
    const refused = await cluster.manager.ask(credentials, "POST", "/v1/commands", command);
    t.is(refused.status, 403);
    t.regex(refused.body.error!, says);
    await cluster.leader.execute({ type: "settings.update", workerWrites: true });
    t.is((await cluster.manager.ask(credentials, "POST", "/v1/commands", command)).status, 200);
  });
}

test("a worker has addresses for itself, gives them back, and none of another node's, and leaves", async (t) => {
  const cluster = await started(t);
  const ask = (credentials: Credentials, command: CommandInput) =>
    cluster.manager.ask(credentials, "POST", "/v1/commands", command);
  const [node2, node3] = [await cluster.join(identityOf(2)), await cluster.join(identityOf(3))];
  const made = await ask(node2.credentials, { type: "endpoint.create", node: node2.id, network: "default" });
  t.is(made.status, 200);
  const id = String(made.body.id);
  const taken = await ask(node3.credentials, { type: "endpoint.remove", id });
  t.regex(taken.body.error!, /node 'node3' .* 'endpoint.remove' for itself, not for node 'node2'/);
  const attach = { type: "attach", node: node2.id, subject: "netns:x", subjectName: "x" } as const;
  const attached = await ask(node2.credentials, attach);
  t.is(attached.status, 200);
  const detached = await ask(node3.credentials, { type: "detach", id: String(attached.body.id) });
  t.regex(detached.body.error!, /node 'node3' .* 'detach' for itself/);
  t.is((await ask(node2.credentials, { type: "detach", id: String(attached.body.id) })).status, 200);
  t.is((await ask(node2.credentials, { type: "endpoint.remove", id })).status, 200);
  // What is gone is gone, and not another's.
  t.is((await ask(node2.credentials, { type: "endpoint.remove", id })).status, 404);
  t.is((await ask(node2.credentials, { type: "node.leave", node: node2.id })).status, 200);
});

test("a worker speaks in its own session alone, and under its own name", async (t) => {
  const cluster = await started(t);
  const { manager, leader } = cluster;
  const [node2, node3] = [await cluster.join(identityOf(2)), await cluster.join(identityOf(3))];
  const lines = manager
    .transport(node2.credentials)
    .open(manager.address, { ...identityOf(2), protocol: PROTOCOL }, new AbortController().signal, () => {});
  const iterator = lines[Symbol.asyncIterator]();
  const { sessionId, nodeId } = (await iterator.next()).value as { sessionId: string; nodeId: string };
  t.is(nodeId, node2.id);
  const report = { seq: 1, statuses: [], full: true, gone: [], applied: 0 };
  const forged = await manager.ask(node3.credentials, "POST", `/v1/sessions/${sessionId}/report`, report);
  t.is(forged.status, 403);
  t.is(forged.body.error, "node 'node3' cannot speak for another node: the session is not its own");
  const log = `/v1/sessions/${sessionId}/logs/${"r".repeat(25)}/refusal`;
  t.is((await manager.ask(node3.credentials, "POST", log, { code: 404, message: "forged" })).status, 403);
  t.is((await manager.ask(node2.credentials, "POST", `/v1/sessions/${sessionId}/report`, report)).status, 204);
  const named = await manager.ask(node3.credentials, "POST", "/v1/sessions", { ...identityOf(2), protocol: PROTOCOL });
  t.regex(named.body.error!, /this node joined as 'node3', and its name is 'node2' now/);
  t.is(leader.state.nodes.get(node3.id)!.state, "down");
  await iterator.return?.();
});

test("a worker has the VTEP that it joined with, or the address that it connects from, and is no manager by its own word", async (t) => {
  const cluster = await started(t);
  const { id, credentials } = await cluster.join({
    ...identityOf(2),
    manager: true,
    listen: { address: "192.0.2.12", port: 2377 },
  });
  t.like(cluster.leader.state.nodes.get(id), { role: "worker", manager: false, listen: null, address: "192.0.2.12" });
  const open = (address: string) =>
    cluster.manager.ask(credentials, "POST", "/v1/sessions", { ...identityOf(2), address, protocol: PROTOCOL });
  const elsewhere = await open("198.51.100.7");
  t.is(elsewhere.status, 403);
  t.regex(
    elsewhere.body.error!,
    /^node 'node2' joined with the address 192.0.2.12 and its connection comes from 127.0.0.1, so its address cannot be 198.51.100.7/,
  );
  t.is(cluster.leader.state.nodes.get(id)!.address, "192.0.2.12");
  void open("127.0.0.1").catch(() => {}); // a stream has no end
  await waitFor(() => cluster.leader.state.nodes.get(id)!.address === "127.0.0.1", { what: "the node to have moved" });
});

test("a worker reads the logs of its own tasks, and of others only how far they are prepared", async (t) => {
  const cluster = await started(t);
  const { manager, leader } = cluster;
  const [node2, node3] = [await cluster.join(identityOf(2)), await cluster.join(identityOf(3))];
  const lines = manager
    .transport(node3.credentials)
    .open(manager.address, { ...identityOf(3), protocol: PROTOCOL }, new AbortController().signal, () => {});
  const iterator = lines[Symbol.asyncIterator]();
  const { sessionId } = (await iterator.next()).value as { sessionId: string };
  const workload = { runtime: "process" as const, command: ["true"] };
  await leader.execute({ type: "service.create", name: "s", workload });
  const [task] = [...leader.state.tasks.values()];
  t.is(task!.nodeId, node3.id);
  const query = { follow: false, tail: null, since: null };
  const read = ({ credentials }: Member, asked: object) =>
    manager.ask(credentials, "POST", `/v1/tasks/${task!.id}/log`, asked);
  const foreign = await read(node2, query);
  t.is(foreign.status, 403);
  t.regex(foreign.body.error!, /^node 'node2' is a worker and reads logs of its own tasks/);
  // The others get as far as the task's node, which says why it brings none.
  for (const reading of [read(node3, query), read(node2, { ...query, progress: true })]) {
    let line: { type: string; requestId?: string };
    do line = (await iterator.next()).value as typeof line;
    while (line.type !== "log");
    const refusal = `/v1/sessions/${sessionId}/logs/${line.requestId}/refusal`;
    t.is((await manager.ask(node3.credentials, "POST", refusal, { code: 404, message: "none yet" })).status, 204);
    t.is((await reading).body.error, "none yet");
  }
  await iterator.return?.();
});

test("a user may write and has no session, and the operator's routes are for users and managers", async (t) => {
  const cluster = await started(t, {
    operator: (server) => void server.get("/v1/status", async () => ({ well: true })),
  });
  const { manager, leader } = cluster;
  const { id } = await leader.execute({ type: "user.add", name: "alice", expires: Date.now() + DAY_MS });
  const clusterId = leader.state.cluster!.id;
  const alice = await certified(manager.keys.nodes, { kind: "user", clusterId, id, name: "alice" });
  t.is((await manager.ask(alice, "POST", "/v1/commands", WEB)).status, 200);
  const session = await manager.ask(alice, "POST", "/v1/sessions", { ...identityOf(2), protocol: PROTOCOL });
  t.deepEqual([session.status, session.body.error], [403, "user 'alice' is no node"]);
  t.deepEqual((await manager.ask(alice, "GET", "/operator/v1/status")).body, { well: true });
  t.is((await manager.ask(await manager.credentialsNamed("node1"), "GET", "/operator/v1/status")).status, 200);
  const { credentials } = await cluster.join(identityOf(2));
  const worker = await manager.ask(credentials, "GET", "/operator/v1/status");
  t.is(worker.status, 403);
  t.regex(worker.body.error!, /^node 'node2' is a worker: run this on a manager/);
  t.is((await manager.ask(undefined, "GET", "/operator/v1/status")).status, 401);
});

test("a standby knows no users, and sends them to the leader", async (t) => {
  const cluster = await started(t, {
    calls: () => {
      throw new MisdirectedError(["192.0.2.13:2377"]);
    },
    operator: (server) => void server.get("/v1/status", async () => ({ well: true })),
  });
  const { manager, leader } = cluster;
  const subject = { kind: "user", clusterId: leader.state.cluster!.id, id: "u".repeat(25), name: "alice" } as const;
  const { status, body } = await manager.ask(
    await certified(manager.keys.nodes, subject),
    "GET",
    "/operator/v1/status",
  );
  t.deepEqual([status, body.managers], [421, ["192.0.2.13:2377"]]);
});

test("a write is logged with the one on whose behalf it was asked for", async (t) => {
  const cluster = await started(t);
  const { manager, logged } = cluster;
  const transport = manager.transport(await manager.credentialsNamed("node1"));
  const id = cluster.leader.state.cluster!.id;
  await onBehalfOf("user alice at 198.51.100.9", () => transport.execute(manager.address, id, WEB));
  t.like(
    logged.find(({ command }) => command === "network.create"),
    { caller: "user alice at 198.51.100.9 on node node1", address: "127.0.0.1", object: "web", result: "done" },
  );
});

test("what managers ask of each other, a worker may not", async (t) => {
  const cluster = await started(t, {
    managers: (server, require) => {
      server.get("/v1/managers/report", async (request) => {
        require(request);
        return { role: "leader" };
      });
    },
  });
  const { manager } = cluster;
  t.is((await manager.ask(await manager.credentialsNamed("node1"), "GET", "/v1/managers/report")).status, 200);
  const { credentials } = await cluster.join(identityOf(2));
  const { status, body } = await manager.ask(credentials, "GET", "/v1/managers/report");
  t.deepEqual([status, body.error], [403, "node 'node2' is a worker, and only managers may ask this"]);
});

test("a standby names the leader", async (t) => {
  const cluster = await started(t, {
    calls: () => {
      throw new MisdirectedError(["192.0.2.13:2377"]);
    },
  });
  const { credentials } = await cluster.join(identityOf(2));
  const { status, body } = await cluster.manager.ask(credentials, "GET", "/v1/leader");
  t.is(status, 421);
  t.deepEqual(body, {
    error: "this manager is a standby; the leader is at 192.0.2.13:2377",
    managers: ["192.0.2.13:2377"],
  });
  const transport = cluster.manager.transport(credentials);
  await t.throwsAsync(transport.leads(cluster.manager.address, new AbortController().signal), {
    instanceOf: MisdirectedError,
  });
});

const badJoins: [
  what: string,
  change: (cluster: SecureCluster, request: object) => Promise<object> | object,
  says: RegExp,
][] = [
  [
    "a token that is cut",
    (_, request) => ({ ...request, token: (request as { token: string }).token.slice(0, -3) }),
    /^the join token is cut: it has 79 characters of 82/,
  ],
  [
    "a token that is wrong",
    (_, request) => ({ ...request, token: `${(request as { token: string }).token.slice(0, -25)}${"0".repeat(25)}` }),
    /^this token is wrong, or was rotated: 'overlayctl join-token worker' on a manager/,
  ],
  [
    "a token that was rotated",
    async ({ leader }, request) => {
      await leader.execute({ type: "token.rotate", role: "worker" });
      return request;
    },
    /^this token is wrong, or was rotated/,
  ],
  [
    "a token of the other role",
    (_, request) => ({ ...request, role: "manager" }),
    /^this token is for a worker, not for a manager: 'overlayctl join-token manager' on a manager prints that/,
  ],
  [
    "a clock two hours behind",
    (_, request) => ({ ...request, now: Date.now() - 2 * HOUR_MS }),
    /^this machine's clock is 2 h 0 min behind the manager's: .*'timedatectl'/,
  ],
  [
    "a clock two hours ahead",
    (_, request) => ({ ...request, now: Date.now() + 2 * HOUR_MS + 30_000 }),
    /^this machine's clock is 2 h 0 min ahead of the manager's/,
  ],
  [
    "a name that is taken",
    async (cluster, request) => {
      await cluster.join(identityOf(2));
      return request;
    },
    /^the name 'node2' is that of a node with another key; .*'overlayctl node rm node2' on a manager/,
  ],
  [
    "an address that is taken",
    (_, request) => ({ ...request, identity: { ...identityOf(2), address: identityOf(1).address } }),
    /^the address 192.0.2.11 is that of node 'node1'/,
  ],
  ["no certificate request", (_, request) => ({ ...request, request: "hello" }), /^this is no certificate request/],
  ["nothing", () => ({}), /^token: /],
];
for (const [what, change, says] of badJoins) {
  test(`a join is refused with ${what}`, async (t) => {
    const cluster = await started(t);
    const request = await change(cluster, await cluster.joinRequest(identityOf(2), "worker"));
    const { status, body } = await cluster.askToJoin(request);
    t.true([400, 403, 409].includes(status), String(status));
    t.regex(body.error!, says);
    t.is(body.certificate, undefined);
  });
}

test("a machine that has shown no certificate sends little", async (t) => {
  const cluster = await started(t);
  const { status } = await cluster.askToJoin({ token: "x".repeat(64 * 1024) });
  t.is(status, 413);
});

test("an address has so many joins a second", async (t) => {
  const { leader } = await Cluster.start(1);
  const clock = new VirtualClock();
  const ring = new KeyRing({ keys: await managerKeys(leader.state.cluster!.id), write: async () => {} });
  const joining = new Joining({ leader: () => leader, ring, clock, log: silentLog });
  const join = (from: string) => t.throwsAsync(joining.join({}, from));
  for (let i = 0; i < 10; i++) t.regex((await join("192.0.2.66"))!.message, /^token: /);
  t.is((await join("192.0.2.66"))!.message, "more than 10 joins a second come from 192.0.2.66; try again in a second");
  t.regex((await join("192.0.2.67"))!.message, /^token: /);
  await clock.advance(1000);
  t.regex((await join("192.0.2.66"))!.message, /^token: /);
});

test("a node of an earlier version, which speaks plain HTTP, is answered in words", async (t) => {
  const { manager } = await started(t);
  const socket = connect(manager.port, "127.0.0.1");
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  socket.write(
    `POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`,
  );
  await once(socket, "close");
  const [head, body] = Buffer.concat(parts).toString().split("\r\n\r\n") as [string, string];
  t.regex(head, /^HTTP\/1.1 426 /);
  t.regex(
    (JSON.parse(body) as { error: string }).error,
    /^this manager speaks TLS only: install this version .*'overlayctl join/,
  );
});

test("a renewal with another key is refused", async (t) => {
  const cluster = await started(t);
  const { credentials } = await cluster.join(identityOf(2));
  const request = await createRequest(createKey(), "node2");
  const { status, body } = await cluster.manager.ask(credentials, "POST", "/v1/renew", { request });
  t.deepEqual([status, body.error], [403, "node 'node2' keeps its key: a node with another one joins with a token"]);
});
