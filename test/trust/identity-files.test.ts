// The identity on disk: read as written, whole or not at all, for root alone.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { type Authority, createAuthority } from "../../src/trust/authority.ts";
import { createKey } from "../../src/trust/certificates.ts";
import { IdentityFiles, ManagerKeys, type StoredIdentity } from "../../src/trust/identity-files.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { temporaryDirectory } from "../temporary.ts";
import { CLUSTER, certificateOf, flipped, node, nodesAuthority } from "./cluster.ts";

/** A byte of a private key's secret half, in PKCS #8. */
const SECRET_HALF = 40;

async function written(): Promise<{
  home: string;
  files: IdentityFiles;
  identity: StoredIdentity;
  authority: Authority;
}> {
  const home = join(temporaryDirectory("identity"), "identity");
  const files = new IdentityFiles(home);
  const [first, second] = [await nodesAuthority(), await nodesAuthority()];
  const identity = {
    managers: ["192.0.2.11:2377"],
    ...(await certificateOf(first, node("node1"))),
    ...{ bundle: [first.certificate, second.certificate], bridges: [] },
  };
  await files.write(identity);
  return { home, files, identity, authority: first };
}

test("an identity is read as it was written, and only its owner reads it", async (t) => {
  const { home, files, identity } = await written();
  t.deepEqual(await files.read(), identity);
  t.is(statSync(home).mode & 0o777, 0o700);
  for (const name of readdirSync(home)) t.is(statSync(join(home, name)).mode & 0o777, 0o600, name);
});

test("without node.json there is no identity, and the key stays for the next join", async (t) => {
  const { home, files, identity } = await written();
  rmSync(join(home, "node.json"));
  t.is(await files.read(), undefined);
  t.is(await files.ownKey(), identity.key);
});

test("a node has one key from its first join on", async (t) => {
  const files = new IdentityFiles(join(temporaryDirectory("identity"), "identity"));
  t.is(await files.read(), undefined);
  t.is(await files.ownKey(), await files.ownKey());
});

type Damage = string | undefined | ((text: string) => string);
const DAMAGES: [what: string, file: string, content: Damage, message: RegExp][] = [
  ["is missing", "node.crt", undefined, /node\.crt cannot be used: it is missing/],
  ["is no certificate", "node.crt", "x", /node\.crt cannot be used: it is not what overlayd writes/],
  [
    "is of another certificate",
    "node.key",
    createKey(),
    /node\.crt cannot be used: it is not the certificate of node\.key/,
  ],
  ["is no key", "node.key", "x", /node\.key cannot be used: it is not what overlayd writes/],
  ["is cut", "node.json", '{"managers":', /node\.json cannot be used: it is not what overlayd writes/],
  ["has no certificate", "ca.crt", "", /ca\.crt cannot be used: it has no certificate/],
  ["is cut after its first CA", "ca.crt", (text) => text.slice(0, -100), /ca\.crt cannot be used: it is cut/],
  ["has another byte", "ca.crt", (text) => flipped(text, -1), /ca\.crt cannot be used: a CA in it was changed/],
  [
    "has another byte",
    "node.crt",
    (text) => flipped(text, -1),
    /node\.crt cannot be used: no CA of ca\.crt has signed it/,
  ],
  [
    "has another byte in its secret half",
    "node.key",
    (text) => flipped(text, SECRET_HALF),
    /node\.key cannot be used: it is not what overlayd writes/,
  ],
  [
    "has another byte in its public half",
    "node.key",
    (text) => flipped(text, -1),
    /node\.key cannot be used: it is not what overlayd writes/,
  ],
];
for (const [what, file, content, message] of DAMAGES) {
  test(`a ${file} that ${what} is named`, async (t) => {
    const { home, files } = await written();
    const path = join(home, file);
    if (content === undefined) rmSync(path);
    else writeFileSync(path, typeof content === "string" ? content : content(readFileSync(path, "utf8")));
    await t.throwsAsync(files.read(), { name: "TrustError", message });
  });
}

for (const [what, damage] of [
  ["cut", (key: string) => key.slice(0, 60)],
  ["changed", (key: string) => flipped(key, SECRET_HALF)],
] as const) {
  test(`a key that is ${what} is of no use: the next join makes another one`, async (t) => {
    const { home, files, identity } = await written();
    t.is(await files.ownKey(), identity.key);
    writeFileSync(join(home, "node.key"), damage(identity.key));
    const key = await files.ownKey();
    t.not(key, identity.key);
    t.is(await files.ownKey(), key);
  });
}

test("a manager's keys are on its disk under a passphrase", async (t) => {
  const { home, files } = await written();
  t.is(await files.readManagerKeys("secret"), undefined);
  const nodes = await nodesAuthority();
  const store = await createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() });
  const keys = ManagerKeys.parse({ nodes, store, sealKey: createSealKey() });
  await files.writeManagerKeys("secret", keys);
  t.deepEqual(await files.readManagerKeys("secret"), keys);
  t.notRegex(readFileSync(join(home, "manager.keys"), "utf8"), /PRIVATE KEY/);
  await t.throwsAsync(files.readManagerKeys("other"), { name: "TrustError", message: /passphrase is wrong/ });
  await files.removeManagerKeys();
  t.is(await files.readManagerKeys("secret"), undefined);
});

test("writes at the same time follow each other", async (t) => {
  const { files, identity } = await written();
  const [first, second] = identity.bundle;
  await Promise.all(
    [[first!], [second!], [first!, second!], [first!]].map((bundle) => files.writeCertificates({ bundle })),
  );
  t.deepEqual((await files.read())!.bundle, [first]);
});

test("the role is in the certificate alone, and where managers are changes beside it", async (t) => {
  const { home, files, identity, authority } = await written();
  const { key, certificate } = await certificateOf(authority, node("node1", "manager"), Date.now(), identity.key);
  await Promise.all([files.writeCertificates({ certificate }), files.writeManagers(["192.0.2.12:2377"])]);
  t.deepEqual(await files.read(), { ...identity, key, certificate, managers: ["192.0.2.12:2377"] });
  t.notRegex(readFileSync(join(home, "node.json"), "utf8"), /role|node1|idnode/);
  await files.remove();
  await files.writeManagers(["192.0.2.12:2377"]);
  t.is(await files.read(), undefined);
});

test("a node that leaves keeps nothing", async (t) => {
  const { files, identity } = await written();
  await files.remove();
  t.is(await files.read(), undefined);
  t.not(await files.ownKey(), identity.key);
});
