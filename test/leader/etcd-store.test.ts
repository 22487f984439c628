// The store in etcd, against real ones: fencing, answers that are lost, sizes, damage, and the common suite.
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { type Change, INGRESS_NETWORK } from "../../src/cluster/schema.ts";
import { emptyState, stateToJson } from "../../src/cluster/state.ts";
import { EtcdClient } from "../../src/leader/etcd-client.ts";
import { EtcdError } from "../../src/leader/etcd-error.ts";
import { EtcdStore } from "../../src/leader/etcd-store.ts";
import { CannotLeadError, type Leadership } from "../../src/leader/store.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { UserError, type UserErrorCode } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { networkRow, putNetwork, SERVICE } from "../cluster/rows.ts";
import { storeSuite } from "./store-suite.ts";
import { TestEtcd } from "./test-etcd.ts";

let etcd: TestEtcd;
test.before(async () => {
  etcd = await TestEtcd.start();
});
// A test that fails leaves its stores and its way to etcd open.
test.after.always(async () => {
  for (const way of ways) way.close();
  await Promise.all(opened.map((store) => store.close()));
  await etcd?.remove();
});

let prefixes = 0;
const newPrefix = () => `/test/${++prefixes}`;

const opened: EtcdStore[] = [];
const ways: Way[] = [];

/** The lease of tests in which it runs out. */
const SHORT_LEASE_SECONDS = 10;

/** Beside busy processors etcd may be silent for seconds, so the lease is longer than the usual one. */
function open(prefix: string, self = "node1", client = etcd.client(), leaseSeconds = 60): EtcdStore {
  const store = new EtcdStore({ client, prefix, self, leaseSeconds, clock: systemClock, log: silentLog });
  opened.push(store);
  return store;
}

/** Clusters that were made before they had ids are named after it. */
const INGRESS = { ...networkRow(1), name: INGRESS_NETWORK };

storeSuite("etcd", async () => {
  const prefix = newPrefix();
  return { open: async () => open(prefix), remove: async () => {} };
});

test("a state that does not say which cluster it is of is of none: the move to it is not over", async (t) => {
  const store = open(newPrefix());
  await store.campaign();
  const state = emptyState();
  state.apply([{ kind: "networks", key: INGRESS.id, row: INGRESS }], 9);
  await store.fill(state);
  t.is((await store.load()).cluster, null);
  await store.identify({ id: "c".repeat(25), epoch: 3 });
  t.deepEqual((await store.load()).cluster, { id: "c".repeat(25), epoch: 3 });
  await store.close();
});

/** A row of about so many bytes. */
function putLarge(i: number, bytes: number): Change {
  const id = `s${String(i).padStart(24, "0")}`;
  return { kind: "services", key: id, row: { ...SERVICE, id, labels: { text: "x".repeat(bytes) } } };
}

/** Resolves with the reason when the leadership is lost. */
async function lossOf({ lost }: Leadership): Promise<string> {
  if (!lost.aborted) await once(lost, "abort");
  return (lost.reason as Error).message;
}

async function refused(t: ExecutionContext, call: Promise<unknown>, code: UserErrorCode, words: RegExp): Promise<void> {
  const error = await t.throwsAsync(call, { instanceOf: UserError });
  t.is((error as UserError).code, code, error!.message);
  t.regex(error!.message, words);
}

test("one of several candidates leads, the others hear who, and one follows when it gives the leadership back", async (t) => {
  const prefix = newPrefix();
  const stores = ["node1", "node2", "node3"].map((self) => open(prefix, self));
  const campaigns = stores.map(async (store, i) => ({ i, leadership: await store.campaign() }));
  const first = await Promise.race(campaigns);
  t.true(first.leadership.isCertain());
  const others = stores.filter((_, i) => i !== first.i);
  while (others.some(({ leader }) => leader !== `node${first.i + 1}`)) await delay(20);
  await stores[first.i]!.load();
  await stores[first.i]!.commit([putNetwork(1)], 1);
  await stores[first.i]!.close();
  t.true(first.leadership.lost.aborted);
  t.false(first.leadership.isCertain());
  const second = await Promise.race(campaigns.filter((_, i) => i !== first.i));
  t.is((await stores[second.i]!.load()).networks.size, 1);
  t.is(stores[second.i]!.leader, `node${second.i + 1}`);
  await Promise.all(stores.map((store) => store.close()));
  await t.throwsAsync(campaigns[3 - first.i - second.i]!, { message: "the store is closed" });
});

test("a leader whose key is another's cannot write, and finds out that it leads no longer", async (t) => {
  const prefix = newPrefix();
  const [old, next] = [open(prefix, "old"), open(prefix, "next")];
  const leadership = await old.campaign();
  await old.load();
  await old.commit([putNetwork(1)], 1);
  const client = etcd.client();
  await client.txn({ compare: [], writes: [{ remove: `${prefix}/leader` }], otherwise: [] });
  await next.campaign();
  t.is((await next.load()).revision, 1);
  await next.commit([putNetwork(2)], 2);
  await refused(t, old.commit([putNetwork(3)], 2), 503, /nothing was changed: another manager may lead/);
  t.regex(await lossOf(leadership), /another manager may lead/);
  await refused(t, old.commit([putNetwork(4)], 2), 503, /nothing was changed/);
  await next.commit([putNetwork(5)], 3);
  t.deepEqual((await next.load()).networks.size, 3, "nothing of the old leader's is there");
  await Promise.all([old.close(), next.close()]);
});

test("a head that another process changed ends the leadership, and nothing is written over it", async (t) => {
  const prefix = newPrefix();
  const store = open(prefix);
  const leadership = await store.campaign();
  await store.load();
  await store.commit([putNetwork(1)], 1);
  await etcd.client().txn({ compare: [], writes: [{ put: `${prefix}/head`, value: "{}" }], otherwise: [] });
  await refused(t, store.commit([putNetwork(2)], 2), 503, /another process has changed the state in etcd/);
  await lossOf(leadership);
  await store.close();
});

/** A way to an etcd that can be cut: answers are held back from then on, and requests too when told. */
class Way {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Whether what etcd says gets through. */
  answers = true;
  /** Called when something was sent to etcd. */
  sent: () => void = () => {};

  private constructor(server: Server) {
    this.#server = server;
  }

  static async to(endpoint: string): Promise<Way> {
    const server = createServer();
    const way = new Way(server);
    const port = Number(endpoint.split(":")[1]);
    server.on("connection", (near) => {
      const far = connect(port, "127.0.0.1");
      for (const socket of [near, far]) {
        way.#sockets.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => (socket === near ? far : near).destroy());
      }
      near.on("data", (bytes) => {
        far.write(bytes);
        way.sent();
      });
      far.on("data", (bytes) => way.answers && near.write(bytes));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return way;
  }

  get endpoint(): string {
    return `127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** Ends all connections; new ones may come. */
  breakConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  close(): void {
    this.#server.close();
    this.breakConnections();
  }
}

async function openBy(
  prefix: string,
  leaseSeconds?: number,
): Promise<{ way: Way; store: EtcdStore; leadership: Leadership }> {
  const way = await Way.to(etcd.endpoints[0]!);
  ways.push(way);
  const store = open(prefix, "cut", new EtcdClient({ endpoints: [way.endpoint], tls: etcd.tls }), leaseSeconds);
  const leadership = await store.campaign();
  await store.load();
  return { way, store, leadership };
}

test("a commit whose answer was lost is found to be there, and is not done twice", async (t) => {
  const prefix = newPrefix();
  const { way, store, leadership } = await openBy(prefix);
  await store.commit([putNetwork(1)], 1);
  way.answers = false;
  const second = store.commit([putNetwork(2)], 2);
  const other = etcd.client();
  while (!(await other.range({ key: `${prefix}/head` })).rows[0]!.value.includes('"revision":2')) await delay(20);
  way.breakConnections();
  way.answers = true;
  await second;
  t.false(leadership.lost.aborted);
  await store.commit([putNetwork(3)], 3);
  const head = (await other.range({ key: `${prefix}/head` })).rows[0]!;
  const row = (await other.range({ key: `${prefix}/rows/networks/${networkRow(2).id}` })).rows[0]!;
  t.is(row.createRevision, row.modRevision, "it was written once");
  t.true(head.modRevision > row.modRevision);
  await store.close();
});

test("a commit that etcd never got is sent again", async (t) => {
  const { way, store } = await openBy(newPrefix());
  way.sent = () => {
    way.sent = () => {};
    way.breakConnections();
  };
  await store.commit([putNetwork(1)], 1);
  t.is((await store.load()).networks.size, 1);
  await store.close();
});

test("a leader that etcd does not answer gives up before its lease is over, and says of its commit that it is not known", async (t) => {
  const prefix = newPrefix();
  const { way, store, leadership } = await openBy(prefix, SHORT_LEASE_SECONDS);
  await store.commit([putNetwork(1)], 1);
  way.answers = false;
  const cut = systemClock.monotonic();
  const commit = store.commit([putNetwork(2)], 2);
  commit.catch(() => {});
  t.regex(
    await lossOf(leadership),
    /etcd has confirmed it for 6 s no more: etcd at .* (has not answered|cannot be reached)/,
  );
  t.true(systemClock.monotonic() - cut > 3900);
  const [key] = (await etcd.client().range({ key: `${prefix}/leader` })).rows;
  t.is(key!.value, "cut", "its lease lives on");
  await refused(t, commit, 504, /it is not known whether the change was made: look before you ask for it again/);
  const next = open(prefix, "next");
  await next.campaign();
  t.is((await next.load()).networks.size, 2);
  await Promise.all([store.close(), next.close()]);
});

test("a commit that was lost with the leadership is known when etcd can be asked again", async (t) => {
  const prefix = newPrefix();
  const { way, store, leadership } = await openBy(prefix, SHORT_LEASE_SECONDS);
  way.answers = false;
  const commit = store.commit([putNetwork(1)], 1);
  await lossOf(leadership);
  way.answers = true;
  way.breakConnections();
  await t.notThrowsAsync(commit);
  await store.close();
});

test("a leader that was frozen is not certain when it goes on, and does not write after another has led", async (t) => {
  const prefix = newPrefix();
  const client = etcd.client();
  // A clock that jumps is what a process sees that was stopped and continued: its timers have not run yet.
  let frozenMs = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + frozenMs };
  const frozen = new EtcdStore({ client, prefix, self: "frozen", clock, log: silentLog });
  const leadership = await frozen.campaign();
  await frozen.load();
  await frozen.commit([putNetwork(1)], 1);
  t.true(leadership.isCertain());
  frozenMs = 10_000;
  t.false(leadership.isCertain());
  t.false(leadership.lost.aborted);
  await client.txn({ compare: [], writes: [{ remove: `${prefix}/leader` }], otherwise: [] });
  const next = open(prefix, "next");
  await next.campaign();
  await next.load();
  await next.commit([putNetwork(2)], 2);
  await refused(t, frozen.commit([putNetwork(3)], 2), 503, /nothing was changed/);
  t.is((await next.load()).networks.size, 2);
  await Promise.all([frozen.close(), next.close()]);
});

test("a change that etcd would not take whole is refused before it is sent, and leaves the store usable", async (t) => {
  const store = open(newPrefix());
  const leadership = await store.campaign();
  await store.load();
  await refused(
    t,
    store.commit([putLarge(1, 9 * 1024 * 1024)], 1),
    413,
    /too large for etcd: 1 row with \d+ bytes, and one change has at most \d+ rows and \d+ bytes; nothing was changed/,
  );
  const many = Array.from({ length: 70_000 }, (_, i) => ({ kind: "tasks" as const, key: String(i), row: null }));
  await refused(t, store.commit(many, 1), 413, /70000 rows/);
  t.false(leadership.lost.aborted);
  await store.commit([putNetwork(1)], 1);
  await store.close();
});

test("a commit of as many rows as a large service makes is one transaction", async (t) => {
  const store = open(newPrefix());
  await store.campaign();
  await store.load();
  const rows = Array.from({ length: 12_300 }, (_, i) => putNetwork(i));
  await store.commit(rows, 1);
  t.is((await store.load()).networks.size, rows.length);
  await store.commit(rows.map(({ kind, key }) => ({ kind, key, row: null })) as typeof rows, 2);
  t.is((await store.load()).networks.size, 0);
  await store.close();
});

test("a large state is moved in by several steps, and read back in pages", async (t) => {
  const store = open(newPrefix());
  await store.campaign();
  await store.load();
  await store.commit([putNetwork(1)], 1);
  const state = emptyState();
  state.apply(
    Array.from({ length: 100 }, (_, i) => putLarge(i, 300_000)),
    77,
  );
  state.cluster = { id: "c".repeat(25), epoch: 3 };
  await store.fill(state);
  t.deepEqual(stateToJson(await store.load()), stateToJson(state));
  await store.commit([putNetwork(500)], 78);
  const { networks, services } = await store.load();
  t.deepEqual([networks.size, services.size], [1, 100]);
  await store.close();
});

for (const [what, damage] of [
  ["a row that is missing", { remove: `rows/networks/${networkRow(1).id}` }],
  ["a row too many", { put: `rows/networks/${networkRow(7).id}`, value: JSON.stringify(networkRow(7)) }],
  [
    "a row that was changed",
    { put: `rows/networks/${networkRow(1).id}`, value: JSON.stringify({ ...networkRow(1), vni: 9 }) },
  ],
  ["a row that is no row", { put: `rows/networks/${networkRow(1).id}`, value: '{"id":1}' }],
  ["a head that is none", { put: "head", value: "?" }],
] as const) {
  test(`${what} is found when the state is loaded, and the message says what to do`, async (t) => {
    const prefix = newPrefix();
    const store = open(prefix);
    await store.campaign();
    await store.load();
    await store.commit([putNetwork(1), putNetwork(2)], 1);
    const write =
      "remove" in damage ? { remove: `${prefix}/${damage.remove}` } : { ...damage, put: `${prefix}/${damage.put}` };
    await etcd.client().txn({ compare: [], writes: [write], otherwise: [] });
    const error = await t.throwsAsync(store.load(), { instanceOf: CannotLeadError });
    t.regex(error!.message, /the state under .* in etcd is damaged: .*overlayctl cluster import FILE/);
    await store.close();
  });
}

test("a database at its quota refuses with 507 and changes nothing", async (t) => {
  const small = await TestEtcd.start({ flags: ["--quota-backend-bytes", String(4 * 1024 * 1024)] });
  t.teardown(() => small.remove());
  const client = small.client();
  const store = open("/q", "node1", client);
  await store.campaign();
  await store.load();
  let revision = 0;
  const fill = async () => {
    for (;;) {
      await store.commit([putLarge(0, 200_000)], revision + 1); // what was before it stays until etcd is compacted
      revision++;
    }
  };
  await refused(t, fill(), 507, /database space exceeded .*nothing was changed/);
  t.true(revision > 3);
  t.is((await store.load()).revision, revision);
  const [alarm] = await client.alarms();
  t.is(alarm!.alarm, "NOSPACE");
  const { revision: now } = await client.range({ key: "/q/head" });
  await client.compact(now);
  await client.defragment();
  await client.disarm(alarm!);
  await store.commit([putNetwork(2)], revision + 1);
  t.is((await store.load()).networks.size, 1);
  await store.close();
  client.close();
});

test("the commit with which the database reaches its quota is done, though etcd answers that it has no space", async (t) => {
  const client = etcd.client();
  let isAtQuota = false;
  const lying = Object.create(client) as EtcdClient;
  lying.txn = async (...asked) => {
    const answer = await client.txn(...asked);
    if (isAtQuota) throw new EtcdError("no-space", "database space exceeded");
    return answer;
  };
  for (const name of ["range", "grantLease", "keepAlive", "revokeLease", "compact", "close"] as const) {
    Object.defineProperty(lying, name, { value: client[name].bind(client) });
  }
  const prefix = newPrefix();
  const store = open(prefix, "node1", lying);
  await store.campaign();
  await store.load();
  isAtQuota = true;
  await store.commit([putNetwork(1)], 1);
  isAtQuota = false;
  await store.commit([putNetwork(2)], 2);
  t.is((await store.load()).revision, 2);
  await store.close();
});

test("three members: the state goes on without one, waits for a majority, and is there with the others' disks", async (t) => {
  const three = await TestEtcd.start({ members: 3 });
  t.teardown(() => three.remove());
  const prefix = "/three";
  const store = open(prefix, "node1", three.client(0), SHORT_LEASE_SECONDS);
  const leadership = await store.campaign();
  await store.load();
  await store.commit([putNetwork(1)], 1);
  // Without etcd's own leader its members would choose for longer than this leadership lasts.
  const { leader, memberId } = await three.client(1).status();
  const follower = leader === memberId ? 2 : 1;
  await three.kill(follower);
  await store.commit([putNetwork(2)], 2);
  await three.kill(3 - follower);
  const waiting = store.commit([putNetwork(3)], 3);
  waiting.catch(() => {});
  await lossOf(leadership);
  await refused(t, waiting, 504, /not known/);
  three.launch(1);
  three.launch(2);
  await three.ready(1);
  const next = open(prefix, "node2", three.client(1));
  await next.campaign();
  const { networks, revision } = await next.load();
  t.true(networks.has(networkRow(1).id) && networks.has(networkRow(2).id));
  t.is(networks.size, revision);
  await next.commit([putNetwork(9)], revision + 1);
  await Promise.all([store.close(), next.close()]);
});
