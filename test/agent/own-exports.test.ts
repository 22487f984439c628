// Exports are kept apart by their clusters.
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Exports } from "../../src/agent/exports.ts";
import { ownExports } from "../../src/agent/own-exports.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { id } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";

const DAY_MS = 86_400_000;
const [FORMER, PRESENT] = [id("former"), id("present")];

/** All exports of the disk, and a way to write as a manager of a cluster does. */
function disk(t: ExecutionContext) {
  const all = join(temporaryDirectory("own-exports"), "exports");
  t.teardown(() => rm(join(all, ".."), { recursive: true }));
  const clock = new VirtualClock(Date.parse("2026-11-30T12:00:00.000Z"));
  const write = async (cluster: string, directory: string): Promise<string> => {
    const exports = new Exports({ directory, passphrase: "p", keys: () => ({}) as ManagerKeys, log: silentLog, clock });
    clock.step(DAY_MS);
    return exports.write("daily", Object.assign(emptyState(), { cluster: { id: cluster, epoch: 1 } }));
  };
  return { all, write };
}

const namesOf = async (paths: readonly string[], directory: string): Promise<boolean> => {
  const there = await readdir(directory);
  return paths.every((path) => there.includes(path.slice(path.lastIndexOf("/") + 1)));
};

test("those of a cluster that the node has left stay, however many the next one writes", async (t) => {
  const { all, write } = disk(t);
  const former = await write(FORMER, await ownExports(all, FORMER, silentLog));
  const own = await ownExports(all, PRESENT, silentLog);
  for (let day = 0; day < 9; day++) await write(PRESENT, own);
  t.true(await namesOf([former, `${former}.secrets`], join(all, FORMER)));
  t.is((await readdir(own)).length, 14);
});

test("those that an earlier version wrote beside the directories go into their cluster's, with their secrets", async (t) => {
  const { all, write } = disk(t);
  const mine = [await write(PRESENT, all), await write(PRESENT, all)];
  const others = await write(FORMER, all);
  await writeFile(join(all, "notes.jsonl"), "mine\n");
  await mkdir(join(all, "directory.jsonl"));
  const own = await ownExports(all, PRESENT, silentLog);
  t.is(own, join(all, PRESENT));
  t.true(await namesOf([...mine, ...mine.map((path) => `${path}.secrets`)], own));
  t.is((await readdir(own)).length, 4);
  t.true(await namesOf([others, `${others}.secrets`, "notes.jsonl", "directory.jsonl"], all));
});

test("a node without exports has the directory of its cluster, and nothing is made yet", async (t) => {
  const { all, write } = disk(t);
  t.is(await ownExports(all, PRESENT, silentLog), join(all, PRESENT));
  await t.throwsAsync(readdir(all), { code: "ENOENT" });
  await write(PRESENT, all); // for the teardown
});
