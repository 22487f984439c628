// runtime/ with real containers: started, watched, adopted by a second agent, stopped, and nothing left.
import { existsSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { ExecutionContext } from "ava";
import { ContainerWorkload } from "../../src/cluster/workload.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { DockerRuntime } from "../../src/runtime/docker.ts";
import { DockerEngine } from "../../src/runtime/docker-engine.ts";
import { DockerWatch } from "../../src/runtime/docker-watch.ts";
import { ProcessWatch } from "../../src/runtime/process-watch.ts";
import { AwayError, type Preparation, RejectedError, type TaskSpec } from "../../src/runtime/runtime.ts";
import { Sandboxes } from "../../src/runtime/sandbox.ts";
import { temporaryDirectory } from "../temporary.ts";
import { run, waitFor } from "./command.ts";
import { BASE_IMAGE, EngineDoor, makeImage } from "./engine.ts";
import { engineTest, useEngine } from "./engine-test.ts";

useEngine();

type Spec = TaskSpec<ContainerWorkload>;

interface World {
  node: string;
  door: EngineDoor;
  sandboxes: Sandboxes;
  /** A runtime over the same engine: another one is the agent after a restart. */
  /** `own` left out: the node by its data directory, with a row that another version's containers may be labelled by. */
  agent(own?: string): DockerRuntime;
  spec(workload: Partial<ContainerWorkload>): Spec;
  told: string[];
  preparation: Preparation;
  /** Lines of `docker ps -a` in this format, of this world's containers. */
  containers(format: string): Promise<string[]>;
}

let worlds = 0;

async function setUp(t: ExecutionContext): Promise<World> {
  const node = `d${process.pid}x${worlds++}`;
  const directory = temporaryDirectory("test");
  const door = new EngineDoor(join(directory, "docker.sock"));
  await door.open();
  const sandboxes = new Sandboxes({ node, kind: "task" });
  const closes: (() => Promise<void>)[] = [];
  const agent = (own = node): DockerRuntime => {
    const engine = new DockerEngine(door.path);
    const parts = { engine, clock: systemClock, log: silentLog };
    const watch = new DockerWatch(parts);
    watch.start();
    const runtime = new DockerRuntime({
      ...parts,
      node: () => ({ id: own, name: node, rowId: `row-of-${node}` }),
      watch,
      sandboxes,
      environment: { HOME: directory },
      processes: new ProcessWatch(parts),
    });
    closes.push(async () => {
      runtime.close();
      await watch.stop();
    });
    return runtime;
  };
  const containers = async (format: string): Promise<string[]> => {
    const label = `label=overlayd.node=${node}`;
    return (await run(["docker", "ps", "-a", "--filter", label, "--format", format])).split("\n").filter(Boolean);
  };
  // Nothing of a runtime keeps a process alive; in an agent its servers do.
  const alive = setInterval(() => {}, 1000);
  t.teardown(async () => {
    for (const close of closes) await close();
    const left = await containers("{{.ID}}");
    if (left.length > 0) await run(["docker", "rm", "-f", ...left]);
    await sandboxes.prune(() => []);
    await door.close();
    await rm(directory, { recursive: true });
    clearInterval(alive);
  });
  const told: string[] = [];
  return {
    node,
    door,
    sandboxes,
    agent,
    containers,
    told,
    preparation: { progress: (message) => told.push(message), signal: new AbortController().signal },
    spec: (workload) => ({
      id: newId(),
      name: "web.1",
      address: "10.192.16.9",
      naming: {
        hostname: null,
        hosts: [],
        resolver: { nameservers: ["10.192.16.1"], search: [], options: ["ndots:0"] },
      },
      ports: [],
      workload: ContainerWorkload.parse({ runtime: "docker", image: BASE_IMAGE, ...workload }),
    }),
  };
}

const sh = (script: string) => ["sh", "-c", script];
const SLEEP = sh("exec sleep 600");
/** What the kernel says of a process's start is rounded, and counted from a boot whose time is in whole seconds. */
const CLOCK_TICK_MS = 2000;
const ALL = { follow: false, tail: null, since: null };

/** A world with a task that runs and does nothing, and the ids of its containers. */
async function sleeping(t: ExecutionContext) {
  const world = await setUp(t);
  const runtime = world.agent();
  const task = world.spec({ command: SLEEP });
  await runtime.prepare(task, world.preparation);
  const running = await runtime.start(task);
  return { ...world, runtime, task, running, before: await world.containers("{{.ID}}") };
}

engineTest("a task finds names, variables, user and files as it was described", async (t) => {
  const { agent, spec, preparation, sandboxes } = await setUp(t);
  const script = "cat /etc/resolv.conf /etc/hosts; hostname; pwd; id -u; echo $COLOUR; ls /data; ls /sys/class/net";
  const task = spec({
    entrypoint: ["sh", "-c"],
    command: [script],
    env: { COLOUR: "a = b" },
    workdir: "/usr",
    user: "65534",
    mounts: [{ type: "tmpfs", source: null, target: "/data", readOnly: false, sizeBytes: 1 << 20 }],
  });
  const runtime = agent();
  t.is(await runtime.prepare(task, preparation), sandboxes.nameOf(task.id));
  const running = await runtime.start(task);
  t.deepEqual(await running.exited, { exitCode: 0, error: null });
  const log = await text((await runtime.logs(task, ALL))!);
  t.regex(log, /^nameserver 10\.192\.16\.1\noptions ndots:0\n/);
  t.regex(log, /\n10\.192\.16\.9\tweb\.1\nweb\.1\n\/usr\n65534\na = b\nlo\n$/);
});

engineTest("a task has the hostname, hosts, search domains and options that are asked for", async (t) => {
  const { agent, spec, preparation } = await setUp(t);
  const script = "cat /etc/resolv.conf /etc/hosts; hostname";
  const hosts = [
    { name: "legacy", address: "192.0.2.7" },
    { name: "six", address: "2001:db8::1" },
  ];
  const search = ["web.overlay", "corp.example"];
  const resolver = { nameservers: ["10.192.16.1"], search, options: ["rotate", "ndots:2"] };
  for (const [naming, expected] of [
    [
      { hostname: "db-1", hosts, resolver },
      /^search web\.overlay corp\.example\nnameserver 10\.192\.16\.1\noptions rotate ndots:2\n[\s\S]*\n192\.0\.2\.7\tlegacy\n2001:db8::1\tsix\n[\s\S]*db-1\n$/,
    ],
    // A container without search domains has none, not the machine's.
    [{ hostname: null, hosts: [], resolver: { ...resolver, search: [] } }, /^nameserver 10\.192\.16\.1\noptions/],
  ] as const) {
    const task = { ...spec({ entrypoint: ["sh", "-c"], command: [script] }), naming };
    const runtime = agent();
    await runtime.prepare(task, preparation);
    await (await runtime.start(task)).exited;
    t.regex(await text((await runtime.logs(task, ALL))!), expected);
  }
});

engineTest("limits, labels, capabilities and init reach the container", async (t) => {
  const { agent, spec, preparation, containers } = await setUp(t);
  const task = spec({
    command: SLEEP,
    memoryBytes: 64 << 20,
    cpus: 0.5,
    labels: { team: "x" },
    capAdd: ["NET_ADMIN"],
    init: true,
  });
  const runtime = agent();
  await runtime.prepare(task, preparation);
  await runtime.start(task);
  const format =
    "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.Config.Labels.team}} {{.HostConfig.CapAdd}} {{.HostConfig.Init}} {{.HostConfig.RestartPolicy.Name}}";
  const [id] = await containers('{{if eq (.Label "overlayd.role") "task"}}{{.ID}}{{end}}');
  t.regex(await run(["docker", "inspect", "-f", format, id!]), /^67108864 500000000 x \[(CAP_)?NET_ADMIN\] true no\n$/);
});

engineTest("the link is there before the task's first instruction, and after it was started again", async (t) => {
  const { agent, spec, preparation, sandboxes } = await setUp(t);
  const task = spec({ command: sh("ls /sys/class/net") });
  const runtime = agent();
  const netns = await runtime.prepare(task, preparation);
  const link = `v${process.pid}`;
  t.teardown(() => run(["ip", "link", "del", link]).catch(() => ""));
  await run(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", netns]);
  for (const _ of [1, 2]) {
    t.is(await runtime.prepare(task, preparation), netns);
    const running = await runtime.start(task);
    t.deepEqual(await running.exited, { exitCode: 0, error: null });
    t.is(await text((await runtime.logs(task, ALL))!), "eth0\nlo\n");
  }
  t.true(await sandboxes.exists(task.id));
});

const ENDS: [title: string, workload: Partial<ContainerWorkload>, exitCode: number, error: RegExp][] = [
  ["a status and last words", { command: sh("echo no such index >&2; exit 3") }, 3, /^exit status 3: no such index$/],
  ["a signal", { command: sh("kill -SEGV $$; sleep 9"), init: true }, 139, /^killed by SIGSEGV/],
  [
    "no memory left",
    { command: sh("tail /dev/zero"), memoryBytes: 16 << 20 },
    137,
    /^out of memory, killed by SIGKILL/,
  ],
];
for (const [title, workload, exitCode, error] of ENDS) {
  engineTest(`a task that ends with ${title} says so`, async (t) => {
    const { agent, spec, preparation } = await setUp(t);
    const runtime = agent();
    const task = spec(workload);
    await runtime.prepare(task, preparation);
    const exit = await (await runtime.start(task)).exited;
    t.is(exit.exitCode, exitCode);
    t.regex(exit.error ?? "", error);
  });
}

const REJECTIONS: [title: string, workload: Partial<ContainerWorkload>, reason: RegExp][] = [
  ["a command that does not exist", { command: ["foo-no-such"] }, /foo-no-such.*executable file not found/],
  [
    "a directory of the node that does not exist",
    { command: SLEEP, mounts: [{ type: "bind", source: "/no/such", target: "/x", readOnly: true, sizeBytes: null }] },
    /\/no\/such/,
  ],
  ["a user that does not exist", { command: SLEEP, user: "noone" }, /noone/],
];
for (const [title, workload, reason] of REJECTIONS) {
  engineTest(`${title} is rejected with the reason, and leaves no container`, async (t) => {
    const { agent, spec, preparation, containers } = await setUp(t);
    const runtime = agent();
    const task = spec(workload);
    await runtime.prepare(task, preparation);
    const error = await t.throwsAsync(runtime.start(task), { instanceOf: RejectedError });
    t.regex(error?.message ?? "", reason);
    t.deepEqual(await containers('{{.Label "overlayd.role"}}'), ["pause"]);
  });
}

engineTest("a task with a health check is ready when it is healthy, and ends when it is not", async (t) => {
  const image = `overlayd-test/health:${process.pid}`;
  await makeImage(image, "HEALTHCHECK --interval=100ms --retries=15 CMD cat /tmp/healthy");
  t.teardown(() => run(["docker", "rmi", image]));
  const { agent, spec, preparation, containers } = await setUp(t);
  const runtime = agent();
  const out = temporaryDirectory("test");
  t.teardown(() => rm(out, { recursive: true }));
  const script = "trap 'touch /out/asked; exit' TERM; sleep 0.5; touch /tmp/healthy; while :; do sleep 0.1; done";
  const mounts = [{ type: "bind" as const, source: out, target: "/out", readOnly: false, sizeBytes: null }];
  const task = spec({ image, command: sh(script), mounts });
  await runtime.prepare(task, preparation);
  const running = await runtime.start(task);
  t.not(running.ready, null);
  const container = `web.1.${task.id}`;
  await running.ready;
  const adopted = await agent().adopt(task);
  t.is(adopted?.ready, null);
  await run(["docker", "exec", container, "rm", "/tmp/healthy"]);
  t.regex((await running.exited).error ?? "", /^unhealthy: .*\/tmp\/healthy/);
  t.is(await runtime.adopt(task), undefined);
  const again = await runtime.start(task);
  t.true(existsSync(join(out, "asked")), "it was asked to end before it was replaced");
  t.is((await containers("{{.ID}}")).length, 2);
  await again.stop(1000);
});

engineTest("a second agent adopts what runs, learns of its end, and stops what it is told to", async (t) => {
  const { agent, spec, preparation, sandboxes, containers } = await setUp(t);
  const first = agent();
  const [ends, stays] = [spec({ command: SLEEP }), spec({ command: sh("trap 'exit 7' TERM; sleep 600 & wait") })];
  for (const task of [ends, stays]) {
    await first.prepare(task, preparation);
    await first.start(task);
  }
  const startedAt = (await first.adopt(ends))?.startedAt;
  first.close();
  const second = agent();
  const adopted = await second.adopt(ends);
  t.is(adopted?.startedAt, startedAt);
  // The name of a namespace does not outlive a restart of the agent's own container.
  await sandboxes.unbind(ends.id);
  t.is(await second.prepare(ends, preparation), sandboxes.nameOf(ends.id));
  await run(["docker", "kill", `web.1.${ends.id}`]);
  t.deepEqual(await adopted?.exited, { exitCode: 137, error: "killed by SIGKILL" });
  const other = await second.adopt(stays);
  await other?.stop(10_000);
  t.is((await other?.exited)?.exitCode, 7);
  for (const task of [ends, stays]) await second.remove(task);
  t.deepEqual(await containers("{{.Names}}"), []);
  t.deepEqual(await sandboxes.list(), []);
});

engineTest("what nobody wants is removed, and of another node nothing", async (t) => {
  const { agent, spec, preparation, containers } = await setUp(t);
  const other = await setUp(t);
  const runtime = agent();
  const [kept, old] = [spec({ command: SLEEP }), spec({ command: SLEEP })];
  for (const task of [kept, old]) {
    await runtime.prepare(task, preparation);
    await runtime.start(task);
  }
  const strange = other.spec({ command: SLEEP });
  await other.agent().prepare(strange, preparation);
  await runtime.prune(() => [kept.id]);
  await waitFor(async () => (await containers("{{.Names}}")).length === 2, { what: "the old task's containers to go" });
  t.deepEqual((await containers("{{.Names}}")).sort(), [`web.1.${kept.id}`, `web.1.${kept.id}.pause`]);
  t.is((await other.containers("{{.Names}}")).length, 1);
});

engineTest(
  "containers of an agent that labelled them by the node's row are adopted, stopped and removed",
  async (t) => {
    const { node, agent, spec, preparation, containers } = await setUp(t);
    const before = agent(`row-of-${node}`);
    const [kept, old] = [spec({ command: SLEEP }), spec({ command: SLEEP })];
    for (const task of [kept, old]) {
      await before.prepare(task, preparation);
      await before.start(task);
    }
    const runtime = agent();
    t.truthy(await runtime.adopt(kept));
    await runtime.prune(() => [kept.id]);
    await waitFor(async () => (await containers("{{.Names}}")).length === 2, {
      what: "the old task's containers to go",
    });
    await runtime.remove(kept);
    t.deepEqual(await containers("{{.Names}}"), []);
  },
);

engineTest("a task that is started again by hand is told, and adopted as it runs now", async (t) => {
  const { runtime, task, running, containers, before } = await sleeping(t);
  await run(["docker", "restart", "-t", "0", `web.1.${task.id}`]);
  t.regex(
    (await running.exited).error ?? "",
    /^(its container was started again by another program|killed by SIGKILL)/,
  );
  const adopted = await runtime.adopt(task);
  t.true(adopted!.startedAt > running.startedAt);
  t.deepEqual(await containers("{{.ID}}"), before);
});

const LOSSES: [title: string, argv: (task: Spec) => string[], error: RegExp][] = [
  [
    "is removed by hand",
    ({ id }) => ["docker", "rm", "-f", `web.1.${id}`],
    /^(its container was removed|killed by SIGKILL)/,
  ],
  [
    "loses the container of its namespace",
    ({ id }) => ["docker", "rm", "-f", `web.1.${id}.pause`],
    /^the container that holds its network/,
  ],
];
for (const [title, argv, error] of LOSSES) {
  engineTest(`a task that ${title} is told at once, and made anew`, async (t) => {
    const { runtime, task, preparation, running, containers, before } = await sleeping(t);
    await run(argv(task));
    t.regex((await running.exited).error ?? "", error);
    t.is(await runtime.adopt(task), undefined);
    await runtime.prepare(task, preparation);
    await runtime.start(task);
    const after = await containers("{{.ID}}");
    t.is(after.length, 2);
    t.true(after.some((id) => !before.includes(id)));
  });
}

engineTest(
  "while Docker is away that is said; a task that ends meanwhile is noticed, and all is found when it is back",
  async (t) => {
    const { agent, spec, preparation, door, containers } = await setUp(t);
    const runtime = agent();
    const [ends, stays, orphan] = [spec({ command: SLEEP }), spec({ command: SLEEP }), spec({ command: SLEEP })];
    const runs = [];
    const beganAt = Date.now();
    for (const task of [ends, stays, orphan]) {
      await runtime.prepare(task, preparation);
      runs.push(await runtime.start(task));
    }
    const endedAt = Date.now();
    await runtime.prune(() => [ends.id, stays.id]);
    await door.close();
    const error = await t.throwsAsync(runtime.prepare(spec({}), preparation), { instanceOf: AwayError });
    t.regex(error?.message ?? "", /^Docker does not answer on .*docker\.sock: /);
    await run(["docker", "kill", `web.1.${ends.id}`]);
    t.deepEqual(await runs[0]?.exited, { exitCode: null, error: "it ended while Docker was away" });
    // An agent that starts now cannot adopt anything, and yet knows what runs.
    const next = agent();
    const away = await Promise.all(
      [ends, stays].map((task) => t.throwsAsync(next.adopt(task), { instanceOf: AwayError })),
    );
    t.is((away[0] as AwayError).runningSince, undefined);
    const { runningSince } = away[1] as AwayError;
    t.true(runningSince! > beganAt - CLOCK_TICK_MS && runningSince! < endedAt + CLOCK_TICK_MS);
    await door.open();
    await (error as AwayError).back;
    t.truthy(await runtime.adopt(stays));
    await waitFor(async () => !(await containers("{{.Names}}")).some((name) => name.includes(orphan.id)), {
      what: "the orphan to be removed",
    });
  },
);

engineTest("a log is followed, and its end and its beginning are cut as asked", async (t) => {
  const { agent, spec, preparation } = await setUp(t);
  const runtime = agent();
  const task = spec({ command: sh("echo one; sleep 0.5; echo two >&2; sleep 0.5; echo three; sleep 600") });
  await runtime.prepare(task, preparation);
  await runtime.start(task);
  const log = (await runtime.logs(task, { ...ALL, follow: true }))!;
  let seen = "";
  for await (const chunk of log) {
    seen += chunk;
    if (seen.endsWith("three\n")) break;
  }
  t.is(seen, "one\ntwo\nthree\n");
  t.is(await text((await runtime.logs(task, { ...ALL, tail: 1 }))!), "three\n");
  t.is(await text((await runtime.logs(task, { ...ALL, since: Date.now() + 60_000 }))!), "");
  t.is(await runtime.logs(spec({}), ALL), undefined);
});

engineTest("the pause container is one process that ends when it is told to", async (t) => {
  const { agent, spec, preparation, containers } = await setUp(t);
  const task = spec({ command: SLEEP });
  await agent().prepare(task, preparation);
  const [pause] = await containers("{{.ID}}");
  const pid = (await run(["docker", "inspect", "-f", "{{.State.Pid}}", pause!])).trim();
  t.true(existsSync(`/proc/${pid}`));
  t.true(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) <= 64);
  await run(["docker", "stop", pause!]);
  // One that has to be killed ends with 137.
  t.is((await run(["docker", "inspect", "-f", "{{.State.ExitCode}}", pause!])).trim(), "0");
});
