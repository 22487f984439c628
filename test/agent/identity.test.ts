// A node whose identity is damaged: it runs from its snapshot, and says what is wrong and what to type.
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { parseConfig } from "../../src/agent/config.ts";
import { readIdentity } from "../../src/agent/identity.ts";
import { givenAddressesOf, managerAddressOf } from "../../src/agent/node-identity.ts";
import { writeNodeSettings } from "../../src/agent/node-settings.ts";
import { pathsOf } from "../../src/agent/paths.ts";
import { emptyState } from "../../src/cluster/state.ts";
import { PlatformError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { createKey } from "../../src/trust/certificates.ts";
import { IdentityFiles } from "../../src/trust/identity-files.ts";
import { id, nodeRow, put } from "../api/fake-backend.ts";
import { putSnapshot } from "../fakes/snapshot-on-disk.ts";
import { temporaryDirectory } from "../temporary.ts";
import { certificateOf, flipped, nodesAuthority } from "../trust/cluster.ts";

const CLUSTER = id("cluster");

/** A node that has joined, with what it wrote of the state. */
async function joined(t: ExecutionContext, { snapshotOf = CLUSTER }: { snapshotOf?: string | null } = {}) {
  const dataDir = temporaryDirectory("damaged");
  t.teardown(() => rmSync(dataDir, { recursive: true }));
  const config = parseConfig(`node: { name: node1, address: 192.0.2.11 }\ndataDir: ${dataDir}\n`);
  const paths = pathsOf(config);
  const authority = await nodesAuthority(CLUSTER);
  const subject = { kind: "node", clusterId: CLUSTER, id: id("node1"), name: "node1", role: "worker" } as const;
  const certified = await certificateOf(authority, subject);
  const files = new IdentityFiles(paths.identity);
  await files.write({ managers: ["192.0.2.12:2377"], ...certified, bundle: [authority.certificate], bridges: [] });
  await writeNodeSettings(paths.settings, { pool: "10.64.0.0/16", domain: "corp", listen: null, advertise: null });
  if (snapshotOf !== null) {
    const state = emptyState();
    state.cluster = { id: snapshotOf, epoch: 1 };
    const listen = { address: "0.0.0.0", port: 2377 };
    const manager = { role: "manager", manager: true, address: "192.0.2.12", listen } as const;
    const settings = { pool: "10.64.0.0/16", domain: "corp", livenessMs: 30_000, workerWrites: false, encrypt: false };
    state.apply(
      [
        put.node(nodeRow("node1", { role: "worker" })),
        put.node(nodeRow("node2", manager)),
        { kind: "settings", key: "cluster", row: settings },
      ],
      7,
    );
    await putSnapshot(paths.snapshot, id("node1"), state);
  }
  return { config, paths, files, key: certified.key };
}

type Damage = string | undefined | ((text: string) => string);
const DAMAGES: [what: string, file: string, content: Damage, said: RegExp][] = [
  ["a certificate that is cut", "node.crt", "-----BEGIN CERTIFICATE-----\nMIIB", /node\.crt cannot be used/],
  ["no certificate", "node.crt", undefined, /node\.crt cannot be used: it is missing/],
  ["no key", "node.key", undefined, /node\.key cannot be used: it is missing/],
  ["a key that is cut", "node.key", "-----BEGIN PRIVATE KEY-----\nMIG", /node\.key cannot be used/],
  ["another key", "node.key", createKey(), /node\.crt cannot be used: it is not the certificate of node\.key/],
  ["CAs that are cut", "ca.crt", "-----BEGIN CERTIFICATE-----\nMIIB", /ca\.crt cannot be used: it is cut/],
  ["a key with another byte", "node.key", (text) => flipped(text, 40), /node\.key cannot be used: it is not what/],
  ["a certificate with another byte", "node.crt", (text) => flipped(text, -1), /node\.crt cannot be used: no CA of/],
  ["a CA with another byte", "ca.crt", (text) => flipped(text, -1), /ca\.crt cannot be used: a CA in it was changed/],
  ["no CAs", "ca.crt", undefined, /ca\.crt cannot be used: it is missing/],
  ["JSON that is broken", "node.json", '{"managers":', /node\.json cannot be used/],
];
for (const [what, file, content, said] of DAMAGES) {
  test(`a node with ${what} runs from its snapshot`, async (t) => {
    const { config, paths, files, key } = await joined(t);
    t.is((await readIdentity(config, silentLog))!.damage, undefined);
    const path = join(paths.identity, file);
    if (content === undefined) rmSync(path);
    else writeFileSync(path, typeof content === "string" ? content : content(readFileSync(path, "utf8")));
    const identity = (await readIdentity(config, silentLog))!;
    t.like(identity, { clusterId: CLUSTER, nodeId: id("node1"), name: "node1", role: "worker" });
    t.like(identity.settings, { pool: "10.64.0.0/16", domain: "corp" });
    t.regex(identity.damage!, said);
    t.regex(identity.damage!, /overlayctl join MANAGER:2377 --token T.*overlayctl leave --force/);
    // What shows that it is the same node, is still there for the next join.
    if (file !== "node.key") t.is(await files.ownKey(), key);
  });
}

test("where managers are comes from the snapshot when that file alone is missing, and nothing is damaged", async (t) => {
  const { config, paths, files } = await joined(t);
  rmSync(join(paths.identity, "node.json"));
  const identity = (await readIdentity(config, silentLog))!;
  t.like(identity, { nodeId: id("node1"), role: "worker", managers: ["192.0.2.12:2377"], damage: undefined });
  t.deepEqual((await files.read())!.managers, ["192.0.2.12:2377"]);
});

for (const [what, content] of [
  ["are broken", '{"pool":'],
  ["are not there", undefined],
] as const) {
  test(`settings that ${what} come from the snapshot, and nothing is damaged`, async (t) => {
    const { config, paths } = await joined(t);
    const before = (await readIdentity(config, silentLog))!.settings;
    if (content === undefined) rmSync(paths.settings);
    else writeFileSync(paths.settings, content);
    const { settings, damage } = (await readIdentity(config, silentLog))!;
    t.is(damage, undefined);
    t.deepEqual(settings, before);
    t.deepEqual(JSON.parse(readFileSync(paths.settings, "utf8")), before);
    t.is(existsSync(`${paths.settings}.damaged`), content !== undefined);
  });

  test(`settings that ${what} are named where there is no snapshot of this node`, async (t) => {
    const { config, paths } = await joined(t, { snapshotOf: null });
    if (content === undefined) rmSync(paths.settings);
    else writeFileSync(paths.settings, content);
    const error = await t.throwsAsync(readIdentity(config, silentLog), { instanceOf: PlatformError });
    t.regex(error!.message, /settings\.json, which says what this node was told .* there is none at .*snapshot\.json/);
  });
}

for (const [what, row, given] of [
  ["where the node is", {}, { listen: null, advertise: null }],
  [
    "on every address",
    { listen: { address: "0.0.0.0", port: 2377 } },
    { listen: { address: "0.0.0.0", port: 2377 }, advertise: null },
  ],
  [
    "behind a translator, on another port",
    { listen: { address: "192.0.2.11", port: 4000 }, advertise: { address: "198.51.100.1", port: 2377 } },
    { listen: { address: "192.0.2.11", port: 4000 }, advertise: { address: "198.51.100.1", port: 2377 } },
  ],
] as const) {
  test(`a manager that answers ${what} does so with settings from its snapshot`, (t) => {
    const config = parseConfig("node: { name: node1, address: 192.0.2.11 }\n");
    const own = { address: "192.0.2.11", listen: { address: "192.0.2.11", port: 2377 }, ...row };
    const node = nodeRow("node1", { role: "manager", manager: true, ...own });
    t.deepEqual(givenAddressesOf(node), given);
    const { listen, advertise } = managerAddressOf(config, givenAddressesOf(node), own.address);
    t.deepEqual({ listen, advertise }, { listen: node.listen!, advertise: node.advertise });
  });
}

for (const [what, snapshotOf] of [
  ["no snapshot", null],
  ["another cluster's snapshot", id("other")],
] as const) {
  test(`a join that broke off before its end counts as none, with ${what}`, async (t) => {
    const { config, paths } = await joined(t, { snapshotOf });
    rmSync(join(paths.identity, "node.json"));
    t.is(await readIdentity(config, silentLog), undefined);
    t.false(existsSync(join(paths.identity, "node.json")));
  });
}

test("without a snapshot there is nothing to run from, and the refusal says both", async (t) => {
  const { config, paths } = await joined(t, { snapshotOf: null });
  rmSync(join(paths.identity, "node.crt"));
  const error = await t.throwsAsync(readIdentity(config, silentLog), { instanceOf: PlatformError });
  t.regex(
    error!.message,
    /node\.crt cannot be used: it is missing; nor does it run from its snapshot: there is none at/,
  );
  t.regex(error!.message, /move .*identity away, start the agent again and join anew/);
});

test("a snapshot of another cluster than the certificate's is not run from: its addresses may be another's", async (t) => {
  const { config, paths } = await joined(t, { snapshotOf: id("other") });
  t.is((await readIdentity(config, silentLog))!.damage, undefined);
  writeFileSync(join(paths.identity, "node.key"), readFileSync(join(paths.identity, "node.json")));
  const error = await t.throwsAsync(readIdentity(config, silentLog), { instanceOf: PlatformError });
  t.regex(error!.message, /that is of node \S+ of cluster \S+, and the certificate of node \S+ of \S+/);
});
