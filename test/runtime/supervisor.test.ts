// The supervisor over a fake runtime: what it reports and does when tasks end, fail, stop and are found running.
import test, { type ExecutionContext } from "ava";
import type { TaskStatus } from "../../src/cluster/schema.ts";
import { silentLog } from "../../src/lib/log.ts";
import { AwayError, NotYetError, RejectedError } from "../../src/runtime/runtime.ts";
import { type DesiredTask, Supervisor } from "../../src/runtime/supervisor.ts";
import { FakeRuntime } from "../fakes/fake-runtime.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const NODE = "n".repeat(25);

function task(id: string, desired: DesiredTask["desired"] = "running"): DesiredTask {
  return {
    id,
    name: `web.${id}`,
    workload: { runtime: "process", command: ["true"], env: {}, workdir: null, stopGracePeriodMs: 10_000 },
    address: "10.192.16.9",
    naming: { hostname: null, hosts: [], resolver: { nameservers: ["10.192.16.1"], search: [], options: ["ndots:0"] } },
    ports: [],
    desired,
  };
}

function setUp() {
  const clock = new VirtualClock();
  const runtime = new FakeRuntime(() => clock.now());
  const statuses: TaskStatus[] = [];
  const ids = { node: NODE };
  const linkFailures: Error[] = [];
  const drains = new Map<string, Promise<void>>();
  const supervisor = new Supervisor({
    runtime,
    clock,
    log: silentLog,
    nodeId: () => ids.node,
    async link({ id }, netns) {
      runtime.calls.push(`link ${id} ${netns}`);
      const failure = linkFailures.shift();
      if (failure !== undefined) throw failure;
    },
    async drain({ id }) {
      runtime.calls.push(`drain ${id}`);
      await drains.get(id);
    },
    report: (status) => statuses.push(status),
  });
  const states = () => statuses.map(({ state }) => state);
  const last = () => statuses.at(-1)!;
  return { clock, runtime, ids, statuses, states, last, supervisor, linkFailures, drains };
}

const FAILED = { exitCode: 3, error: "exit status 3" };

test("a task gets its sandbox, then its links, then its process", async (t) => {
  const { clock, runtime, supervisor, states, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.deepEqual(runtime.calls, ["prepare a", "link a ovl-a", "start a"]);
  t.deepEqual(states(), ["preparing", "starting", "running"]);
  t.deepEqual(last(), {
    taskId: "a",
    nodeId: NODE,
    state: "running",
    since: clock.now(),
    error: null,
    exitCode: null,
    message: null,
    restarts: 0,
  });
});

test("applying the same again does nothing", async (t) => {
  const { clock, runtime, supervisor } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  const calls = runtime.calls.length;
  supervisor.apply([task("a", "draining")]);
  await clock.advance(1000);
  t.is(runtime.calls.length, calls);
});

/** Ends the task as often as `times`, and returns how long each start let itself be waited for. */
async function waits(t: ExecutionContext, world: ReturnType<typeof setUp>, times: number): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < times; i++) {
    world.runtime.tasks.get("a")!.end(FAILED);
    const from = world.clock.monotonic();
    await world.clock.advance(0);
    t.is(world.last().state, "failed");
    while (!world.runtime.tasks.has("a")) await world.clock.advance(100);
    found.push(world.clock.monotonic() - from);
    await world.clock.advance(0);
  }
  return found;
}

test("a task that keeps ending is started after 100 ms, doubling to 30 s", async (t) => {
  const world = setUp();
  world.supervisor.apply([task("a")]);
  await world.clock.advance(0);
  t.deepEqual(await waits(t, world, 11), [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
  t.is(world.last().restarts, 11);
});

test("ten seconds of health make the back-off short again", async (t) => {
  const world = setUp();
  world.supervisor.apply([task("a")]);
  await world.clock.advance(0);
  t.deepEqual(await waits(t, world, 3), [100, 200, 400]);
  await world.clock.advance(10_000);
  t.deepEqual(await waits(t, world, 2), [100, 200]);
});

test("the reason of an end stays to be seen until the task runs again", async (t) => {
  const { clock, runtime, supervisor, statuses, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  runtime.tasks.get("a")!.end(FAILED);
  await clock.advance(0);
  t.like(last(), { state: "failed", error: "exit status 3", exitCode: 3, restarts: 0 });
  await clock.advance(100);
  t.deepEqual(
    statuses.slice(-3).map(({ state, error, restarts }) => [state, error, restarts]),
    [
      ["preparing", "exit status 3", 1],
      ["starting", "exit status 3", 1],
      ["running", null, 1],
    ],
  );
});

test("an end without an error is complete, and is started again all the same", async (t) => {
  const { clock, runtime, supervisor, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  runtime.tasks.get("a")!.end({ exitCode: 0, error: null });
  await clock.advance(0);
  t.like(last(), { state: "complete", error: null, exitCode: 0 });
  await clock.advance(100);
  t.like(last(), { state: "running", restarts: 1 });
});

test("a command that does not exist is rejected with the reason, and tried again", async (t) => {
  const { clock, runtime, supervisor, last } = setUp();
  runtime.failures.set("start", new RejectedError("exec: no such file 'foo'"));
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.like(last(), { state: "rejected", error: "exec: no such file 'foo'" });
  await clock.advance(100);
  t.is(last().state, "running");
});

test("a task whose links cannot be made is not started", async (t) => {
  const { clock, runtime, supervisor, last, linkFailures } = setUp();
  linkFailures.push(new Error("no address"));
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.like(last(), { state: "failed", error: "no address" });
  t.false(runtime.calls.includes("start a"));
});

for (const [title, tasks] of [
  ["is to be shut down", [task("a", "shutdown")]],
  ["is no longer of this node", []],
] as const) {
  test(`a task that ${title} is stopped, unlinked, removed, and then reported`, async (t) => {
    const { clock, runtime, supervisor, last } = setUp();
    supervisor.apply([task("a")]);
    await clock.advance(0);
    runtime.calls.length = 0;
    supervisor.apply(tasks);
    await clock.advance(0);
    t.deepEqual(runtime.calls, ["drain a", "stop a", "remove a"]);
    t.is(last().state, "shutdown");
    supervisor.apply(tasks);
    await clock.advance(0);
    t.deepEqual(runtime.calls, ["drain a", "stop a", "remove a"]);
  });
}

test("a task that drains is stopped when its connections have ended, and left alone when the agent goes before", async (t) => {
  const { clock, runtime, supervisor, drains } = setUp();
  let end = () => {};
  drains.set("a", new Promise((resolve) => (end = resolve)));
  drains.set("b", new Promise(() => {}));
  supervisor.apply([task("a"), task("b")]);
  await clock.advance(0);
  supervisor.apply([task("a", "shutdown"), task("b", "shutdown")]);
  await clock.advance(0);
  t.false(runtime.calls.includes("stop a"));
  end();
  await clock.advance(0);
  t.true(runtime.calls.includes("stop a"));
  await supervisor.close();
  t.false(runtime.calls.includes("stop b"));
});

test("what cannot be removed is tried again before it is reported", async (t) => {
  const { clock, runtime, supervisor, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  runtime.failures.set("remove", new Error("busy"));
  supervisor.apply([]);
  await clock.advance(0);
  t.is(last().state, "running");
  await clock.advance(100);
  t.is(last().state, "shutdown");
});

test("a stop ends the wait of a back-off", async (t) => {
  const { clock, runtime, supervisor, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  runtime.tasks.get("a")!.end(FAILED);
  await clock.advance(0);
  supervisor.apply([task("a", "shutdown")]);
  await clock.advance(0);
  t.is(last().state, "shutdown");
  await clock.advance(60_000);
  t.is(runtime.calls.filter((call) => call === "start a").length, 1);
});

test("a task that runs from before is adopted with its links, and others are removed once all that are wanted are known", async (t) => {
  const { clock, runtime, supervisor, statuses } = setUp();
  runtime.run("a");
  const since = clock.now();
  runtime.run("old");
  await clock.advance(5000);
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.deepEqual([...runtime.calls].sort(), ["link a ovl-a", "prepare a"]);
  supervisor.removeOthers();
  supervisor.removeOthers();
  t.deepEqual([...runtime.calls].sort(), ["link a ovl-a", "prepare a", "prune old"]);
  t.deepEqual(
    statuses.map((status) => [status.state, status.since]),
    [["running", since]],
  );
});

test("after close the tasks go on", async (t) => {
  const { clock, runtime, supervisor } = setUp();
  supervisor.apply([task("a"), task("b")]);
  await clock.advance(0);
  await supervisor.close();
  t.is(runtime.calls.at(-1), "close");
  t.false(runtime.calls.some((call) => call.startsWith("stop")));
  t.is(runtime.tasks.size, 2);
});

test("a runtime that is away is the reason, and its return ends the wait", async (t) => {
  const { clock, runtime, supervisor, last, states } = setUp();
  let comeBack: () => void = () => {};
  const back = new Promise<void>((resolve) => {
    comeBack = resolve;
  });
  runtime.failures.set("prepare", new AwayError("Docker does not answer", back));
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.like(last(), { state: "failed", error: "Docker does not answer" });
  comeBack();
  await clock.advance(0);
  t.deepEqual(states().slice(-2), ["starting", "running"]);
});

test("a task that goes on while its runtime is away is running, and adopted when that is back", async (t) => {
  const { clock, runtime, supervisor, states, statuses } = setUp();
  let comeBack: () => void = () => {};
  const back = new Promise<void>((resolve) => {
    comeBack = resolve;
  });
  runtime.run("a");
  runtime.failures.set("adopt", new AwayError("Docker does not answer", back, { runningSince: 7 }));
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.like(statuses, [{ state: "running", since: 7, error: null }]);
  comeBack();
  await clock.advance(0);
  t.deepEqual(states(), ["running", "running"]);
  t.is(statuses.at(-1)!.restarts, 0);
  t.is(runtime.calls.includes("start a"), false);
});

test("a task is running when it is ready; what is done before that is told once, and how far it is stays here", async (t) => {
  const { clock, runtime, supervisor, statuses, last } = setUp();
  let becomeReady: () => void = () => {};
  runtime.ready = new Promise((resolve) => {
    becomeReady = resolve;
  });
  let prepare: () => void = () => {};
  runtime.prepared = new Promise((resolve) => {
    prepare = resolve;
  });
  runtime.progress = ["pulling web:1", "pulling web:1: 3 of 9 MB", "pulling web:1: 9 of 9 MB"];
  supervisor.apply([task("a")]);
  await clock.advance(5000);
  t.is(supervisor.progressOf("a"), "pulling web:1: 9 of 9 MB");
  t.like(last(), { state: "preparing", message: "pulling web:1" });
  prepare();
  await clock.advance(0);
  t.is(supervisor.progressOf("a"), undefined);
  t.deepEqual(
    statuses.map(({ state, message }) => [state, message]),
    [
      ["preparing", null],
      ["preparing", "pulling web:1"],
      ["starting", null],
    ],
  );
  becomeReady();
  await clock.advance(0);
  t.like(last(), { state: "running", message: null });
});

test("a task that ends before it is ready was never running", async (t) => {
  const { clock, runtime, supervisor, states } = setUp();
  runtime.ready = new Promise(() => {});
  supervisor.apply([task("a")]);
  await clock.advance(0);
  runtime.tasks.get("a")!.end({ exitCode: null, error: "unhealthy" });
  await clock.advance(0);
  t.deepEqual(states(), ["preparing", "starting", "failed"]);
});

test("a task that is wanted again after it was told to stop is started again, once it has stopped", async (t) => {
  for (const when of ["while it stops", "when it has"]) {
    const { clock, runtime, supervisor, last, drains } = setUp();
    supervisor.apply([task("a")]);
    await clock.advance(0);
    const { promise, resolve } = promiseOf();
    drains.set("a", promise);
    supervisor.apply([task("a", "shutdown")]);
    await clock.advance(0);
    if (when === "when it has") {
      resolve();
      await clock.advance(0);
      t.is(last().state, "shutdown");
    }
    supervisor.apply([task("a")]);
    await clock.advance(0);
    resolve();
    await clock.advance(0);
    t.is(last().state, "running", when);
    t.is(runtime.calls.filter((call) => call === "start a").length, 2, when);
  }
});

function promiseOf(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

test("what it reports is under the id that the node has then: one that was removed and came back has another", async (t) => {
  const { clock, supervisor, ids, last } = setUp();
  supervisor.apply([task("a")]);
  await clock.advance(0);
  t.like(last(), { taskId: "a", nodeId: NODE, state: "running" });
  ids.node = "m".repeat(25);
  supervisor.apply([task("a"), task("b")]);
  await clock.advance(0);
  t.like(last(), { taskId: "b", nodeId: "m".repeat(25), state: "running" });
});

test("a task whose needs have not come waits, is not told as failed, and goes on at once when its row changes", async (t) => {
  const { clock, runtime, supervisor, states, last } = setUp();
  const waiting = task("a");
  const prepare = runtime.prepare.bind(runtime);
  runtime.prepare = async () => {
    throw new NotYetError("its credentials are not here");
  };
  for (let i = 0; i < 8; i++) {
    supervisor.apply([waiting]);
    await clock.advance(1000);
  }
  t.deepEqual([...new Set(states())], ["preparing"]);
  t.is(last().restarts, 0);
  runtime.prepare = prepare;
  supervisor.apply([{ ...waiting, workload: { ...waiting.workload! } }]);
  await clock.advance(0);
  t.deepEqual(runtime.calls, ["prepare a", "link a ovl-a", "start a"]);
  t.is(last().state, "running");
});
