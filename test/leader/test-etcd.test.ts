// The etcd of tests: one whose test was killed is ended and deleted by the next start.
import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import test from "ava";
import { isAlive, processIdOf } from "../../src/runtime/process-id.ts";
import { temporaryDirectory } from "../temporary.ts";

const OPENER = fileURLToPath(new URL("./etcd-opener.js", import.meta.url));

test("what a test that was killed left of its etcd is removed by the next start, and that of one that runs is not", async (t) => {
  const on = temporaryDirectory("etcds");
  t.teardown(() => rm(on, { recursive: true, force: true }));
  const open = async () => {
    const opener = fork(OPENER, [on]);
    t.teardown(() => opener.kill("SIGKILL"));
    const [{ directory, pid }] = (await once(opener, "message")) as [{ directory: string; pid: number }];
    return { opener, directory, id: (await processIdOf(pid))! };
  };
  const [killed, running] = await Promise.all([open(), open()]);
  killed.opener.kill("SIGKILL");
  await once(killed.opener, "exit");
  t.true(isAlive(killed.id), "etcd outlives the test that started it");

  const next = temporaryDirectory("etcd", on);
  t.false(isAlive(killed.id));
  t.deepEqual([killed.directory, running.directory, next].map(existsSync), [false, true, true]);
  t.true(isAlive(running.id));

  running.opener.kill("SIGKILL");
  await once(running.opener, "exit");
  temporaryDirectory("etcd", on);
  t.false(isAlive(running.id));
});
