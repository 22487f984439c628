// An etcd that has used up its quota is made smaller, and takes writes again.
import test from "ava";
import { mendSpace } from "../../src/agent/etcd-access.ts";
import { TestEtcd } from "../leader/test-etcd.ts";

const QUOTA_BYTES = 16 * 1024 * 1024;

test("what is older is forgotten, the file is written anew, and the alarm is taken back", async (t) => {
  const etcd = await TestEtcd.start({ flags: [`--quota-backend-bytes=${QUOTA_BYTES}`] });
  t.teardown(() => etcd.remove());
  const client = etcd.client();
  const { signal } = new AbortController();
  const put = (value: string) => client.txn({ compare: [], writes: [{ put: "/overlayd/a", value }], otherwise: [] });
  t.false(await mendSpace({ client }, signal));
  await t.throwsAsync(async () => {
    for (let i = 0; i < 100; i++) await put(String(i).repeat(500_000));
  });
  t.deepEqual(
    (await client.alarms()).map(({ alarm }) => alarm),
    ["NOSPACE"],
  );
  t.true(await mendSpace({ client }, signal));
  t.deepEqual(await client.alarms(), []);
  await put("small");
  t.true((await client.status()).dbBytes < QUOTA_BYTES);
  client.close();
});
