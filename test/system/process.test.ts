// runtime/ with real processes: started, watched, adopted by a second agent, stopped, and nothing left.
import { existsSync, rmSync, statSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ExecutionContext } from "ava";
import type { ContainerNaming } from "../../src/cluster/container-naming.ts";
import type { ProcessWorkload } from "../../src/cluster/workload.ts";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { newId } from "../../src/lib/random.ts";
import { ProcessEnds } from "../../src/linux/process-ends.ts";
import { ProcessRuntime } from "../../src/runtime/process.ts";
import { ProcessWatch } from "../../src/runtime/process-watch.ts";
import { RejectedError, type TaskSpec } from "../../src/runtime/runtime.ts";
import { Sandboxes } from "../../src/runtime/sandbox.ts";
import { temporaryDirectory } from "../temporary.ts";
import { run, waitFor } from "./command.ts";
import { systemTest } from "./system-test.ts";

interface World {
  /** A runtime over the same files: another one is the agent after a restart. */
  agent(clock?: Clock): ProcessRuntime;
  sandboxes: Sandboxes;
  directory: string;
  spec(process: Partial<ProcessWorkload> & { command: string[] }): TaskSpec<ProcessWorkload>;
  log(spec: TaskSpec<ProcessWorkload>): Promise<string>;
}

let worlds = 0;

/** Short delays pass on it, but a task's polls, a second apart, never come. */
const clockWithoutPolls: Clock = {
  ...systemClock,
  after: (ms, call) => (ms < 1000 ? systemClock.after(ms, call) : { cancel: () => {} }),
};

async function setUp(t: ExecutionContext): Promise<World> {
  const node = `t${process.pid}x${worlds++}`;
  const directory = temporaryDirectory("test");
  const sandboxes = new Sandboxes({ node, kind: "task" });
  const agents: ProcessRuntime[] = [];
  const ends = new ProcessEnds();
  const agent = (clock = systemClock) => {
    const runtime = new ProcessRuntime({
      directory,
      sandboxes,
      clock,
      log: silentLog,
      path: process.env.PATH!,
      processes: new ProcessWatch({ clock, log: silentLog, ends }),
    });
    agents.push(runtime);
    return runtime;
  };
  // Nothing of a runtime keeps a process alive; in an agent its servers do.
  const alive = setInterval(() => {}, 1000);
  t.teardown(async () => {
    clearInterval(alive);
    for (const runtime of agents) runtime.close();
    ends.close();
    await sandboxes.prune(() => []);
    await rm(directory, { recursive: true });
  });
  return {
    agent,
    sandboxes,
    directory,
    spec: (process) => ({
      id: newId(),
      name: "web.1",
      workload: { runtime: "process", env: {}, workdir: null, stopGracePeriodMs: 10_000, ...process },
      address: "10.192.16.9",
      naming: NAMING,
      ports: [],
    }),
    log: (spec) => run(["cat", join(directory, spec.id, "log")]),
  };
}

const NAMING: ContainerNaming = {
  hostname: null,
  hosts: [],
  resolver: { nameservers: ["10.192.16.1"], search: [], options: ["ndots:0"] },
};

const sh = (script: string) => ["/bin/sh", "-c", script];

systemTest("a task has a namespace, a resolver and an environment of its own", async (t) => {
  const { agent, sandboxes, spec, log } = await setUp(t);
  const runtime = agent();
  const script =
    'cat /etc/resolv.conf; echo "$COLOUR $HOSTNAME $OVERLAYD_SECRET"; grep -ao discovery.type=single /proc/$$/environ; pwd; ls /proc/sys/net/ipv4/conf';
  const task = spec({ command: sh(script), env: { COLOUR: "a = b", "discovery.type": "single" }, workdir: "/usr" });
  process.env.OVERLAYD_SECRET = "secret";
  t.teardown(() => delete process.env.OVERLAYD_SECRET);
  t.is(await runtime.prepare(task), sandboxes.nameOf(task.id));
  const running = await runtime.start(task);
  t.deepEqual(await running.exited, { exitCode: 0, error: null });
  t.is(
    await log(task),
    "nameserver 10.192.16.1\noptions ndots:0\na = b web.1 \ndiscovery.type=single\n/usr\nall\ndefault\nlo\n",
  );
});

systemTest(
  "a task has the hostname, hosts, search domains and options that are asked for, and the node keeps its own",
  async (t) => {
    const { agent, spec, log } = await setUp(t);
    const runtime = agent();
    const script = `cat /etc/resolv.conf; uname -n; echo $HOSTNAME; head -n 3 /etc/hosts; grep -c localhost /etc/hosts; cat /etc/hostname 2>/dev/null || uname -n`;
    const naming: ContainerNaming = {
      hostname: "db-1",
      hosts: [
        { name: "legacy", address: "192.0.2.7" },
        { name: "six", address: "2001:db8::1" },
      ],
      resolver: {
        nameservers: ["10.192.16.1"],
        search: ["web.overlay", "corp.example"],
        options: ["rotate", "ndots:2"],
      },
    };
    const before = [await readFile("/etc/hosts", "utf8"), await run(["uname", "-n"])];
    const task = { ...spec({ command: sh(script) }), naming };
    await runtime.prepare(task);
    const running = await runtime.start(task);
    t.deepEqual(await running.exited, { exitCode: 0, error: null });
    t.regex(
      await log(task),
      /^nameserver 10\.192\.16\.1\nsearch web\.overlay corp\.example\noptions rotate ndots:2\ndb-1\ndb-1\n10\.192\.16\.9\tdb-1\n192\.0\.2\.7\tlegacy\n2001:db8::1\tsix\n[1-9]\d*\ndb-1\n$/,
    );
    t.deepEqual([await readFile("/etc/hosts", "utf8"), await run(["uname", "-n"])], before);
    // The same sandbox for a task that asks for none of it.
    await runtime.prepare({ ...task, naming: NAMING });
    const plain = await runtime.start({ ...task, naming: NAMING });
    await plain.exited;
    t.regex(await log(task), new RegExp(`ndots:0\n${before[1]!.trim()}\n`));
  },
);

const ENDS: [title: string, command: string[], expected: { exitCode: number | null; error: string | null }][] = [
  [
    "a status and last words",
    sh("echo no such index >&2; exit 3"),
    { exitCode: 3, error: "exit status 3: no such index" },
  ],
  ["a signal", sh("kill -SEGV $$"), { exitCode: 139, error: "killed by SIGSEGV" }],
  ["a script without an interpreter", ["SCRIPT"], { exitCode: 127, error: "exit status 127" }],
];
for (const [title, command, expected] of ENDS) {
  systemTest(`a task that ends with ${title} says so`, async (t) => {
    const { agent, directory, spec } = await setUp(t);
    const script = join(directory, "script");
    await run(["/bin/sh", "-c", `printf '#!/no/such\\n' > ${script}; chmod +x ${script}`]);
    const runtime = agent();
    const task = spec({ command: command.map((part) => (part === "SCRIPT" ? script : part)) });
    await runtime.prepare(task);
    const exit = await (await runtime.start(task)).exited;
    t.is(exit.exitCode, expected.exitCode);
    t.true(exit.error?.startsWith(expected.error!), exit.error ?? "");
    await rm(script);
  });
}

const REJECTIONS: [title: string, process: Partial<ProcessWorkload> & { command: string[] }, reason: RegExp][] = [
  ["a command that does not exist", { command: ["foo-no-such", "x"] }, /^exec: no such file 'foo-no-such'$/],
  ["a path that does not exist", { command: ["/opt/no/such"] }, /^exec: no such file '\/opt\/no\/such'$/],
  ["a directory that does not exist", { command: ["true"], workdir: "/no/such" }, /^workdir: no such directory/],
  ["a PATH without the command", { command: ["sleep", "1"], env: { PATH: "/no" } }, /^exec: no such file 'sleep'$/],
];
for (const [title, process, reason] of REJECTIONS) {
  systemTest(`${title} is rejected with the reason`, async (t) => {
    const { agent, spec } = await setUp(t);
    const task = spec(process);
    const runtime = agent();
    await runtime.prepare(task);
    const error = await t.throwsAsync(runtime.start(task), { instanceOf: RejectedError });
    t.regex(error?.message ?? "", reason);
  });
}

systemTest("a task's environment is in no list of processes", async (t) => {
  const { agent, spec, log } = await setUp(t);
  const runtime = agent();
  const task = spec({ command: sh('echo "$PASSWORD"; exec sleep 1000'), env: { PASSWORD: "grey-heron" } });
  await runtime.prepare(task);
  const running = await runtime.start(task);
  await waitFor(async () => (await log(task)) === "grey-heron\n", { what: "the task to have its variable" });
  t.false((await run(["ps", "-eo", "args"])).includes("grey-heron"));
  await running.stop(1000);
});

systemTest("a task outlives its agent, and the next one learns how it ended", async (t) => {
  const { agent, spec, log } = await setUp(t);
  const task = spec({ command: sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done") });
  const first = agent();
  await first.prepare(task);
  const { startedAt } = await first.start(task);
  await waitFor(async () => (await log(task)) === "ready\n", { what: "the task to have set its trap" });
  first.close();
  const second = agent();
  const adopted = await second.adopt(task);
  t.is(adopted?.startedAt, startedAt);
  await adopted?.stop(5000);
  t.is((await adopted?.exited)?.exitCode, 7);
  t.is(await second.adopt(task), undefined, "a task that ended is not adopted");
});

systemTest("the end of a task is told by the kernel: no poll has to see it", async (t) => {
  const { agent, spec, sandboxes } = await setUp(t);
  const runtime = agent(clockWithoutPolls);
  const task = spec({ command: ["sleep", "1000"] });
  await runtime.prepare(task);
  const running = await runtime.start(task);
  const pid = await sleepIn(sandboxes.nameOf(task.id));
  process.kill(pid, "SIGKILL");
  t.is((await running.exited).error, "killed by SIGKILL");
});

systemTest("a task whose shim was killed as well is missed all the same", async (t) => {
  const { agent, spec, sandboxes } = await setUp(t);
  const runtime = agent();
  const task = spec({ command: ["sleep", "1000"] });
  await runtime.prepare(task);
  const running = await runtime.start(task);
  await sandboxes.clear(task.id);
  t.is((await running.exited).error, "it ended, and its exit status is not known");
});

systemTest("a task that does not heed SIGTERM is killed after the grace, its children with it", async (t) => {
  const { agent, spec, sandboxes, log } = await setUp(t);
  const runtime = agent();
  const task = spec({
    command: sh("trap '' TERM; echo ready; sleep 1000 & sleep 1001 & while :; do sleep 0.05; done"),
  });
  await runtime.prepare(task);
  const running = await runtime.start(task);
  await waitFor(async () => (await log(task)) === "ready\n", { what: "the task to have set its trap" });
  await running.stop(200);
  t.is((await running.exited).error, "killed by SIGKILL: ready");
  const name = sandboxes.nameOf(task.id);
  await waitFor(async () => (await run(["ip", "netns", "pids", name])) === "", {
    what: "all its processes to be gone",
  });
  await runtime.remove(task);
  t.deepEqual(await sandboxes.list(), []);
});

systemTest("what a task left running is gone before it starts again", async (t) => {
  const { agent, spec, sandboxes } = await setUp(t);
  const runtime = agent();
  const task = spec({ command: sh("setsid sleep 1000 & exit 1") });
  await runtime.prepare(task);
  await (await runtime.start(task)).exited;
  const stray = await sleepIn(sandboxes.nameOf(task.id));
  await (await runtime.start(task)).exited;
  await waitFor(() => !existsSync(`/proc/${stray}`), { what: "the stray child to be gone" });
  t.pass();
});

systemTest("a task's files are for root alone; what the task makes has the rights that it asks for", async (t) => {
  const { agent, spec, directory, log } = await setUp(t);
  const runtime = agent();
  const made = join(directory, "made");
  const task = spec({ command: sh(`umask; touch ${made}; exit 0`) });
  await runtime.prepare(task);
  await (await runtime.start(task)).exited;
  const own = join(directory, task.id);
  for (const name of ["pid", "exit", "log"]) t.is(statSync(join(own, name)).mode & 0o077, 0, name);
  t.is(statSync(own).mode & 0o777, 0o700);
  t.is(Number.parseInt((await log(task)).trim(), 8), process.umask());
  t.is(statSync(made).mode & 0o777, 0o666 & ~process.umask());
  rmSync(made);
});

systemTest("what is not among the tasks is removed, with its processes, files and namespace", async (t) => {
  const { agent, spec, sandboxes, directory } = await setUp(t);
  const first = agent();
  const kept = spec({ command: ["sleep", "1000"] });
  const old = spec({ command: ["sleep", "1000"] });
  for (const task of [kept, old]) {
    await first.prepare(task);
    await first.start(task);
  }
  await sandboxes.create(newId(), NAMING, null);
  first.close();
  const second = agent();
  await second.prune(() => [kept.id]);
  t.deepEqual(await sandboxes.list(), [sandboxes.nameOf(kept.id)]);
  t.deepEqual(await readdir(directory), [kept.id]);
  t.not(await second.adopt(kept), undefined);
});

systemTest("sandboxes of `run` and of other nodes are not taken for tasks'", async (t) => {
  const { sandboxes } = await setUp(t);
  const own = new Sandboxes({ node: `t${process.pid}`, kind: "run" });
  const id = newId();
  t.teardown(() => own.remove(id));
  t.is(await own.create(id, NAMING, null), own.nameOf(id));
  t.is(await own.create(id, NAMING, null), own.nameOf(id), "twice is no error");
  t.deepEqual(await own.list(), [own.nameOf(id)]);
  await sandboxes.prune(() => []);
  t.true(await own.exists(id));
});

/** The process in the namespace that is `sleep 1000`, once a shell has become it. */
function sleepIn(netns: string): Promise<number> {
  return waitFor(
    async () => {
      for (const pid of (await run(["ip", "netns", "pids", netns])).split("\n").filter(Boolean)) {
        const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""); // it may have ended
        if (command === "sleep\x001000\0") return Number(pid);
      }
      return undefined;
    },
    { what: `'sleep 1000' to run in ${netns}` },
  );
}
