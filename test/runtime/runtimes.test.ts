// Which runtime is asked for which task.
import test from "ava";
import { ContainerWorkload, ProcessWorkload, type Workload } from "../../src/cluster/workload.ts";
import { Runtimes } from "../../src/runtime/runtimes.ts";
import { FakeRuntime } from "../fakes/fake-runtime.ts";

const process = ProcessWorkload.parse({ runtime: "process", command: ["true"] });
const docker = ContainerWorkload.parse({ runtime: "docker", image: "a" });

function setUp(hasDocker = true) {
  const fakes = { process: new FakeRuntime(() => 0), docker: new FakeRuntime(() => 0) };
  return { ...fakes, both: new Runtimes({ ...fakes, hasDocker: () => hasDocker }) };
}

function spec(workload: Workload | null) {
  return {
    id: "a",
    name: "web.1",
    workload,
    address: null,
    naming: { hostname: null, hosts: [], resolver: { nameservers: [], search: [], options: [] } },
    ports: [],
  };
}

const preparation = { progress: () => {}, signal: new AbortController().signal };

for (const [kind, workload] of [
  ["process", process],
  ["docker", docker],
] as const) {
  test(`a task of ${kind} is that runtime's alone`, async (t) => {
    const world = setUp();
    const task = spec(workload);
    await world.both.prepare(task, preparation);
    await world.both.start(task);
    t.not(await world.both.adopt(task), undefined);
    await world.both.remove(task);
    t.deepEqual(world[kind].calls, ["prepare a", "start a", "remove a"]);
    t.deepEqual(world[kind === "docker" ? "process" : "docker"].calls, []);
  });
}

test("a task whose service is gone is looked for in both, and removed from both", async (t) => {
  const { both, process: processes, docker: containers } = setUp();
  processes.run("a");
  t.not(await both.adopt(spec(null)), undefined);
  await both.remove(spec(null));
  t.deepEqual([processes.calls, containers.calls], [["remove a"], ["remove a"]]);
  t.throws(() => both.start(spec(null)), { message: /web\.1 has no workload: its service is gone/ });
});

test("on a node without Docker, which could not answer, it is not asked for a task whose service is gone", async (t) => {
  const { both, process: processes, docker: containers } = setUp(false);
  containers.run("a");
  t.is(await both.adopt(spec(null)), undefined);
  await both.remove(spec(null));
  t.deepEqual([processes.calls, containers.calls], [["remove a"], []]);
});

test("what nobody wants is removed from both", async (t) => {
  const { both, process: processes, docker: containers } = setUp();
  processes.run("p");
  containers.run("d");
  await both.prune(() => []);
  t.deepEqual([processes.calls, containers.calls], [["prune p"], ["prune d"]]);
});
