// A manager's keys on its disk: what is lost or damaged comes back from its newest export, or is named with what to type.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { parseConfig } from "../../src/agent/config.ts";
import { Exports } from "../../src/agent/exports.ts";
import { readIdentity } from "../../src/agent/identity.ts";
import { NoKeysError, openManagerKeys } from "../../src/agent/manager-keys.ts";
import { writeNodeSettings } from "../../src/agent/node-settings.ts";
import { pathsOf } from "../../src/agent/paths.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type Authority, createAuthority } from "../../src/trust/authority.ts";
import { IdentityFiles, type ManagerKeys } from "../../src/trust/identity-files.ts";
import { lockManagerKeys, ownPassphrase } from "../../src/trust/passphrase.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { id, nodeRow, put } from "../api/fake-backend.ts";
import { temporaryDirectory } from "../temporary.ts";
import { certificateOf, nodesAuthority } from "../trust/cluster.ts";

const CLUSTER = id("cluster");

/** A manager that has joined; its node trusts the CA of its keys, and `trusted`. */
async function manager(
  t: ExecutionContext,
  { cluster = "", trusted = [] }: { cluster?: string; trusted?: Authority[] } = {},
) {
  const dataDir = temporaryDirectory("keys");
  t.teardown(() => rmSync(dataDir, { recursive: true }));
  const config = parseConfig(`node: { name: node1, address: 192.0.2.11 }\ndataDir: ${dataDir}\n${cluster}`);
  const { identity: directory, settings, exports: all } = pathsOf(config);
  const exports = join(all, CLUSTER);
  const [nodes, store] = await Promise.all([
    nodesAuthority(CLUSTER),
    createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() }),
  ]);
  const keys: ManagerKeys = { nodes, store, sealKey: createSealKey() };
  const subject = { kind: "node", clusterId: CLUSTER, id: id("node1"), name: "node1", role: "manager" } as const;
  const files = new IdentityFiles(directory);
  const bundle = [nodes, ...trusted].map(({ certificate }) => certificate);
  await files.write({ managers: [], ...(await certificateOf(nodes, subject)), bundle, bridges: [] });
  await writeNodeSettings(settings, { pool: "10.64.0.0/16", domain: "corp", listen: null, advertise: null });
  await lockManagerKeys(files, directory, undefined, keys);
  const identity = (await readIdentity(config, silentLog))!;
  const passphrase = await ownPassphrase(directory, undefined);
  const writer = new Exports({ directory: exports, passphrase, keys: () => keys, log: silentLog });
  return {
    ...{ keys, path: join(directory, "manager.keys"), beside: join(directory, "passphrase") },
    open: (others: string[] = ["node2"]) => {
      const state = emptyState();
      const managers = ["node1", ...others].map((name) => put.node(nodeRow(name, { role: "manager" })));
      state.apply(managers, 1);
      return openManagerKeys({ config, identity, state, exports, log: silentLog });
    },
    export: () => writer.write("daily", Object.assign(emptyState(), { cluster: { id: CLUSTER, epoch: 1 } })),
  };
}

/** Changes a character in the middle. */
function damage(path: string): void {
  const text = readFileSync(path, "utf8");
  const at = text.length >> 1;
  writeFileSync(path, `${text.slice(0, at)}${text[at] === "a" ? "b" : "a"}${text.slice(at + 1)}`);
}

test("keys that are whole are read, whatever there is of exports", async (t) => {
  const { keys, open } = await manager(t);
  t.deepEqual((await open()).ring.keys, keys);
});

for (const [what, harm] of [
  ["lost", rmSync],
  ["damaged", damage],
  ["cut", (path: string) => writeFileSync(path, readFileSync(path, "utf8").slice(0, 20))],
] as const) {
  test(`keys that are ${what} come back from the newest export, and are on the disk again`, async (t) => {
    const { keys, path, open, ...rest } = await manager(t);
    await rest.export();
    harm(path);
    t.deepEqual((await open()).ring.keys, keys);
    await rest.export(); // this one counts from now on
    t.true(existsSync(path));
    t.deepEqual((await open()).ring.keys, keys);
  });

  test(`keys that are ${what} are named with what to type, when there is no export`, async (t) => {
    const { path, open } = await manager(t);
    harm(path);
    const error = await t.throwsAsync(open(), { instanceOf: NoKeysError });
    t.regex(
      error!.message,
      /identity\/manager\.keys (is missing|cannot be used: .*); nor does the newest export have them/,
    );
    t.regex(
      error!.message,
      /there is none in .*exports\S* \(bring the file, .* 'overlayctl join MANAGER:2377 --token T'/,
    );
  });
}

test("the only manager is told of no other one to join", async (t) => {
  const { path, open } = await manager(t);
  rmSync(path);
  const words = /\(bring the file, or the passphrase, back from a backup: no other manager has these keys\)$/;
  await t.throwsAsync(open([]), { instanceOf: NoKeysError, message: words });
});

test("a passphrase that is lost is named, and none is made in its place", async (t) => {
  const { beside, open, ...rest } = await manager(t);
  await rest.export();
  rmSync(beside);
  await t.throwsAsync(open(), {
    instanceOf: NoKeysError,
    message: /identity\/passphrase is missing, .*: its passphrase is missing/,
  });
  t.false(existsSync(beside));
});

test("a passphrase that is wrong opens neither the keys nor the export", async (t) => {
  const { beside, open, ...rest } = await manager(t);
  await rest.export();
  writeFileSync(beside, "another\n");
  const words =
    /manager\.keys cannot be used: the passphrase is wrong.*\.jsonl\.secrets cannot be used: the passphrase is wrong/;
  await t.throwsAsync(open(), { instanceOf: NoKeysError, message: words });
});

test("an export from before a change of a CA is not used", async (t) => {
  const { path, open, ...rest } = await manager(t, { trusted: [await nodesAuthority(CLUSTER)] });
  await rest.export();
  rmSync(path);
  await t.throwsAsync(open(), { instanceOf: NoKeysError, message: /daily-.*\.jsonl is from before a change of a CA/ });
});
