// The client against a real etcd: what the calls answer, and what its errors say.
import { createSecureServer } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { EtcdClient, endOf } from "../../src/leader/etcd-client.ts";
import type { CallOptions } from "../../src/leader/etcd-endpoints.ts";
import { EtcdError, type EtcdErrorKind } from "../../src/leader/etcd-error.ts";
import { issueStoreCertificate } from "./store-certificates.ts";
import { TestEtcd } from "./test-etcd.ts";

let etcd: TestEtcd;
let client: EtcdClient;

test.before(async () => {
  etcd = await TestEtcd.start();
  client = etcd.client();
});
test.after.always(async () => {
  client?.close();
  await etcd?.remove();
});

async function kindOf(call: Promise<unknown>): Promise<{ kind: EtcdErrorKind; message: string }> {
  try {
    await call;
  } catch (error) {
    if (error instanceof EtcdError) return { kind: error.kind, message: error.message };
    throw error;
  }
  throw new Error("the call was not refused");
}

const put = (key: string, value: string) => client.txn({ compare: [], writes: [{ put: key, value }], otherwise: [] });

test("a transaction writes and removes when its compares hold, and reads when one does not", async (t) => {
  const made = await client.txn({
    compare: [{ key: "t/leader", createRevision: 0 }],
    writes: [
      { put: "t/leader", value: "node1" },
      { put: "t/ä", value: "übung" },
    ],
    otherwise: ["t/leader"],
  });
  t.true(made.succeeded);
  t.deepEqual(made.rows, []);
  const again = await client.txn({
    compare: [{ key: "t/leader", createRevision: 0 }],
    writes: [{ put: "t/leader", value: "node2" }],
    otherwise: ["t/leader", "t/none", "t/ä"],
  });
  t.false(again.succeeded);
  t.deepEqual(
    again.rows.map(({ key, value, createRevision }) => [key, value, createRevision]),
    [
      ["t/leader", "node1", made.revision],
      ["t/ä", "übung", made.revision],
    ],
  );
  const fenced = await client.txn({
    compare: [
      { key: "t/leader", createRevision: made.revision },
      { key: "t/ä", modRevision: made.revision },
    ],
    writes: [{ remove: "t/ä" }],
    otherwise: [],
  });
  t.true(fenced.succeeded);
  t.deepEqual((await client.range({ key: "t/ä" })).rows, []);
});

test("a range is read page by page at one revision, whatever is written meanwhile", async (t) => {
  for (let i = 0; i < 5; i++) await put(`p/${i}`, `v${i}`);
  const first = await client.range({ key: "p/", end: endOf("p/"), limit: 3 });
  t.deepEqual([first.rows.map(({ value }) => value), first.more], [["v0", "v1", "v2"], true]);
  await put("p/4", "later");
  const { revision } = first;
  const rest = await client.range({ key: `${first.rows.at(-1)!.key}\0`, end: endOf("p/"), limit: 3, revision });
  t.deepEqual([rest.rows.map(({ value }) => value), rest.more], [["v3", "v4"], false]);
});

test("a lease lives as long as it is kept alive, and takes its keys with it", async (t) => {
  const lease = await client.grantLease(30);
  await client.txn({ compare: [], writes: [{ put: "l/key", value: "x", lease }], otherwise: [] });
  t.is((await client.range({ key: "l/key" })).rows[0]!.lease, lease);
  t.is(await client.keepAlive(lease), 30);
  await client.revokeLease(lease);
  t.deepEqual((await client.range({ key: "l/key" })).rows, []);
  t.is(await client.keepAlive(lease), 0);
  t.is((await kindOf(client.revokeLease(lease))).kind, "not-found");
});

test("members, status and alarms are told", async (t) => {
  const [member] = await client.members();
  t.deepEqual([member!.name, member!.isLearner, member!.peerUrls.length], ["m0", false, 1]);
  const status = await client.status();
  t.is(status.memberId, member!.id);
  t.is(status.leader, member!.id);
  t.regex(status.version, /^3\./);
  t.true(status.dbBytes > 0 && status.dbBytesInUse > 0 && status.raftIndex > 0);
  t.deepEqual(status.errors, []);
  t.deepEqual(await client.alarms(), []);
  t.is((await kindOf(client.removeMember("1"))).kind, "not-found");
  t.is((await kindOf(client.promoteMember("1"))).kind, "not-found");
});

test("another member leads etcd when the one that leads is asked for it, and only then", async (t) => {
  const three = await TestEtcd.start({ members: 3 });
  t.teardown(() => three.remove());
  const clients = [0, 1, 2].map((i) => three.client(i));
  const seen = await Promise.all(clients.map((one) => one.status({ timeoutMs: 60_000 })));
  const first = seen.findIndex(({ memberId, leader }) => memberId === leader);
  const [from, to] = [clients[first]!, (first + 1) % 3];
  const refused = await kindOf(clients[to]!.moveLeader(seen[to]!.memberId));
  t.deepEqual([refused.kind, refused.message.replace(/.*: /, "")], ["refused", "not leader"]);
  t.regex((await kindOf(from.moveLeader("1"))).message, /bad leader transferee/);
  await from.moveLeader(seen[to]!.memberId, { timeoutMs: 60_000 });
  t.is((await from.status()).leader, seen[to]!.memberId);
  for (const one of clients) one.close();
});

test("what was compacted cannot be read, and the file can be made smaller", async (t) => {
  const { revision } = await put("c/key", "before");
  await put("c/key", "after");
  await client.compact(revision + 1);
  await client.defragment();
  t.is((await kindOf(client.range({ key: "c/key", revision }))).kind, "compacted");
});

test("a request beyond what etcd takes is refused, and says which flags there are", async (t) => {
  const writes = [{ put: "big", value: "x".repeat(9 * 1024 * 1024) }];
  const { kind, message } = await kindOf(client.txn({ compare: [], writes, otherwise: [] }, { timeoutMs: 60_000 }));
  t.is(kind, "too-large");
  t.regex(message, /--max-txn-ops and --max-request-bytes/);
});

/** By the JSON gateway, and by gRPC. */
const WAYS: Record<string, (by: EtcdClient, options?: CallOptions) => Promise<unknown>> = {
  "a look": (by, options) => by.status(options),
  "a transaction": (by, options) => by.txn({ compare: [], writes: [{ put: "w", value: "" }], otherwise: [] }, options),
};

for (const [name, call] of Object.entries(WAYS)) {
  test(`${name}: an etcd that cannot be reached was sent nothing`, async (t) => {
    const nowhere = new EtcdClient({ endpoints: ["127.0.0.1:1"], tls: etcd.tls });
    const { kind, message } = await kindOf(call(nowhere));
    t.is(kind, "unreachable");
    t.regex(message, /etcd at 127\.0\.0\.1:1 cannot be reached: ECONNREFUSED/);
  });

  test(`${name}: of several endpoints the next is asked when one cannot be reached`, async (t) => {
    const several = new EtcdClient({ endpoints: ["127.0.0.1:1", ...etcd.endpoints], tls: etcd.tls });
    await t.notThrowsAsync(call(several));
    several.close();
  });

  test(`${name}: an endpoint that says nothing is given up by the deadline, and asked last then`, async (t) => {
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    await new Promise((resolve) => silent.once("listening", resolve));
    const endpoint = `127.0.0.1:${(silent.address() as { port: number }).port}`;
    const alone = new EtcdClient({ endpoints: [endpoint], tls: etcd.tls });
    const { kind, message } = await kindOf(call(alone, { timeoutMs: 300 }));
    t.deepEqual([kind, message.includes("no answer within 0.3 s")], ["unreachable", true], message);
    const several = new EtcdClient({ endpoints: [endpoint, ...etcd.endpoints], tls: etcd.tls });
    await t.notThrowsAsync(call(several));
    several.close();
    alone.close();
    silent.close();
  });

  test(`${name}: a member that is frozen has not answered, which leaves open whether it will`, async (t) => {
    const frozen = await TestEtcd.start();
    t.teardown(() => frozen.remove());
    const own = frozen.client();
    await call(own);
    await frozen.freeze(0);
    const abort = new AbortController();
    const given = kindOf(call(own, { signal: abort.signal }));
    await delay(50);
    abort.abort();
    t.is((await given).kind, "unanswered");
    // A new connection comes to nothing, so this one was not sent.
    t.is((await kindOf(call(own, { timeoutMs: 200 }))).kind, "unreachable");
    frozen.thaw(0);
    await t.notThrowsAsync(call(own, { timeoutMs: 60_000 }));
    own.close();
  });

  test(`${name}: a member that ended is asked by a new connection when it is back`, async (t) => {
    const restarted = await TestEtcd.start();
    t.teardown(() => restarted.remove());
    const own = restarted.client();
    await call(own);
    await restarted.kill(0);
    t.true(["unreachable", "unanswered"].includes((await kindOf(call(own))).kind));
    t.is((await kindOf(call(own))).kind, "unreachable");
    restarted.launch(0);
    await restarted.ready(0);
    await t.notThrowsAsync(call(own));
    own.close();
  });

  test(`${name}: a certificate of another CA is not accepted, by neither side, and a new one is taken from the next call on`, async (t) => {
    const other = await TestEtcd.start();
    t.teardown(() => other.remove());
    const foreign = new EtcdClient({ endpoints: etcd.endpoints, tls: other.tls });
    const server = await kindOf(call(foreign));
    t.is(server.kind, "permission", server.message);
    foreign.setTls({ ...other.tls, ca: etcd.tls.ca });
    const asClient = await kindOf(call(foreign));
    t.is(asClient.kind, "permission", asClient.message);
    t.regex(asClient.message, /do not accept each other's certificates/);
    foreign.setTls(await issueStoreCertificate(etcd.directory, name.replaceAll(" ", "-")));
    await t.notThrowsAsync(call(foreign));
    foreign.close();
  });
}

test("a transaction that is under way ends with the certificates with which it began", async (t) => {
  const own = etcd.client();
  const value = "x".repeat(1024 * 1024);
  const call = own.txn({ compare: [], writes: [{ put: "under way", value }], otherwise: [] }, { timeoutMs: 60_000 });
  own.setTls(etcd.tls);
  t.true((await call).succeeded);
  own.close();
});

test("what answers a transaction and is not etcd is said to be none", async (t) => {
  const { ca, certificate: cert, key } = etcd.tls;
  const server = createSecureServer({ ca, cert, key, requestCert: true }, (_, response) => response.end("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const endpoint = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const other = new EtcdClient({ endpoints: [endpoint], tls: etcd.tls });
  const { kind, message } = await kindOf(other.txn({ compare: [], writes: [], otherwise: [] }));
  t.deepEqual([kind, message], ["refused", `what answers at ${endpoint} is not etcd (HTTP status 200)`]);
  other.close();
});

test("an answer that was cut leaves open what became of the transaction", async (t) => {
  const { ca, certificate: cert, key } = etcd.tls;
  const server = createSecureServer({ ca, cert, key, requestCert: true }, (_, response) => {
    response.writeHead(200, { "content-type": "application/grpc" });
    response.write(Buffer.of(0, 0, 0, 0, 9, 1), () => response.stream.session!.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => server.close());
  const other = new EtcdClient({ endpoints: [`127.0.0.1:${(server.address() as AddressInfo).port}`], tls: etcd.tls });
  t.is((await kindOf(other.txn({ compare: [], writes: [], otherwise: [] }))).kind, "unanswered");
  other.close();
});

test("what etcd refuses besides is said in its own words", async (t) => {
  const { kind, message } = await kindOf(put("", "no key"));
  t.is(kind, "refused");
  t.regex(message, /^etcd at 127\.0\.0\.1:\d+: key is not provided$/);
});
