// Directories of tests: one whose process was killed is removed by the next one, and one whose process runs or has ended well is not there to remove.
import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { temporaryDirectory } from "./temporary.ts";

const OPENER = fileURLToPath(new URL("./temporary-opener.js", import.meta.url));

async function opened(t: ExecutionContext, on: string) {
  const opener = fork(OPENER, [on]);
  t.teardown(() => opener.kill("SIGKILL"));
  const [directory] = (await once(opener, "message")) as [string];
  const end = async (signal: NodeJS.Signals | undefined) => {
    if (signal === undefined) opener.send("end");
    else opener.kill(signal);
    await once(opener, "exit");
  };
  return { directory, end };
}

test("what a process that was killed left is removed by the next one, and what one has that runs is not", async (t) => {
  const on = temporaryDirectory("leftovers");
  const [killed, running] = await Promise.all([opened(t, on), opened(t, on)]);
  await killed.end("SIGKILL");
  t.true(existsSync(join(killed.directory, "file")));
  const foreign = join(on, "overlayd-another");
  mkdirSync(foreign);
  writeFileSync(join(on, "overlayd-file"), "");
  const next = temporaryDirectory("next", on);
  t.deepEqual([killed.directory, running.directory, foreign, next].map(existsSync), [false, true, true, true]);
});

test("a process that ends leaves nothing", async (t) => {
  const { directory, end } = await opened(t, temporaryDirectory("leftovers"));
  await end(undefined);
  t.false(existsSync(directory));
});
