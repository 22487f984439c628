// Who is of the cluster: how it begins, who joins under which name, and what an operator changes of that.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { PROTOCOL } from "../../src/cluster/features.ts";
import { NODE_KINDS } from "../../src/cluster/schema.ts";
import { Leader } from "../../src/leader/leader.ts";
import { CannotLeadError } from "../../src/leader/store.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { EXPIRES, found, joining } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { Cluster } from "./cluster-fixture.ts";
import { deafSink, FakeNode, identityOf } from "./fake-node.ts";
import { countingIds } from "./ids.ts";

test("a cluster begins with its settings, its authority, a token a role, two networks and its first manager", async (t) => {
  const cluster = await Cluster.start(0, {
    settings: { pool: "10.128.0.0/16", domain: "Corp.Example", livenessMs: 20_000 },
  });
  const { state, settings } = cluster.leader;
  t.deepEqual(settings, {
    pool: "10.128.0.0/16",
    domain: "corp.example",
    livenessMs: 20_000,
    workerWrites: false,
    encrypt: false,
  });
  t.deepEqual([...state.tokens.keys()], ["manager", "worker"]);
  t.deepEqual([...state.trust.values()], [{ bundle: ["the first authority"], signer: "first" }]);
  t.deepEqual(
    [...state.networks.values()].map(({ name, subnet }) => [name, subnet]),
    [
      ["ingress", "10.128.0.0/20"],
      ["default", "10.128.16.0/20"],
    ],
  );
  t.like(cluster.node("node1"), {
    role: "manager",
    state: "down",
    certificateExpires: EXPIRES,
    certificateSigner: "first",
  });
  t.is(state.revision, 1);
});

test("nodes hear of settings and authorities, and never of tokens and users", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ type: "user.add", name: "alice", expires: EXPIRES });
  await cluster.leader.execute({ type: "token.rotate", role: "worker" });
  await cluster.settle();
  const { state } = cluster.nodes[1]!;
  t.deepEqual([state!.settings.size, state!.trust.size, state!.tokens.size, state!.users.size], [1, 1, 0, 0]);
  t.deepEqual(
    ["tokens", "users", "allocations", "ports"].filter((kind) => (NODE_KINDS as string[]).includes(kind)),
    [],
  );
});

const BAD_SETTINGS: [what: string, settings: object, message: RegExp][] = [
  ["a pool that is none", { pool: "10.0.0.0" }, /^pool: '10\.0\.0\.0' is not an IPv4 prefix/],
  ["a pool without room", { pool: "10.0.0.0/24" }, /^pool: a pool is \/19 or larger/],
  ["a domain with a meaning of its own", { domain: "localhost" }, /^domain: that domain has a meaning of its own/],
  ["a time-out without sense", { livenessMs: 10 }, /^livenessMs: at least 1s/],
  ["a setting that there is not", { colour: "red" }, /^colour: no such field/],
];
for (const [what, settings, message] of BAD_SETTINGS) {
  test(`no cluster begins with ${what}`, async (t) => {
    const store = new MemoryStore();
    await t.throwsAsync(found(store, { identity: identityOf(1), newId: countingIds(), settings }), { message });
    t.is((await store.load()).revision, 0, "nothing half-made");
  });
}

test("an empty store leads nothing, and says what makes a cluster", async (t) => {
  const leader = new Leader({
    ...{ store: new MemoryStore(), clock: new Cluster().clock, log: silentLog, newId: countingIds() },
    config: { reservedPorts: [] },
  });
  await t.throwsAsync(leader.start(), {
    instanceOf: CannotLeadError,
    message:
      /no cluster is here \(run 'overlayctl init'.*'overlayctl join ADDRESS --token TOKEN'.*'overlayctl cluster import FILE'/,
  });
});

test("a cluster is begun anew by its first manager alone: then another node has joined, and it is refused", async (t) => {
  const cluster = await Cluster.start(1);
  const { id } = cluster.leader.state.cluster!;
  await cluster.leader.stop();
  await found(cluster.store, { identity: identityOf(1), newId: countingIds() });
  await cluster.lead();
  t.is(cluster.leader.state.cluster!.id, id);
  t.is(cluster.leader.state.nodes.size, 1);
  await new FakeNode(identityOf(2)).join(cluster.leader);
  await cluster.leader.stop();
  const again = found(cluster.store, { identity: identityOf(1), newId: countingIds() });
  await t.throwsAsync(again, { message: /there is a cluster here already, .*node 'node2' is of it/ });
});

test("the state of a version before is taken over, with its ids, services and tasks", async (t) => {
  const cluster = await Cluster.start(2);
  const workload = { runtime: "process" as const, command: ["true"] };
  await cluster.leader.execute({ type: "service.create", name: "s", workload, replicas: 2 });
  await cluster.settle();
  const before = { ids: [cluster.node("node1").id, cluster.node("node2").id], tasks: cluster.tasks("s") };
  const { id } = cluster.leader.state.cluster!;
  await cluster.leader.stop();
  // As that version left it.
  const { store } = cluster;
  const old = await store.load();
  const bare = [...old.nodes.values()].map(
    ({ keyDigest: _, certificateExpires: __, version: ___, role: ____, ...row }) => row,
  );
  await store.commit(
    [
      ...bare.map((row) => ({ kind: "nodes", key: row.id, row }) as never),
      ...(["settings", "trust", "tokens"] as const).flatMap((kind) =>
        [...old[kind].keys()].map((key) => ({ kind, key, row: null }) as never),
      ),
    ],
    old.revision + 1,
  );
  const leader = new Leader({
    store,
    clock: cluster.clock,
    log: silentLog,
    newId: countingIds(),
    config: { reservedPorts: [] },
  });
  await t.throwsAsync(leader.start(), {
    instanceOf: CannotLeadError,
    message: /of a version before nodes had certificates \('overlayctl init' on this node takes it over/,
  });
  const elsewhere = found(store, {
    identity: identityOf(1),
    newId: countingIds(),
    settings: { pool: "10.128.0.0/10" },
  });
  await t.throwsAsync(elsewhere, {
    instanceOf: UserError,
    message:
      /the pool 10\.128\.0\.0\/10 does not hold 10\.192\.0\.0\/20 of network 'ingress'.*overlayctl init --pool POOL/,
  });
  await cluster.lead();
  t.is(cluster.leader.state.cluster!.id, id);
  t.like(cluster.node("node1"), { id: before.ids[0], role: "manager" });
  t.like(cluster.node("node2"), { id: before.ids[1], role: "worker", keyDigest: null });
  for (const node of cluster.nodes) await node.join(cluster.leader);
  await cluster.settle();
  t.deepEqual([cluster.node("node1").id, cluster.node("node2").id], before.ids);
  t.deepEqual(
    cluster.tasks("s").map(({ id, nodeId, addresses }) => ({ id, nodeId, addresses })),
    before.tasks.map(({ id, nodeId, addresses }) => ({ id, nodeId, addresses })),
  );
});

test("a node that joins again with its key is the same, and a name that is taken is refused with the way out", async (t) => {
  const cluster = await Cluster.start(2);
  const { id } = cluster.node("node2");
  const again = await cluster.leader.admit({ ...joining(identityOf(2)), certificateExpires: EXPIRES + 1 });
  t.like(again, { id, certificateExpires: EXPIRES + 1 });
  const other = { ...joining({ ...identityOf(3), name: "Node2" }), keyDigest: "another" };
  await t.throwsAsync(cluster.leader.admit(other), {
    instanceOf: UserError,
    message: /the name 'Node2' is that of a node with another key.*'overlayctl node rm node2'/,
  });
});

test("a removed node's id is never another's, its session is refused, and its renewal too", async (t) => {
  const cluster = await Cluster.start(2);
  const { id } = cluster.node("node2");
  cluster.nodes[1]!.lose();
  const removed = cluster.nodes.pop()!;
  await cluster.pass(30_000);
  await cluster.leader.execute({ type: "node.remove", name: "node2" });
  const request = { ...removed.identity, protocol: PROTOCOL };
  const refusal = { message: /this node was removed from the cluster: 'overlayctl leave --force' on it/ };
  await t.throwsAsync(cluster.leader.sessions.open({ id }, request, deafSink), refusal);
  await t.throwsAsync(cluster.leader.renewed(id, { certificateExpires: EXPIRES }), refusal);
  await cluster.settle();
  const again = await cluster.leader.admit(joining(removed.identity));
  t.not(again.id, id);
});

const VERSIONS: [protocol: number, message: RegExp][] = [
  [0, /this node speaks protocol 0, and the leader knows 1 at least: update overlayd on the node/],
  [PROTOCOL + 1, /this node speaks protocol 2, and the leader knows 1 at most: update overlayd on the managers first/],
];
for (const [protocol, message] of VERSIONS) {
  test(`a session of protocol ${protocol} is refused in words`, async (t) => {
    const cluster = await Cluster.start(1);
    const { id } = cluster.node("node1");
    const request = { ...identityOf(1), protocol };
    await t.throwsAsync(cluster.leader.sessions.open({ id }, request, deafSink), { instanceOf: UserError, message });
  });
}

test("a node keeps the name under which it joined", async (t) => {
  const cluster = await Cluster.start(2);
  const { id } = cluster.node("node2");
  const request = { ...identityOf(2), name: "other", protocol: PROTOCOL };
  await t.throwsAsync(cluster.leader.sessions.open({ id }, request, deafSink), {
    message: /this node joined as 'node2', and its name is 'other' now: set 'node\.name: node2'/,
  });
});

test("what an agent speaks is in its node's row", async (t) => {
  const cluster = await Cluster.start(1);
  cluster.nodes[0]!.features = ["sealed"];
  await cluster.nodes[0]!.join(cluster.leader);
  t.deepEqual(cluster.node("node1").version, { protocol: PROTOCOL, features: ["sealed"] });
});

test("roles change, and the last manager stays one", async (t) => {
  const cluster = await Cluster.start(2);
  const demote: CommandInput = { type: "node.demote", name: "node1" };
  await t.throwsAsync(cluster.leader.execute(demote), {
    message: /node 'node1' is the only manager: 'overlayctl node promote NAME'/,
  });
  await cluster.leader.execute({ type: "node.promote", name: "node2" });
  t.is(cluster.node("node2").role, "manager");
  await cluster.leader.execute(demote);
  t.is(cluster.node("node1").role, "worker");
});

test("tokens are made anew one by one, and users come and go by name", async (t) => {
  let count = 0;
  const cluster = new Cluster();
  await cluster.lead();
  const { store, clock } = cluster;
  await cluster.leader.stop();
  const newSecret = () => String(++count).padStart(25, "0");
  const leader = new Leader({
    store,
    clock,
    log: silentLog,
    newId: countingIds(),
    newSecret,
    config: { reservedPorts: [] },
  });
  await leader.start();
  const manager = leader.state.tokens.get("manager")!;
  await leader.execute({ type: "token.rotate", role: "worker" });
  t.is(leader.state.tokens.get("worker")!.secret, newSecret().replace("2", "1"));
  t.is(leader.state.tokens.get("manager"), manager);
  const expires = clock.now() + 1000;
  const { id } = await leader.execute({ type: "user.add", name: "alice", expires });
  t.like(leader.state.users.get(id), { name: "alice", expires });
  await t.throwsAsync(leader.execute({ type: "user.add", name: "Alice", expires }), {
    message: /'Alice' exists already/,
  });
  await t.throwsAsync(leader.execute({ type: "user.add", name: "bob", expires: clock.now() }), {
    message: /in the future/,
  });
  await t.throwsAsync(leader.execute({ type: "user.remove", name: "alicia" }), {
    message: /no user 'alicia'; did you mean 'alice'/,
  });
  await leader.execute({ type: "user.remove", name: "alice" });
  t.is(leader.state.users.size, 0);
});

test("the session time-out may change while the cluster runs: silence is judged by the new one", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ type: "settings.update", livenessMs: 60_000 });
  t.like(cluster.leader.settings, { livenessMs: 60_000, pool: "10.192.0.0/10" });
  cluster.nodes[1]!.lose();
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 3000) {
      await cluster.clock.advance(3000);
      await cluster.nodes[0]!.report();
    }
  };
  await pass(45_000);
  t.is(cluster.node("node2").state, "ready");
  await cluster.leader.execute({ type: "settings.update", livenessMs: 5_000, workerWrites: true });
  await pass(6000);
  t.is(cluster.node("node2").state, "down");
  t.true(cluster.leader.settings.workerWrites);
  await t.throwsAsync(cluster.leader.execute({ type: "settings.update", pool: "10.0.0.0/8" } as never), {
    message: /no such field/,
  });
});
