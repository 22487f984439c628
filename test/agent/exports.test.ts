// Exports on a manager's disk: none is written over another file, and the newest of each kind stay.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { Exports } from "../../src/agent/exports.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { id } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { temporaryDirectory } from "../temporary.ts";

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;
const START = Date.parse("2026-11-30T12:00:00.000Z");

async function opened(t: ExecutionContext) {
  const home = temporaryDirectory("exports");
  t.teardown(() => rm(home, { recursive: true }));
  const directory = join(home, "exports");
  const clock = new VirtualClock(START);
  const at = (own: VirtualClock) =>
    new Exports({ directory, passphrase: "p", keys: () => ({}) as ManagerKeys, log: silentLog, clock: own });
  const state = Object.assign(emptyState(), { cluster: { id: id("cluster"), epoch: 1 } });
  const named = async () => (await readdir(directory)).filter((name) => name.endsWith(".jsonl")).toSorted();
  return { home, directory, clock, exports: at(clock), at, state, named };
}

test("an export is not written over a file that is there, nor its second file, and the refusal says what to type", async (t) => {
  const { home, exports, state } = await opened(t);
  const path = join(home, "backup.jsonl");
  await exports.writeTo(path, state);
  const first = await readFile(path, "utf8");
  const secrets = await readFile(`${path}.secrets`, "utf8");
  const refused = await t.throwsAsync(exports.writeTo(path, state), { instanceOf: UserError });
  t.is(
    refused!.message,
    `'${path}' exists, and no export is written over another file: move it away first, or keep both with ` +
      `'overlayctl cluster export ${home}/backup-2026-11-30T12-00-00.000Z.jsonl'`,
  );
  t.is(refused!.code, 409);
  t.is(await readFile(path, "utf8"), first);
  await rm(path);
  await t.throwsAsync(exports.writeTo(path, state), { message: new RegExp(`^'${path}.secrets' exists, `) });
  t.is(await readFile(`${path}.secrets`, "utf8"), secrets);
  t.deepEqual(await readdir(home), ["backup.jsonl.secrets"]);
});

test("of two exports to one file at the same time, one is written whole and the other one refused", async (t) => {
  const { home, exports, state } = await opened(t);
  const both = await Promise.allSettled([1, 2].map(() => exports.writeTo(join(home, "backup"), state)));
  t.deepEqual(both.map(({ status }) => status).toSorted(), ["fulfilled", "rejected"]);
});

test("a directory is no file to export to, and the refusal names a file in it", async (t) => {
  const { home, exports, state } = await opened(t);
  await t.throwsAsync(exports.writeTo(home, state), {
    message: `'${home}' is a directory: name a file in it, as 'overlayctl cluster export ${home}/cluster-2026-11-30T12-00-00.000Z.jsonl' does`,
  });
});

test("an export that cannot be written leaves neither file", async (t) => {
  const { home, exports, state } = await opened(t);
  const path = join(home, "backup");
  await mkdir(`${path}.new`); // where the second one is to be written
  await t.throwsAsync(exports.writeTo(path, state));
  t.deepEqual(await readdir(home), ["backup.new"]);
});

test("the newest seven of each kind stay; what broke off goes, and files of other names stay", async (t) => {
  const { directory, clock, exports, state, named } = await opened(t);
  const other = await exports.write("before-change", state);
  const written: string[] = [];
  await writeFile(join(directory, "daily-mine.jsonl"), "");
  await writeFile(join(directory, "daily-2026-01-01T00-00-00.000Z-r1.jsonl.secrets"), "");
  await writeFile(join(directory, "daily-2026-01-01T00-00-00.000Z-r1.jsonl.new"), "");
  for (let day = 0; day < 9; day++) {
    written.push(await exports.write("daily", state));
    clock.step(DAY_MS);
  }
  const kept = [other, ...written.slice(-7), join(directory, "daily-mine.jsonl")];
  t.deepEqual(
    (await named()).map((name) => join(directory, name)),
    kept.toSorted(),
  );
  const secrets = (await readdir(directory)).filter((name) => !name.endsWith(".jsonl"));
  t.deepEqual(
    secrets.map((name) => join(directory, name)).toSorted(),
    [other, ...written.slice(-7)].map((path) => `${path}.secrets`).toSorted(),
  );
  t.is((await exports.newest())!.path, written.at(-1)!);
});

test("after a time in which the clock was years ahead, exports are written each day and kept", async (t) => {
  const { clock, exports, at, state, named } = await opened(t);
  clock.step(4 * YEAR_MS);
  for (let count = 0; count < 7; count++) {
    await exports.write("daily", state);
    clock.step(DAY_MS);
  }
  for (let day = 1; day <= 3; day++) {
    const today = new VirtualClock(START + day * DAY_MS);
    const daily = at(today);
    daily.start(async () => state);
    await today.advance(60_000);
    const ofThisTime = async () => (await named()).filter((name) => name.startsWith("daily-2026-12"));
    while ((await ofThisTime()).length < day) await delay(5);
    await daily.write("given-way", state); // comes after what the other one has to do
    daily.stop();
    t.is((await ofThisTime()).length, day);
    t.is((await named()).filter((name) => name.startsWith("daily-")).length, 7);
  }
  t.regex((await at(new VirtualClock(START + 4 * DAY_MS)).newest())!.path, /-2026-12-0/);
});
