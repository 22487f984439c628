// The identity on disk: read as written, whole or not at all, for root alone.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { createAuthority } from "../../src/trust/authority.ts";
import { createKey } from "../../src/trust/certificates.ts";
import { IdentityFiles, ManagerKeys, type StoredIdentity } from "../../src/trust/identity-files.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { CLUSTER, certificateOf, node, nodesAuthority } from "./cluster.ts";

async function written(): Promise<{ home: string; files: IdentityFiles; identity: StoredIdentity }> {
  const home = join(mkdtempSync(join(tmpdir(), "overlayd-identity-")), "identity");
  const files = new IdentityFiles(home);
  const [first, second] = [await nodesAuthority(), await nodesAuthority()];
  const identity = {
    managers: ["192.0.2.11:2377"],
    ...(await certificateOf(first, node("node1"))),
    ...{ bundle: [first.certificate, second.certificate], bridges: [] },
  };
  await files.write(identity);
  return { home, files, identity };
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
  const files = new IdentityFiles(join(mkdtempSync(join(tmpdir(), "overlayd-identity-")), "identity"));
  t.is(await files.read(), undefined);
  t.is(await files.ownKey(), await files.ownKey());
});

const DAMAGES: [what: string, file: string, content: string | undefined, message: RegExp][] = [
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
];
for (const [what, file, content, message] of DAMAGES) {
  test(`a ${file} that ${what} is named, with what to type`, async (t) => {
    const { home, files } = await written();
    if (content === undefined) rmSync(join(home, file));
    else writeFileSync(join(home, file), content);
    const error = await t.throwsAsync(files.read(), { name: "TrustError", message });
    t.regex(error!.message, /move \/.*identity away, start the agent again and join anew/);
  });
}

test("a key that is cut is of no use: the next join makes another one", async (t) => {
  const { home, files, identity } = await written();
  t.is(await files.ownKey(), identity.key);
  writeFileSync(join(home, "node.key"), identity.key.slice(0, 60));
  const key = await files.ownKey();
  t.not(key, identity.key);
  t.is(await files.ownKey(), key);
});

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
    [[first!], [second!], [first!, second!], [second!]].map((bundle) => files.writeCertificates({ bundle })),
  );
  t.deepEqual((await files.read())!.bundle, [second]);
});

test("the role is in the certificate alone, and where managers are changes beside it", async (t) => {
  const { home, files, identity } = await written();
  const { key, certificate } = await certificateOf(
    await nodesAuthority(),
    node("node1", "manager"),
    Date.now(),
    identity.key,
  );
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
