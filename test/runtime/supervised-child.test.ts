// A process of the agent: adopted by the next agent, started again when it ends, and left alone when it ends too often.
import { mkdir, readFile, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type ChildStatus, SupervisedChild } from "../../src/runtime/supervised-child.ts";
import { waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

/** Time in which pauses take a hundredth. */
const hastyClock: Clock = { ...systemClock, after: (ms, call) => systemClock.after(ms / 100, call) };
const ENV = { PATH: "/usr/bin:/bin" };
const SLEEP = ["sleep", "1000"];

async function withDirectory(use: (open: (clock?: Clock) => SupervisedChild, path: string) => Promise<void>) {
  const directory = temporaryDirectory("child");
  const opened: SupervisedChild[] = [];
  const alive = setInterval(() => {}, 60_000); // the clock's timers do not keep the process
  try {
    await use((clock = systemClock) => {
      const child = new SupervisedChild({ name: "sleep", directory, clock, log: silentLog });
      opened.push(child);
      return child;
    }, directory);
  } finally {
    for (const child of opened) await child.stop();
    await rm(directory, { recursive: true });
    clearInterval(alive);
  }
}

function pidOf(child: SupervisedChild): number {
  const { status } = child;
  if (status.state !== "running") throw new Error(`it is ${status.state}`);
  return status.pid;
}

test("it goes on without its agent, and the next one adopts it", async (t) => {
  await withDirectory(async (open) => {
    const first = open();
    await first.run({ command: SLEEP, env: ENV });
    const pid = pidOf(first);
    await first.leave();
    t.deepEqual(first.status, { state: "stopped" });
    const second = open();
    await second.run({ command: SLEEP, env: ENV });
    t.is(pidOf(second), pid);
    await second.stop();
    t.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  });
});

test("one that runs with another command is ended and started with the new one", async (t) => {
  await withDirectory(async (open) => {
    const first = open();
    await first.run({ command: SLEEP, env: ENV });
    const pid = pidOf(first);
    await first.leave();
    const second = open();
    await second.run({ command: ["sleep", "1001"], env: ENV });
    t.not(pidOf(second), pid);
    t.throws(() => process.kill(pid, 0), { code: "ESRCH" });
  });
});

test("one that is killed is started again, and its status has why", async (t) => {
  await withDirectory(async (open) => {
    const child = open();
    await child.run({ command: SLEEP, env: ENV });
    const pid = pidOf(child);
    process.kill(pid, "SIGKILL");
    await waitFor(() => child.status.state === "running" && child.status.pid !== pid, {
      what: "another process to run",
    });
    t.like(child.status, { state: "running", error: "killed by SIGKILL" });
  });
});

test("after five ends in ten minutes it is left alone, and its status says so with what it printed", async (t) => {
  await withDirectory(async (open, directory) => {
    const child = open(hastyClock);
    await child.run({ command: ["sh", "-c", "echo no room >&2; exit 3"], env: ENV });
    await waitFor(() => child.status.state === "failed", { what: "it to be left alone" });
    const { error } = child.status as Extract<ChildStatus, { state: "failed" }>;
    t.is(error, "it ended 5 times in ten minutes and is not started again: exit status 3: no room");
    t.is((await readFile(join(directory, "log"), "utf8")).split("no room").length - 1, 5);
    await child.run({ command: SLEEP, env: ENV });
    t.is(child.status.state, "running", "an operator may have it tried again");
  });
});

test("a program that is not there ends it with the reason", async (t) => {
  await withDirectory(async (open) => {
    const child = open(hastyClock);
    await child.run({ command: ["/no/such/program"], env: ENV });
    await waitFor(() => child.status.state === "failed", { what: "it to be left alone" });
    t.regex((child.status as { error: string }).error, /exit status 127: .*No such file/);
  });
});

test("one that cannot be started again, as when its disk is full, is tried again as one that ended", async (t) => {
  await withDirectory(async (open, directory) => {
    const child = open();
    await child.run({ command: SLEEP, env: ENV });
    const hash = join(directory, "command");
    await rm(hash);
    await mkdir(hash); // the file in its place cannot be written
    process.kill(pidOf(child), "SIGKILL");
    await waitFor(() => /EISDIR|EEXIST|ENOTEMPTY/.test(child.status.state === "waiting" ? child.status.error : ""), {
      what: "it to say why it cannot be started",
    });
    await rmdir(hash);
    t.true(await waitFor(() => child.status.state === "running", { what: "it to run again" }));
  });
});
