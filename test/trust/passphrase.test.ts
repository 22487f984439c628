// Where the passphrase of a manager's keys comes from, without a person.
import { existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { createAuthority } from "../../src/trust/authority.ts";
import { IdentityFiles, type ManagerKeys } from "../../src/trust/identity-files.ts";
import { lockManagerKeys, readPassphrase, unlockManagerKeys } from "../../src/trust/passphrase.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { temporaryDirectory } from "../temporary.ts";
import { CLUSTER, nodesAuthority } from "./cluster.ts";

const nodes = await nodesAuthority();
const store = await createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() });
const KEYS: ManagerKeys = { nodes, store, sealKey: createSealKey() };

function place(): { directory: string; files: IdentityFiles; file: string; beside: string } {
  const home = temporaryDirectory("passphrase");
  const directory = join(home, "identity");
  const file = join(home, "given");
  writeFileSync(file, "correct horse\n");
  return { directory, files: new IdentityFiles(directory), file, beside: join(directory, "passphrase") };
}

test("without one in the configuration, a passphrase is made beside the keys, and found again", async (t) => {
  const { directory, files, beside } = place();
  const { passphrase, keys } = await unlockManagerKeys(files, directory, undefined);
  t.is(keys, undefined);
  t.is(statSync(beside).mode & 0o777, 0o600);
  await files.writeManagerKeys(passphrase, KEYS);
  t.deepEqual(await unlockManagerKeys(files, directory, undefined), { passphrase, keys: KEYS });
});

test("keys are locked anew when the configuration names a passphrase, and the one beside them goes", async (t) => {
  const { directory, files, file, beside } = place();
  const { passphrase } = await unlockManagerKeys(files, directory, undefined);
  await files.writeManagerKeys(passphrase, KEYS);
  t.deepEqual(await unlockManagerKeys(files, directory, { file }), { passphrase: "correct horse", keys: KEYS });
  t.false(existsSync(beside));
  t.deepEqual(await files.readManagerKeys("correct horse"), KEYS);
});

test("an agent that was killed between locking anew and removing the earlier passphrase goes on", async (t) => {
  const { directory, files, file, beside } = place();
  await unlockManagerKeys(files, directory, undefined);
  await files.writeManagerKeys("correct horse", KEYS);
  t.deepEqual((await unlockManagerKeys(files, directory, { file })).keys, KEYS);
  t.false(existsSync(beside));
});

test("keys whose passphrase is lost do not open, and no other one is made; keys that come again are locked under a new one", async (t) => {
  const { directory, files, beside } = place();
  await lockManagerKeys(files, directory, undefined, KEYS);
  rmSync(beside);
  await t.throwsAsync(unlockManagerKeys(files, directory, undefined), {
    message: /identity\/passphrase is missing, the passphrase that unlocks manager\.keys/,
  });
  t.false(existsSync(beside));
  await lockManagerKeys(files, directory, undefined, KEYS);
  t.deepEqual((await unlockManagerKeys(files, directory, undefined)).keys, KEYS);
});

test("keys that are locked with the passphrase of the configuration leave none beside them", async (t) => {
  const { directory, files, file, beside } = place();
  await lockManagerKeys(files, directory, undefined, KEYS);
  await lockManagerKeys(files, directory, { file }, KEYS);
  t.false(existsSync(beside));
  t.deepEqual((await unlockManagerKeys(files, directory, { file })).keys, KEYS);
});

test("a wrong passphrase is said to be wrong", async (t) => {
  const { directory, files, file } = place();
  await files.writeManagerKeys("another", KEYS);
  await t.throwsAsync(unlockManagerKeys(files, directory, { file }), { message: /the passphrase is wrong/ });
});

test("a passphrase comes from a file or from the environment", async (t) => {
  t.is(await readPassphrase({ file: place().file }), "correct horse");
  process.env.OVERLAYD_TEST_PASSPHRASE = "battery";
  t.is(await readPassphrase({ env: "OVERLAYD_TEST_PASSPHRASE" }), "battery");
});

const empty = join(temporaryDirectory("passphrase"), "empty");
writeFileSync(empty, "\n");
for (const [what, source, message] of [
  [
    "a file that is not there",
    { file: "/nowhere/passphrase" },
    /cluster\.passphrase\.file: '\/nowhere\/passphrase' cannot be read/,
  ],
  ["an empty file", { file: empty }, /cluster\.passphrase\.file: '.*' is empty/],
  [
    "a variable that is not set",
    { env: "OVERLAYD_NO_SUCH" },
    /cluster\.passphrase\.env: .*OVERLAYD_NO_SUCH is not set/,
  ],
] as const) {
  test(`${what} gives no passphrase, and the error names the field`, async (t) => {
    await t.throwsAsync(readPassphrase(source), { name: "ConfigError", message });
  });
}
