// Commands and reports that come together: they share a revision, and none of them spoils the others.
import { execFile } from "node:child_process";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextEvents } from "node:timers/promises";
import { promisify } from "node:util";
import test, { type ExecutionContext } from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { type StateJson, stateToJson } from "../../src/cluster/state.ts";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { Leader } from "../../src/leader/leader.ts";
import { StateWriter } from "../../src/leader/state-writer.ts";
import type { Store } from "../../src/leader/store.ts";
import { UserError } from "../../src/lib/errors.ts";
import { cidr } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { networkRow } from "../cluster/rows.ts";
import { found, SEAL_KEY } from "../fakes/founding.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";
import { Cluster } from "./cluster-fixture.ts";
import { identityOf } from "./fake-node.ts";
import { countingIds } from "./ids.ts";
import { violationsOf } from "./invariants.ts";

const POOL = "10.192.0.0/10";
const network = (name: string): CommandInput => ({ type: "network.create", name });
const service = (name: string, rest: object = {}): CommandInput => ({
  type: "service.create",
  name,
  workload: { runtime: "process", command: ["true"] },
  ...rest,
});

/** Counts the commits. */
function counted(store: Store): { commits: number } {
  const counter = { commits: 0 };
  const commit = store.commit.bind(store);
  store.commit = (changes, revision) => {
    counter.commits++;
    return commit(changes, revision);
  };
  return counter;
}

test("commands that come together are one revision and one line to each node, in the order in which they came", async (t) => {
  const cluster = await Cluster.start(2);
  const counter = counted(cluster.store);
  const before = cluster.leader.state.revision;
  const results = await Promise.all([
    cluster.leader.execute(network("a")),
    cluster.leader.execute(service("s", { networks: ["a"] })),
    cluster.leader.execute({ type: "service.scale", name: "s", replicas: 2 }),
  ]);
  t.deepEqual(
    results.map(({ revision }) => revision),
    [before + 1, before + 1, before + 1],
  );
  t.is(counter.commits, 1);
  t.deepEqual(cluster.spread("s"), [1, 1]);
  for (const { state } of cluster.nodes) t.is(state!.revision, before + 1);
});

test("a turn takes no more than a line for the nodes holds, and the rest comes in the next ones", async (t) => {
  const cluster = await Cluster.start(1);
  const before = cluster.leader.state.revision;
  const labels = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`label${i}`, "x".repeat(4000)]));
  const create = (i: number) => cluster.leader.execute(service(`s${i}`, { labels, replicas: 0 }));
  const revisions = (await Promise.all([0, 1, 2, 3, 4].map(create))).map(({ revision }) => revision - before);
  t.deepEqual(revisions, [1, 1, 1, 2, 2]);
  t.is(cluster.nodes[0]!.state!.services.size, 5);
});

test("a command that is refused leaves nothing of what it began, and the others of its turn stand", async (t) => {
  const cluster = await Cluster.start(1);
  const [a, refused, b] = await Promise.allSettled([
    cluster.leader.execute(service("a", { ports: [{ published: 80, target: 80 }] })),
    // Its VIP and its first port were given when its second one is refused.
    cluster.leader.execute(
      service("x", {
        ports: [
          { published: 81, target: 80 },
          { published: 80, target: 80 },
        ],
      }),
    ),
    cluster.leader.execute(service("b", { ports: [{ published: 81, target: 80 }] })),
  ]);
  t.deepEqual([a!.status, refused!.status, b!.status], ["fulfilled", "rejected", "fulfilled"]);
  t.regex(String((refused as PromiseRejectedResult).reason), /80\/tcp is published by service 'a'/);
  t.deepEqual(violationsOf(cluster.leader.state, cidr(POOL)), []);
  t.is(cluster.leader.state.ports.get("81/tcp")!.serviceId, cluster.service("b").id);
  t.deepEqual([...cluster.leader.state.services.values()].map(({ name }) => name).toSorted(), ["a", "b"]);
});

test("work that fails by a fault of ours leaves nothing either, and the rest of its turn stands", async (t) => {
  const rest = { requireLeading: () => {}, complete: () => {}, committed: () => {}, lacking: () => new Set<never>() };
  const writer = new StateWriter({ store: new MemoryStore(), ...rest });
  const [broken, whole] = await Promise.allSettled([
    writer.run((draft) => {
      draft.put("networks", networkRow(1));
      throw new TypeError("broken");
    }),
    writer.run((draft) => draft.put("networks", networkRow(2))),
  ]);
  t.deepEqual([broken!.status, whole!.status], ["rejected", "fulfilled"]);
  t.deepEqual([...writer.state.networks.keys()], [networkRow(2).id]);
  await t.throwsAsync(
    writer.run(() => {
      throw new TypeError("alone");
    }),
    { message: "alone" },
  );
  t.is(writer.state.revision, 1);
});

/** `fill` takes the store's room, `empty` gives it back. */
async function refusesTogether(t: ExecutionContext, leader: Leader, fill: () => unknown, empty: () => unknown) {
  await leader.execute(network("before"));
  const known = stateToJson(leader.state);
  await fill();
  const names = Array.from({ length: 8 }, (_, i) => `s${i}`);
  const labels = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`l${i}`, "x".repeat(4000)]));
  const refused = await Promise.allSettled(
    names.map((name) => leader.execute(service(name, { networks: ["before"], labels, replicas: 3 }))),
  );
  for (const result of refused) {
    const { code, message } = (result as PromiseRejectedResult).reason as UserError;
    t.is(code, 507, message);
  }
  t.deepEqual(stateToJson(leader.state), known);
  await empty();
  const again = await Promise.all(
    names.map((name) => leader.execute(service(name, { networks: ["before"], replicas: 3 }))),
  );
  t.is(new Set(again.map(({ id }) => id)).size, names.length);
  t.is(leader.state.services.size, names.length);
  t.deepEqual(violationsOf(leader.state, cidr(POOL)), []);
}

test("a store that is full in the middle of a turn refuses all commands of it, and takes the next ones", async (t) => {
  const cluster = await Cluster.start(2);
  const set = (full: boolean) => {
    cluster.store.full = full;
  };
  await refusesTogether(
    t,
    cluster.leader,
    () => set(true),
    () => set(false),
  );
});

const isRoot = process.getuid?.() === 0;
/** On the larger disk the store does not ask for the room that another process takes: its own write fails. */
for (const megabytes of [4, 160]) {
  const full = `a disk of ${megabytes} MB that is full in the middle of a turn refuses all commands of it, and takes the next ones`;
  (isRoot ? test : test.skip)(isRoot ? full : `${full} (skipped: needs root)`, async (t) => {
    const directory = temporaryDirectory("group");
    const run = promisify(execFile);
    await run("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m`, "overlayd-test", directory]);
    const file = join(directory, "rest");
    try {
      const config = { reservedPorts: [] };
      const begin = async () => {
        const store = await openEmbeddedStore(join(directory, "store"), SEAL_KEY);
        const newId = countingIds();
        const isNew = (await store.load()).revision === 0;
        if (isNew) await found(store, { identity: identityOf(1), newId, settings: { pool: POOL } });
        const leader = new Leader({ store, clock: new VirtualClock(), log: silentLog, newId, config });
        await leader.start();
        return { store, leader };
      };
      const first = await begin();
      const fill = () => writeFile(file, Buffer.alloc(2 * megabytes * 1024 * 1024)).catch(() => undefined);
      await refusesTogether(t, first.leader, fill, () => rm(file));
      const kept = stateToJson(first.leader.state);
      await first.leader.stop();
      await first.store.close();
      const second = await begin();
      t.deepEqual(sorted(stateToJson(second.leader.state)), sorted(kept), "the disk has what the leader has");
      await second.leader.stop();
      await second.store.close();
    } finally {
      await run("umount", ["--lazy", directory]);
      await rm(directory, { recursive: true });
    }
  });
}

/** The rows of each kind in an order of their own: the store keeps them in another one. */
function sorted(state: StateJson): object {
  const entries = Object.entries(state).map(([key, value]) => [
    key,
    Array.isArray(value) ? value.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1)) : value,
  ]);
  return Object.fromEntries(entries) as object;
}

function keyOf(row: object): string {
  return "id" in row ? String(row.id) : JSON.stringify(Object.entries(row).toSorted());
}

test("a report that says nothing new takes no turn; one that does is there when it is answered", async (t) => {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(service("s", { replicas: 3 }));
  await cluster.settle();
  const counter = counted(cluster.store);
  for (const node of cluster.nodes) {
    let isLater = false;
    setImmediate(() => {
      isLater = true;
    });
    await node.obey();
    t.false(isLater, "a turn begins after the events that are there");
  }
  t.is(counter.commits, 0);
  await cluster.nodes[0]!.report(() => "failed");
  const [task] = cluster.tasks("s").filter(({ nodeId }) => nodeId === cluster.nodes[0]!.id);
  t.is(cluster.leader.state.statuses.get(task!.id)!.state, "failed");
  t.is(counter.commits, 1);
});

test("a report without news after one that is being committed is not taken for the older state", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute(service("s"));
  await cluster.settle();
  const [node] = cluster.nodes;
  // The second says what the leader has, and the first, which says something else, is on its way into the state.
  await Promise.all([node!.report(() => "failed"), node!.report(() => "running")]);
  t.is(cluster.leader.state.statuses.get(cluster.tasks("s")[0]!.id)!.state, "running");
});

test("commands that are too much together for the store's largest commit are done in several, and one that is too large alone is refused", async (t) => {
  const cluster = await Cluster.start(1);
  const most = 12;
  const commit = cluster.store.commit.bind(cluster.store);
  cluster.store.commit = async (changes, revision) => {
    if (changes.length > most) throw new UserError(413, "too many rows");
    return commit(changes, revision);
  };
  const before = cluster.leader.state.revision;
  const names = Array.from({ length: 20 }, (_, i) => `s${i}`);
  const made = await Promise.all(names.map((name) => cluster.leader.execute(service(name, { replicas: 1 }))));
  t.is(new Set(made.map(({ id }) => id)).size, names.length);
  t.true(cluster.leader.state.revision - before > 1);
  t.deepEqual(violationsOf(cluster.leader.state, cidr(POOL)), []);
  const error = await t.throwsAsync(cluster.leader.execute(service("large", { replicas: 50 })));
  t.is((error as UserError).code, 413);
  t.false([...cluster.leader.state.services.values()].some(({ name }) => name === "large"));
  await cluster.leader.execute(network("after"));
});

test("what is being committed is not in the state yet, and a commit that fails with the leadership never is", async (t) => {
  const cluster = await Cluster.start(1);
  const { store, leader } = cluster;
  const known = stateToJson(leader.state);
  let fail: (error: Error) => void = () => {};
  const begun = new Promise<void>((resolve) => {
    store.commit = () => {
      resolve();
      return new Promise((_, reject) => {
        fail = reject;
      });
    };
  });
  const [first, second] = [leader.execute(network("first")), begun.then(() => leader.execute(network("second")))];
  await begun;
  t.deepEqual(stateToJson(leader.state), known);
  t.is(cluster.nodes[0]!.state!.revision, known.revision);
  const open = await Promise.race([first, second.catch(() => {}), nextTurn()]);
  t.is(open, "open", "neither command is answered");
  await store.campaign(); // another manager leads
  fail(new UserError(504, "it is not known whether the change was made"));
  t.is(((await t.throwsAsync(first)) as UserError).code, 504);
  t.is(((await t.throwsAsync(second)) as UserError).code, 503);
  t.deepEqual(stateToJson(leader.state), known);
  t.true(leader.over.aborted);
  t.false(cluster.nodes[0]!.joined);
});

async function nextTurn(): Promise<"open"> {
  for (let i = 0; i < 5; i++) await nextEvents();
  return "open";
}
