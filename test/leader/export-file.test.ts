// An export: what is written is read back whole, and a file that was cut or changed is refused in words.
import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { stateToJson } from "../../src/cluster/state.ts";
import { type ExportLock, readExport, secretsPath, writeExport } from "../../src/leader/export-file.ts";
import { UserError } from "../../src/lib/errors.ts";
import { temporaryDirectory } from "../temporary.ts";
import { Cluster } from "./cluster-fixture.ts";

const KEYS = { ca: "a private key" };
const AUTH = Buffer.from(JSON.stringify({ username: "me", password: "for the registry" })).toString("base64url");

/** Each character is turned by one, which is no protection. */
const lock: ExportLock = {
  lock: async (text) => Buffer.from(text).toString("base64"),
  unlock: async (text) => {
    const opened = Buffer.from(text, "base64").toString();
    if (!opened.startsWith("{")) throw new Error("the passphrase is wrong, or what it locks was changed");
    return opened;
  },
};

async function withExport(use: (path: string, cluster: Cluster) => Promise<void>): Promise<void> {
  const directory = temporaryDirectory("export");
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({
    type: "service.create",
    name: "web",
    workload: { runtime: "docker", image: "web:1", registryAuth: AUTH },
  });
  try {
    const path = join(directory, "export.jsonl");
    await writeExport(path, { state: cluster.leader.state, keys: KEYS, lock, now: 0 });
    await use(path, cluster);
  } finally {
    await rm(directory, { recursive: true });
  }
}

test("what was exported is read back with its identity, secrets and keys", async (t) => {
  await withExport(async (path, cluster) => {
    const { state, keys } = await readExport(path, lock);
    const [read, written] = [stateToJson(state), stateToJson(cluster.leader.state)];
    for (const json of [read, written]) json.services.sort((a, b) => (a.id < b.id ? -1 : 1));
    t.deepEqual(read, written);
    t.deepEqual(keys, KEYS);
  });
});

test("the first file has no secret, and its first line says what it is of", async (t) => {
  await withExport(async (path, cluster) => {
    const text = await readFile(path, "utf8");
    t.false(text.includes(AUTH));
    const { cluster: identity, revision } = cluster.leader.state;
    t.like(JSON.parse(text.split("\n")[0]!), { overlayd: "export", format: 1, cluster: identity, revision });
  });
});

const DAMAGE: [title: string, change: (text: string) => string, expected: RegExp][] = [
  [
    "cut after a line",
    (text) => `${text.split("\n").slice(0, -2).join("\n")}\n`,
    /its last line is missing: it was cut$/,
  ],
  ["cut within a line", (text) => text.slice(0, -10), /its last line is missing: it was cut$/],
  ["without a row", (text) => text.split("\n").toSpliced(2, 1).join("\n"), /its digest is another$/],
  ["with a changed row", (text) => text.replace('"ingress"', '"egress"'), /its digest is another$/],
  ["that is empty", () => "", /its last line is missing: it was cut$/],
  ["that is no export", () => "hello\n", /its last line is missing: it was cut$/],
];
for (const [title, change, expected] of DAMAGE) {
  test(`a file ${title} is refused`, async (t) => {
    await withExport(async (path) => {
      await writeFile(path, change(await readFile(path, "utf8")));
      const error = await t.throwsAsync(readExport(path, lock), { instanceOf: UserError });
      t.true(error!.message.startsWith(`'${path}' is not imported, and nothing was changed: `), error!.message);
      t.regex(error!.message, expected);
    });
  });
}

test("a second file that is missing, changed, or another export's is refused", async (t) => {
  await withExport(async (path, cluster) => {
    const secret = secretsPath(path);
    const own = await readFile(secret);
    await cluster.leader.execute({ type: "network.create", name: "more" });
    await writeExport(`${path}.2`, { state: cluster.leader.state, keys: KEYS, lock, now: 0 });
    await writeFile(secret, await readFile(secretsPath(`${path}.2`)));
    await t.throwsAsync(readExport(path, lock), { message: /it belongs to another export than/ });
    await writeFile(secret, `x${own}`);
    await t.throwsAsync(readExport(path, lock), {
      message: /the passphrase is wrong, or what it locks was changed; .*'--passphrase-file'/,
    });
    await rm(secret);
    await t.throwsAsync(readExport(path, lock), { message: /\.secrets' is not imported.*: there is no such file$/ });
    await writeFile(secret, own);
    await appendFile(path, "{}\n");
    await t.throwsAsync(readExport(path, lock), { message: /it was cut|its digest is another/ });
  });
});
