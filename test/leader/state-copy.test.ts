// A standby's copy of the state: whole at first, then commit by commit, and the whole again when it is too far behind.
import { once } from "node:events";
import test from "ava";
import { stateFromJson, stateToJson } from "../../src/cluster/state.ts";
import { CommitLog } from "../../src/leader/commit-log.ts";
import { type CopyRequest, StateCopy } from "../../src/leader/state-copy.ts";
import { silentLog } from "../../src/lib/log.ts";
import { putNetwork } from "../cluster/rows.ts";
import { MemoryStore } from "../fakes/memory-store.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";
import { Cluster } from "./cluster-fixture.ts";

interface Standby {
  cluster: Cluster;
  store: MemoryStore;
  copy: StateCopy;
  answers: { whole: number; commits: number };
}

async function standby(cluster: Cluster, store = new MemoryStore()): Promise<Standby> {
  const answers = { whole: 0, commits: 0 };
  const ask = async (request: CopyRequest, signal: AbortSignal) => {
    const ended = once(signal, "abort").then(() => undefined);
    const answer = await Promise.race([cluster.leader.copies.answer(request), ended]);
    if (answer === undefined) throw new Error("the standby stops");
    answers.whole += Number("state" in answer);
    answers.commits += answer.commits?.length ?? 0;
    return JSON.parse(JSON.stringify(answer)) as unknown;
  };
  const copy = new StateCopy({ store, ask, clock: cluster.clock, log: silentLog });
  await copy.start();
  return { cluster, store, copy, answers };
}

async function caughtUp({ cluster, copy }: Standby): Promise<void> {
  const { revision } = cluster.leader.state;
  await waitFor(() => (copy.revision === revision ? true : undefined), { what: "the copy to be up to date" });
}

test("it has all rows, those that no node gets among them, and then each commit", async (t) => {
  const at = await standby(await Cluster.start(2));
  await caughtUp(at);
  for (const name of ["a", "b"]) await at.cluster.leader.execute({ type: "network.create", name });
  await caughtUp(at);
  const copied = stateToJson(await at.store.load());
  t.true(copied.allocations.length > 0);
  const { state } = at.cluster.leader;
  t.deepEqual(copied, stateToJson(stateFromJson(stateToJson(state))));
  t.is(at.answers.whole, 1);
  t.true(at.answers.commits >= 2);
  t.is(at.copy.problem, undefined);
  await at.copy.stop();
});

test("a standby that starts again goes on where it was; in a new epoch it gets the whole", async (t) => {
  const first = await standby(await Cluster.start(1));
  await caughtUp(first);
  await first.copy.stop();
  await first.cluster.leader.execute({ type: "network.create", name: "a" });
  const second = await standby(first.cluster, first.store);
  await caughtUp(second);
  t.deepEqual(second.answers, { whole: 0, commits: 1 });
  await second.copy.stop();
  const restored = new Cluster({ newEpoch: true }, first.cluster.store.copy());
  await restored.lead();
  const other = await standby(restored, first.store);
  await waitFor(() => (other.answers.whole === 1 ? true : undefined), { what: "the whole state" });
  await other.copy.stop();
});

test("while the leader does not answer it says why, and stops all the same", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.stop();
  const at = await standby(cluster);
  await waitFor(() => at.copy.problem, { what: "a reason" });
  t.regex(at.copy.problem!, /this manager is stopping/);
  await at.copy.stop();
});

test("the last commits are kept up to a number of rows, and those before are said to be missing", async (t) => {
  const log = new CommitLog(new VirtualClock(), 10);
  t.deepEqual(log.after(10), []);
  t.is(log.after(9), undefined);
  t.is(log.after(11), undefined);
  const changes = Array.from({ length: 20_000 }, (_, i) => putNetwork(i));
  for (const revision of [11, 12, 13]) log.add({ revision, changes });
  t.is(log.after(10), undefined);
  t.deepEqual(
    log.after(12)?.map(({ revision }) => revision),
    [13],
  );
  t.deepEqual(log.after(13), []);
});

test("who waits for a commit is woken by it, or after the time", async (t) => {
  const clock = new VirtualClock();
  const log = new CommitLog(clock, 1);
  let woken = 0;
  const wait = (revision: number) => void log.wait(revision, 1000).then(() => woken++);
  wait(0);
  await clock.advance(0);
  t.is(woken, 1, "there was one already");
  wait(1);
  wait(1);
  await clock.advance(999);
  t.is(woken, 1);
  log.add({ revision: 2, changes: [] });
  await clock.advance(0);
  t.is(woken, 3);
  wait(2);
  await clock.advance(1000);
  t.is(woken, 4);
});
