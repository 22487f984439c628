// What several managers cost: commits of their store, an etcd of three members, beside those of one manager's LMDB file. All of
// them have the same machine and disk.
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { openEmbeddedStore } from "../src/leader/embedded-store.ts";
import type { EtcdClient } from "../src/leader/etcd-client.ts";
import { EtcdStore } from "../src/leader/etcd-store.ts";
import { Leader } from "../src/leader/leader.ts";
import type { Store } from "../src/leader/store.ts";
import { systemClock } from "../src/lib/clock.ts";
import { silentLog } from "../src/lib/log.ts";
import { newId } from "../src/lib/random.ts";
import { found, SEAL_KEY } from "../test/fakes/founding.ts";
import { LEADER_CONFIG } from "../test/leader/cluster-fixture.ts";
import { identityOf } from "../test/leader/fake-node.ts";
import { TestEtcd } from "../test/leader/test-etcd.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import type { Teardown } from "./set-up.ts";

const MEMBERS = 3;
const AT_ONCE = 64;
/** The disk of the machine, and no tmpfs: a commit waits for it. */
const DISK = "/var/tmp";

export async function* managerExperiments({ seconds }: BenchOptions, teardown: Teardown): AsyncGenerator<Experiment> {
  const directory = await mkdtemp(join(DISK, "overlayd-bench-"));
  teardown.push(() => rm(directory, { recursive: true }));
  const etcd = await TestEtcd.start({ members: MEMBERS, on: directory });
  teardown.push(() => etcd.remove());
  const { leading, other } = await membersOf(etcd);
  const through = (client: EtcdClient, prefix: string): Promise<Leader> => {
    const options = { client, prefix, sealKey: SEAL_KEY, self: "bench", clock: systemClock, log: silentLog };
    return lead(new EtcdStore(options), teardown);
  };
  const managers = [
    { name: "three managers on etcd, the leader's member leads", leader: await through(leading, "/leading") },
    { name: "one on LMDB", leader: await lead(await openEmbeddedStore(join(directory, "store"), SEAL_KEY), teardown) },
    { name: "three managers on etcd, another member leads", leader: await through(other, "/other") },
  ];
  yield {
    group: "managers",
    title: "commits of the store",
    metrics: [
      { id: "commits a second, one after the other", unit: "/s", digits: 0, limit: LIMITS.commits },
      { id: `commands a second, ${AT_ONCE} at a time`, unit: "/s", digits: 0 },
    ],
    contenders: managers.map(({ name, leader }) => ({ name, measure: () => measure(leader, seconds) })),
  };
}

/** The member that leads etcd, as that of the manager that leads does when all is well, and one that follows it. */
async function membersOf(etcd: TestEtcd): Promise<{ leading: EtcdClient; other: EtcdClient }> {
  let leading: EtcdClient | undefined;
  let other: EtcdClient | undefined;
  for (let i = 0; i < MEMBERS; i++) {
    const client = etcd.client(i);
    const { memberId, leader } = await client.status();
    if (memberId === leader) leading = client;
    else other = client;
  }
  return { leading: leading!, other: other! };
}

async function lead(store: Store, teardown: Teardown): Promise<Leader> {
  teardown.push(() => store.close());
  await found(store, { identity: identityOf(1), newId });
  const leader = new Leader({ store, clock: systemClock, log: silentLog, newId, config: LEADER_CONFIG });
  await leader.start();
  teardown.push(() => leader.stop());
  return leader;
}

let names = 0;

/** Commands that change one row: a service is made, and removed again outside of the count. */
async function measure(leader: Leader, seconds: number): Promise<Sample> {
  const alone = await perSecond(leader, seconds, 1);
  const together = await perSecond(leader, seconds, AT_ONCE);
  return { "commits a second, one after the other": alone, [`commands a second, ${AT_ONCE} at a time`]: together };
}

async function perSecond(leader: Leader, seconds: number, atOnce: number): Promise<number> {
  const made: string[] = [];
  const began = performance.now();
  const until = began + 1000 * seconds;
  await inLanes(atOnce, async () => {
    while (performance.now() < until) {
      const name = `s${++names}`;
      await leader.execute({
        type: "service.create",
        ...{ name, replicas: 0, endpointMode: "dnsrr" },
        workload: { runtime: "process", command: ["true"] },
      });
      made.push(name);
    }
  });
  const rate = (1000 * made.length) / (performance.now() - began);
  await inLanes(AT_ONCE, async () => {
    for (let name = made.pop(); name !== undefined; name = made.pop())
      await leader.execute({ type: "service.remove", name });
  });
  return rate;
}

async function inLanes(count: number, lane: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: count }, lane));
}
