// Sessions over HTTP on loopback, with the embedded store beneath.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import test from "ava";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { Leader } from "../../src/leader/leader.ts";
import type { Store } from "../../src/leader/store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { UserError } from "../../src/lib/errors.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { LeaderCalls } from "../../src/session/leader-calls.ts";
import { Session } from "../../src/session/session.ts";
import type { Credentials } from "../../src/trust/credentials.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { found, joining, SEAL_KEY } from "../fakes/founding.ts";
import { type Answer, managerKeys, SecureManager } from "../fakes/secure-manager.ts";
import { identityOf } from "../leader/fake-node.ts";
import { DEADLINE_MS, waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const until = (what: string, isSo: () => boolean): Promise<true | undefined> =>
  waitFor(() => (isSo() ? true : undefined), { what });

/** A node's end. */
interface NodeEnd {
  session: Session;
  calls: LeaderCalls;
}

class Manager {
  readonly directory: string;
  port = 0;
  leader!: Leader;
  readonly logged: string[] = [];
  readonly #credentials = new Map<number, Credentials>();
  #keys: ManagerKeys | undefined;
  #store!: Store;
  #server!: SecureManager;

  constructor(directory: string) {
    this.directory = directory;
  }

  static async start(): Promise<Manager> {
    const manager = new Manager(temporaryDirectory("session"));
    await manager.start();
    return manager;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    this.#store = await openEmbeddedStore(join(this.directory, "store"), SEAL_KEY);
    const isNew = (await this.#store.load()).revision === 0;
    if (isNew) await found(this.#store, { identity: identityOf(1), newId });
    const config = { reservedPorts: [] };
    this.leader = new Leader({ store: this.#store, clock: systemClock, log: silentLog, newId, config });
    await this.leader.start();
    const log = createLog("info", { write: (line: string) => this.logged.push(line) });
    this.#keys ??= await managerKeys(this.leader.state.cluster!.id);
    this.#server = await SecureManager.start(this.leader, {
      clock: systemClock,
      port: this.port,
      log,
      keys: this.#keys,
    });
    this.port = this.#server.port;
  }

  async stop(): Promise<void> {
    await this.leader.stop();
    await this.#server.close();
    await this.#store.close();
  }

  /** The certificate of the node, which joins if it has none. */
  async credentials(i: number): Promise<Credentials> {
    const known = this.#credentials.get(i);
    if (known !== undefined) return known;
    const made = await this.#server.credentialsOf(await this.leader.admit(joining(identityOf(i))));
    this.#credentials.set(i, made);
    return made;
  }

  /** The server's answer to a request of the first node. */
  async ask(method: string, path: string, body?: string): Promise<Answer> {
    return this.#server.ask(await this.credentials(1), method, path, body);
  }

  async node(i: number, changed: Partial<ConstructorParameters<typeof Session>[0]> = {}): Promise<NodeEnd> {
    const transport = this.#server.transport(await this.credentials(i));
    const session = new Session({
      identity: identityOf(i),
      managers: [this.address],
      snapshotPath: join(this.directory, `snapshot-${i}`),
      clock: systemClock,
      log: silentLog,
      transport,
      ...changed,
    });
    session.onChanges(() => session.reportApplied(session.live.revision));
    session.statusReports.complete();
    await session.start();
    return { session, calls: new LeaderCalls({ session, transport, clock: systemClock }) };
  }

  async remove(nodes: NodeEnd[]): Promise<void> {
    for (const { session } of nodes) await session.stop();
    await this.stop();
    await rm(this.directory, { recursive: true });
  }
}

test("nodes join, a command from one arrives at both, and the barrier resolves", async (t) => {
  const manager = await Manager.start();
  const nodes = [await manager.node(1), await manager.node(2)];
  const sessions = nodes.map(({ session }) => session);
  await until("both are connected", () => sessions.every(({ connected }) => connected));
  const { id, revision } = await nodes[0]!.calls.execute({ type: "network.create", name: "web" });
  t.is(sessions[0]!.state!.networks.get(id)!.name, "web");
  await nodes[1]!.calls.waitApplied(revision, DEADLINE_MS);
  t.is(sessions[1]!.state!.networks.get(id)!.name, "web");
  t.is(sessions[0]!.manager, manager.address);
  await manager.remove(nodes);
});

test("a node that leaves is down at once, and begins no session any more", async (t) => {
  const manager = await Manager.start();
  const nodes = [await manager.node(1), await manager.node(2)];
  const sessions = nodes.map(({ session }) => session);
  await until("both are connected", () => sessions.every(({ connected }) => connected));
  const rows = () => manager.leader.state.nodes;
  const left = sessions[1]!.nodeId!;
  await nodes[1]!.calls.leave(DEADLINE_MS);
  t.is(rows().get(left)!.state, "down");
  await until("its session is over", () => !sessions[1]!.connected);
  await until("the other node hears of it", () => sessions[0]!.state!.nodes.get(left)!.state === "down");
  // Long enough for the pauses between two sessions.
  const { revision } = await nodes[0]!.calls.execute({ type: "network.create", name: "web" });
  await nodes[0]!.calls.waitApplied(revision, DEADLINE_MS);
  t.is(rows().get(left)!.state, "down");
  t.false(sessions[1]!.connected);
  await manager.remove(nodes);
});

test("a node whose leave no leader hears of goes on as before", async (t) => {
  const manager = await Manager.start();
  const node = await manager.node(2);
  const { session, calls } = node;
  await until("it is connected", () => session.connected);
  await manager.stop();
  await t.throwsAsync(calls.leave(DEADLINE_MS), { message: /^no leader answers/ });
  await manager.start();
  await until("it is connected again", () => session.connected);
  t.is(manager.leader.state.nodes.get(session.nodeId!)!.state, "ready");
  await manager.remove([node]);
});

test("the leader's refusals arrive with their code and field", async (t) => {
  const manager = await Manager.start();
  const node = await manager.node(1);
  const { session, calls } = node;
  await until("it is connected", () => session.connected);
  const bad = await t.throwsAsync(calls.execute({ type: "network.create", name: "a b" }), { instanceOf: UserError });
  t.deepEqual([(bad as UserError).code, (bad as UserError).field], [400, "name"]);
  const missing = await t.throwsAsync(calls.execute({ type: "service.remove", name: "x" }), {
    instanceOf: UserError,
  });
  t.deepEqual([(missing as UserError).code, missing!.message], [404, "there is no service 'x'"]);
  await manager.remove([node]);
});

test("a leader that restarts has its sessions and all that was committed again", async (t) => {
  const manager = await Manager.start();
  const node = await manager.node(1);
  const { session, calls } = node;
  await until("it is connected", () => session.connected);
  await calls.execute({ type: "network.create", name: "web" });
  const { networks, nodes } = session.state!;
  const before = { networks: Object.fromEntries(networks), nodes: Object.fromEntries(nodes) };
  await manager.stop();
  await until("it is noticed", () => !session.connected);
  const error = await t.throwsAsync(calls.execute({ type: "network.create", name: "x" }), { instanceOf: UserError });
  t.is((error as UserError).code, 503);
  t.true(error!.message.startsWith(`no leader answers (${manager.address}: ECONNREFUSED`), error!.message);
  await manager.start();
  await until("it is connected again", () => session.connected);
  t.deepEqual(Object.fromEntries(session.state!.networks), before.networks);
  t.deepEqual(Object.fromEntries(manager.leader.state.nodes), before.nodes);
  await calls.execute({ type: "network.create", name: "x" });
  await manager.remove([node]);
});

test("a command that finds a leader between two sessions has its change here when it is done", async (t) => {
  const manager = await Manager.start();
  const node = await manager.node(1);
  const { session, calls } = node;
  await until("it is connected", () => session.connected);
  await manager.stop();
  await until("it is noticed", () => !session.connected);
  await manager.start();
  const { id } = await calls.execute({ type: "network.create", name: "web" });
  t.is(session.state!.networks.get(id)?.name, "web");
  await manager.remove([node]);
});

test("a node starts from its snapshot when no leader answers, and not from another node's", async (t) => {
  const manager = await Manager.start();
  const { session: first, calls } = await manager.node(1);
  await until("it is connected", () => first.connected);
  const { revision } = await calls.execute({ type: "network.create", name: "web" });
  await first.stop();
  await manager.stop();
  const { session: again } = await manager.node(1);
  t.is(again.state!.revision, revision);
  t.is(again.nodeId, first.nodeId);
  t.false(again.connected);
  await again.stop();
  const capitals = { ...identityOf(1), name: "NODE1" };
  const { session: same } = await manager.node(1, { identity: capitals });
  t.is(same.nodeId, first.nodeId);
  await same.stop();
  const { session: other } = await manager.node(1, { identity: identityOf(2) });
  t.is(other.state, undefined);
  await other.stop();
  await rm(manager.directory, { recursive: true });
});

const badRequests: { what: string; path: string; method?: string; body?: string; code: number; field?: string }[] = [
  { what: "a body that is no JSON", path: "/v1/commands", body: "{", code: 400 },
  { what: "a command of no known type", path: "/v1/commands", body: '{"type":"x"}', code: 400, field: "type" },
  { what: "an identity without an address", path: "/v1/sessions", body: '{"name":"n"}', code: 400, field: "address" },
  { what: "an empty body", path: "/v1/sessions", code: 400 },
  { what: "a task that is no id", path: "/v1/tasks/..%2f..%2fetc%2fpasswd/log", body: "{}", code: 400 },
  { what: "a session that is no id", path: "/v1/sessions/..%2fx/report", body: "{}", code: 400 },
  {
    what: "a report to a session that is over",
    path: `/v1/sessions/${"x".repeat(25)}/report`,
    body: '{"statuses":[],"full":true,"gone":[],"applied":0}',
    code: 404,
  },
  {
    what: "a report that is none",
    path: `/v1/sessions/${"x".repeat(25)}/report`,
    body: "{}",
    code: 400,
    field: "statuses",
  },
  {
    what: "a barrier without a revision",
    path: "/v1/applied?timeoutMs=1",
    method: "GET",
    code: 400,
    field: "revision",
  },
];

test("a log comes from the task's node by way of the leader, until nobody reads it", async (t) => {
  const manager = await Manager.start();
  const [asking, node2] = [await manager.node(1), await manager.node(2)];
  const { calls, session } = asking;
  await until("both nodes to be known", () => session.state?.nodes.size === 2);
  const workload = { runtime: "process" as const, command: ["true"] };
  const constraints = [`node.name==${identityOf(2).name}`];
  await calls.execute({ type: "service.create", name: "web", workload, constraints });
  await until("the task to be placed", () => [...session.state!.tasks.values()].some(({ nodeId }) => nodeId !== null));
  const [task] = [...session.state!.tasks.values()];
  const query = { follow: true, tail: 3, since: null };
  await t.throwsAsync(calls.readLog(task!.id, query), { message: /does not show logs yet/ });

  const asked: unknown[] = [];
  const source = new PassThrough();
  node2.session.ownLogs.serve(async (id, query) => {
    asked.push([id, query]);
    return source;
  });
  source.write("one\n");
  const log = await calls.readLog(task!.id, query);
  t.deepEqual(asked, [[task!.id, query]]);
  const chunks: string[] = [];
  log.on("data", (chunk: Buffer) => chunks.push(chunk.toString()));
  log.on("error", () => {});
  await until("the first line", () => chunks.join("") === "one\n");
  source.write("two\n");
  await until("the second line", () => chunks.join("") === "one\ntwo\n");
  log.destroy();
  await until("the node to stop reading", () => source.destroyed);

  node2.session.ownLogs.serve(async (_, { progress }) => Readable.from([progress === true ? "3 of 9 MB" : "a log"]));
  t.is(await text(await calls.readLog(task!.id, { ...query, progress: true })), "3 of 9 MB");
  node2.session.ownLogs.serve(async () => Readable.from(["all of it\n"]));
  t.is(await text(await calls.readLog(task!.id, query)), "all of it\n");
  node2.session.ownLogs.serve(async () => {
    throw new UserError(400, "no times");
  });
  await t.throwsAsync(calls.readLog(task!.id, query), { message: "no times", code: 400 } as object);
  await t.throwsAsync(calls.readLog(newId(), query), { message: /there is no task/ });
  await node2.session.stop();
  await t.throwsAsync(calls.readLog(task!.id, query), { message: /node 'node2' (cannot be asked|does not bring)/ });
  await manager.remove([asking]);
});

test("bad requests are answered with the field that is wrong", async (t) => {
  const manager = await Manager.start();
  for (const { what, path, method = "POST", body, code, field } of badRequests) {
    const { status, body: answer } = await manager.ask(method, path, body);
    t.is(status, code, what);
    t.is(answer.field, field, what);
  }
  await manager.remove([]);
});
