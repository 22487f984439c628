// A process that is watched: what is wrong with its files does not hide its end.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import test from "ava";
import { silentLog } from "../../src/lib/log.ts";
import { parseStat } from "../../src/runtime/process-id.ts";
import { ProcessWatch } from "../../src/runtime/process-watch.ts";
import { TaskDirectory } from "../../src/runtime/task-directory.ts";
import { WatchedProcess } from "../../src/runtime/watched-process.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";
import { temporaryDirectory } from "../temporary.ts";

const FULL_LOG_BYTES = 17 << 20;
const POLL_MS = 1000;

test("a process that was killed is seen to have ended though its log cannot be cut", async (t) => {
  const path = temporaryDirectory("watched");
  t.teardown(() => rm(path, { recursive: true }));
  const directory = new TaskDirectory(path);
  const child = spawn("sleep", ["1000"]);
  await once(child, "spawn");
  const id = { ...parseStat(await readFile(`/proc/${child.pid}/stat`, "utf8"))!, startedAt: 0 };
  await writeFile(directory.log, "");
  await truncate(directory.log, FULL_LOG_BYTES);
  await mkdir(`${directory.log}.1`); // where it would be copied to
  const clock = new VirtualClock();
  const processes = new ProcessWatch({ clock, log: silentLog });
  const watched = new WatchedProcess({ directory, id, logFrom: 0, ready: null, clock, log: silentLog, processes });
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
  let error: string | null | undefined;
  void watched.exited.then((exit) => {
    error = exit.error;
  });
  const isSeen = async (): Promise<boolean> => {
    await clock.advance(POLL_MS);
    return error !== undefined;
  };
  await waitFor(isSeen, { what: "its end to be seen", deadlineMs: 10_000 });
  t.is(error, "it ended, and its exit status is not known");
});
