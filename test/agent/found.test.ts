// `init`: what it leaves in an empty data directory, in one where it broke off, and in that of an earlier version.
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, statSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { open } from "lmdb";
import { parseConfig } from "../../src/agent/config.ts";
import { found } from "../../src/agent/found.ts";
import { readIdentity } from "../../src/agent/identity.ts";
import { Init } from "../../src/api/membership-schema.ts";
import type { LiveState } from "../../src/cluster/state.ts";
import { openEmbeddedStore } from "../../src/leader/embedded-store.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { publicKeyDigest } from "../../src/trust/certificates.ts";
import { IdentityFiles } from "../../src/trust/identity-files.ts";
import { unlockManagerKeys } from "../../src/trust/passphrase.ts";
import { parseToken } from "../../src/trust/token.ts";
import { id, networkRow, nodeRow, put, serviceRow, taskRow } from "../api/fake-backend.ts";
import { temporaryDirectory } from "../temporary.ts";

const address = "192.0.2.11";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  await once(server.close(), "close");
  return port;
}

async function place(t: ExecutionContext) {
  const listen = `127.0.0.1:${await freePort()}`;
  const dataDir = temporaryDirectory("found");
  t.teardown(() => rmSync(dataDir, { recursive: true }));
  const config = parseConfig(
    `node: { name: node1, address: ${address} }\ndataDir: ${dataDir}\ncluster: { listen: "${listen}" }\n`,
  );
  return { config, log: silentLog, address, port: Number(listen.split(":")[1]) };
}

async function openStore({ dataDir }: { dataDir: string }) {
  const identity = join(dataDir, "identity");
  const { keys } = await unlockManagerKeys(new IdentityFiles(identity), identity, undefined);
  return openEmbeddedStore(join(dataDir, "store"), keys?.sealKey);
}

async function stored({ config }: Awaited<ReturnType<typeof place>>): Promise<LiveState> {
  const store = await openStore(config);
  try {
    return await store.load();
  } finally {
    await store.close();
  }
}

test("init makes a cluster: its state, an identity for root alone, and a token for workers", async (t) => {
  const where = await place(t);
  const asked = Init.parse({ pool: "10.64.0.0/16", domain: "Corp", livenessMs: 30_000, advertise: "203.0.113.5:2400" });
  const view = await found(where, asked);
  t.like(view, { address: "203.0.113.5:2400", adopted: false });

  const state = await stored(where);
  const node = state.nodes.get(view.nodeId)!;
  t.like(node, { name: "node1", address, role: "manager", manager: true, state: "down" });
  t.deepEqual(
    [node.listen, node.advertise],
    [
      { address: "127.0.0.1", port: where.port },
      { address: "203.0.113.5", port: 2400 },
    ],
  );
  t.deepEqual(
    [...state.settings.values()],
    [{ pool: "10.64.0.0/16", domain: "corp", livenessMs: 30_000, workerWrites: false, encrypt: false }],
  );
  t.deepEqual([...state.networks.values()].map(({ name }) => name).sort(), ["default", "ingress"]);

  const identity = (await readIdentity(where.config, silentLog))!;
  t.like(identity, { clusterId: view.cluster, nodeId: view.nodeId, role: "manager", managers: ["203.0.113.5:2400"] });
  t.like(identity.settings, { pool: "10.64.0.0/16", domain: "corp" });
  t.like(identity.credentials.subject, { kind: "node", id: view.nodeId, name: "node1", role: "manager" });
  const { digest, secret } = parseToken(view.token);
  t.is(digest, publicKeyDigest(identity.credentials.bundle[0]!));
  t.is(secret, state.tokens.get("worker")!.secret);
  t.not(secret, state.tokens.get("manager")!.secret);
  t.is(node.keyDigest, publicKeyDigest(identity.credentials.key));
  for (const file of ["identity", "identity/node.key", "store", "settings.json"]) {
    t.is(statSync(join(where.config.dataDir, file)).mode & 0o077, 0, file);
  }
});

test("an init that broke off before its identity was on disk is begun anew, with the same cluster and node", async (t) => {
  const where = await place(t);
  const first = await found(where, Init.parse({}));
  rmSync(join(where.config.dataDir, "identity", "node.json"));
  t.is(await readIdentity(where.config, silentLog), undefined);
  const second = await found(where, Init.parse({}));
  t.deepEqual([second.cluster, second.nodeId], [first.cluster, first.nodeId]);
  t.is((await stored(where)).nodes.size, 1);
});

test("init takes over the state of a version without certificates: ids, networks and tasks stay", async (t) => {
  const where = await place(t);
  const cluster = { id: id("old"), epoch: 3 };
  const task = taskRow("search", 1, "node1");
  const earlier = { role: "worker", keyDigest: null, certificateExpires: null } as const;
  const store = await openEmbeddedStore(join(where.config.dataDir, "store"));
  await store.identify(cluster);
  const changes = [
    put.node(nodeRow("node1", earlier)),
    put.node(nodeRow("node2", earlier)),
    put.network(networkRow("ingress", { vni: 2, subnet: "10.192.0.0/20", gateway: "10.192.0.1" })),
    put.network(networkRow("web")),
    put.service(serviceRow("search")),
    put.task(task),
  ];
  await store.commit(changes, 17);
  await store.close();

  const outside = await t.throwsAsync(found(where, Init.parse({ pool: "10.64.0.0/16" })), { instanceOf: UserError });
  t.regex(outside!.message, /the pool 10\.64\.0\.0\/16 does not hold 10\.192\.\d+\.0\/20/);
  t.false(existsSync(join(where.config.dataDir, "identity", "node.json")));

  const view = await found(where, Init.parse({}));
  t.like(view, { cluster: cluster.id, nodeId: id("node1"), adopted: true });
  const state = await stored(where);
  t.deepEqual(state.cluster, cluster);
  t.true(state.revision > 17);
  t.deepEqual(state.tasks.get(task.id), task);
  t.is(state.nodes.get(id("node1"))!.role, "manager");
  t.like(state.nodes.get(id("node2"))!, { role: "worker", keyDigest: null });
});

test("init --encrypt makes every network encrypted, also later ones, and does not take over clear ones", async (t) => {
  const where = await place(t);
  await found(where, Init.parse({ encrypt: true }));
  const { networks, settings } = await stored(where);
  t.deepEqual([...networks.values()].map(({ name, encrypted }) => [name, encrypted]).toSorted(), [
    ["default", true],
    ["ingress", true],
  ]);
  t.true([...settings.values()][0]!.encrypt);

  const earlier = await place(t);
  const store = await openEmbeddedStore(join(earlier.config.dataDir, "store"));
  await store.identify({ id: id("old"), epoch: 3 });
  await store.commit([put.network(networkRow("web"))], 17);
  await store.close();
  const error = await t.throwsAsync(found(earlier, Init.parse({ encrypt: true })), { instanceOf: UserError });
  t.regex(
    error!.message,
    /network 'web' is here already and is not encrypted, and no network can become so: run 'overlayctl init' without --encrypt/,
  );
});

test("init does not take over a cluster that others have joined already", async (t) => {
  const where = await place(t);
  await found(where, Init.parse({}));
  const store = await openStore(where.config);
  const { revision } = await store.load();
  await store.commit([put.node(nodeRow("node2", { keyDigest: "k" }))], revision + 1);
  await store.close();
  rmSync(join(where.config.dataDir, "identity", "node.json"));
  const error = await t.throwsAsync(found(where, Init.parse({})), { instanceOf: UserError });
  t.regex(error!.message, /there is a cluster here already, .*node 'node2' is of it; .* put its data directory back/);
});

test("registry credentials that an earlier version wrote in the clear are nowhere in the file after init", async (t) => {
  const where = await place(t);
  const file = join(where.config.dataDir, "store", "state.mdb");
  const plain = serviceRow("app");
  const registryAuth = Buffer.from(JSON.stringify({ username: "robot", password: "correct horse" })).toString(
    "base64url",
  );
  const service = { ...plain, workload: { ...plain.workload, runtime: "docker", image: "app:1", registryAuth } };
  const store = await openEmbeddedStore(join(where.config.dataDir, "store"));
  await store.identify({ id: id("old"), epoch: 3 });
  await store.commit([put.node(nodeRow("node1")), put.network(networkRow("web")), put.service(plain)], 5);
  await store.close();
  const db = open<string, string>({ path: file, noSubdir: true, encoding: "string" });
  db.putSync(`services/${plain.id}`, JSON.stringify(service));
  await db.close();
  t.true(readFileSync(file).includes(registryAuth), "as the version before left it");

  const { adopted } = await found(where, Init.parse({}));
  t.true(adopted);
  t.false(readFileSync(file).includes(registryAuth));
  t.is(statSync(file).mode & 0o077, 0);
  const { workload } = (await stored(where)).services.get(plain.id)!;
  t.like(workload, { runtime: "docker", registryAuth });
});
