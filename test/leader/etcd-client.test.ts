// The client against a real etcd: what the calls answer, and what its errors say.
import { createServer } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import { EtcdClient, endOf } from "../../src/leader/etcd-client.ts";
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

test("an etcd that cannot be reached was sent nothing", async (t) => {
  const nowhere = new EtcdClient({ endpoints: ["127.0.0.1:1"], tls: etcd.tls });
  const { kind, message } = await kindOf(nowhere.status());
  t.is(kind, "unreachable");
  t.regex(message, /etcd at 127\.0\.0\.1:1 cannot be reached: ECONNREFUSED/);
});

test("of several endpoints the next is asked when one cannot be reached", async (t) => {
  const several = new EtcdClient({ endpoints: ["127.0.0.1:1", ...etcd.endpoints], tls: etcd.tls });
  t.regex((await several.status()).version, /^3\./);
  several.close();
});

test("an endpoint that takes connections and says nothing is given up by the deadline, and asked last then", async (t) => {
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  const endpoint = `127.0.0.1:${(silent.address() as { port: number }).port}`;
  const alone = new EtcdClient({ endpoints: [endpoint], tls: etcd.tls });
  const { kind, message } = await kindOf(alone.status({ timeoutMs: 300 }));
  t.deepEqual([kind, message.includes("no answer within 0.3 s")], ["unreachable", true], message);
  const several = new EtcdClient({ endpoints: [endpoint, ...etcd.endpoints], tls: etcd.tls });
  t.regex((await several.status()).version, /^3\./);
  several.close();
  alone.close();
  silent.close();
});

test("a member that is frozen has not answered, which leaves open whether it will", async (t) => {
  const frozen = await TestEtcd.start();
  t.teardown(() => frozen.remove());
  const own = frozen.client();
  await own.status();
  await frozen.freeze(0);
  const abort = new AbortController();
  const call = kindOf(own.status({ signal: abort.signal }));
  await delay(50);
  abort.abort();
  t.is((await call).kind, "unanswered");
  // A new connection comes to nothing, so this one was not sent.
  t.is((await kindOf(own.status({ timeoutMs: 200 }))).kind, "unreachable");
  own.close();
});

test("a certificate of another CA is not accepted, by neither side, and a new one is taken from the next call on", async (t) => {
  const other = await TestEtcd.start();
  t.teardown(() => other.remove());
  const foreign = new EtcdClient({ endpoints: etcd.endpoints, tls: other.tls });
  const server = await kindOf(foreign.status());
  t.is(server.kind, "permission", server.message);
  foreign.setTls({ ...other.tls, ca: etcd.tls.ca });
  const asClient = await kindOf(foreign.status());
  t.is(asClient.kind, "permission", asClient.message);
  t.regex(asClient.message, /do not accept each other's certificates/);
  foreign.setTls(await issueStoreCertificate(etcd.directory, "renewed"));
  t.regex((await foreign.status()).version, /^3\./);
  foreign.close();
});

test("what etcd refuses besides is said in its own words", async (t) => {
  const { kind, message } = await kindOf(put("", "no key"));
  t.is(kind, "refused");
  t.regex(message, /^etcd at 127\.0\.0\.1:\d+: key is not provided$/);
});
