// Who is trusted at the other end of TLS, and in what words others are refused: real connections over loopback.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import test, { type ExecutionContext } from "ava";
import { createAuthority } from "../../src/trust/authority.ts";
import { publicKeyDigest } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import { pinnedTls } from "../../src/trust/pinned.ts";
import { serverRefusal } from "../../src/trust/refusals.ts";
import { ClientConnections, clientTls } from "../../src/trust/tls.ts";
import { temporaryDirectory } from "../temporary.ts";
import { CLUSTER, certificateOf, credentialsOf, DAY_MS, HOUR_MS, node, nodesAuthority, user } from "./cluster.ts";
import { get, serve, type TestServer } from "./tls-server.ts";

const NOW = Date.now();
const OTHER = "d".repeat(25);
const authority = await nodesAuthority(CLUSTER, NOW - 200 * DAY_MS);
const otherAuthority = await nodesAuthority(OTHER);
const worker = await credentialsOf(authority, node("node2"));

async function server(t: ExecutionContext, credentials: Credentials): Promise<TestServer> {
  const started = await serve(credentials);
  t.teardown(() => started.close());
  return started;
}

test("a manager and a worker know each other by their certificates", async (t) => {
  const { port } = await server(t, await credentialsOf(authority, node("node1", "manager")));
  t.is(await get(port, clientTls(worker, { role: "manager" })), "node2");
  t.is(await get(port, clientTls(await credentialsOf(authority, user("alice")), { role: "manager" })), "alice");
  t.is(await get(port, { rejectUnauthorized: false }), "no name");
});

/** A client with the certificate, which trusts the CA of the cluster. */
async function client(t: ExecutionContext, shown: { certificate: string; key: string }): Promise<string> {
  const { port } = await server(t, await credentialsOf(authority, node("node1", "manager")));
  return get(port, {
    ...{ cert: shown.certificate, key: shown.key, ca: authority.certificate, minVersion: "TLSv1.3" },
    checkServerIdentity: () => undefined,
  });
}

function selfSigned(): { certificate: string; key: string } {
  const home = temporaryDirectory("self");
  const [keyFile, file] = [join(home, "key"), join(home, "crt")];
  const names = ["-subj", "/CN=node2/OU=worker", "-addext", `subjectAltName=URI:overlayd://${CLUSTER}/node/idnode2`];
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
  execFileSync("openssl", ["req", "-x509", "-nodes", ...curve, ...names, "-keyout", keyFile, "-out", file], {
    stdio: "pipe",
  });
  return { certificate: readFileSync(file, "utf8"), key: readFileSync(keyFile, "utf8") };
}

const CLIENTS: [what: string, shown: () => Promise<{ certificate: string; key: string }>, message: RegExp][] = [
  [
    "of another cluster",
    () => certificateOf(otherAuthority, node("node2", "worker", OTHER)),
    /'node2' is of another cluster \(d{25}\)/,
  ],
  [
    "that claims this cluster, of another CA",
    () => certificateOf(otherAuthority, node("node2")),
    /'node2' is not signed by this cluster's CA/,
  ],
  [
    "that expired",
    () => certificateOf(authority, node("node2"), NOW - 91 * DAY_MS),
    /'node2' expired on .* UTC: 'overlayctl join' with a token/,
  ],
  [
    "of a user that expired",
    () => certificateOf(authority, user("alice"), NOW - 366 * DAY_MS),
    /'alice' expired on .*'overlayctl user add'/,
  ],
  [
    "that is not valid yet",
    () => certificateOf(authority, node("node2"), NOW + 2 * HOUR_MS),
    /'node2' is not valid before .*timedatectl/,
  ],
  [
    "of the store's CA",
    async () => certificateOf(await createAuthority({ clusterId: CLUSTER, purpose: "store", now: NOW }), node("node2")),
    /store's CA, which is for etcd alone/,
  ],
  ["that signed itself", async () => selfSigned(), /signed by itself/],
];
for (const [what, shown, message] of CLIENTS) {
  test(`a server refuses a client's certificate ${what}, in words`, async (t) => {
    t.regex(await client(t, await shown()), message);
  });
}

/** What a worker of the cluster says of a server with these credentials. */
async function refusalOf(t: ExecutionContext, credentials: Credentials, refusal?: string): Promise<string> {
  const { port } = await server(t, credentials);
  const error = await t.throwsAsync(get(port, clientTls(worker, { role: "manager", refusal: () => refusal })));
  return serverRefusal(error, NOW)?.message ?? `no refusal: ${error}`;
}

const SERVERS: [what: string, shown: () => Promise<Credentials>, message: RegExp][] = [
  [
    "of another cluster",
    () => credentialsOf(otherAuthority, node("node1", "manager", OTHER)),
    /not signed by this cluster's CA/,
  ],
  [
    "that expired",
    () => credentialsOf(authority, node("node1", "manager"), NOW - 91 * DAY_MS),
    /has expired, if it is .* now: check both clocks/,
  ],
  [
    "that is not valid yet",
    () => credentialsOf(authority, node("node1", "manager"), NOW + 2 * HOUR_MS),
    /not valid yet, .*timedatectl/,
  ],
  ["of a worker", () => credentialsOf(authority, node("node1")), /'node1', a worker, and no manager/],
  ["of a user", () => credentialsOf(authority, user("alice")), /a user's, and no node's/],
  [
    "that signed itself",
    async () => new Credentials({ ...selfSigned(), bundle: [authority.certificate] }),
    /not signed by this cluster's CA|signed by itself/,
  ],
];
for (const [what, shown, message] of SERVERS) {
  test(`a client refuses a server's certificate ${what}`, async (t) => {
    t.regex(await refusalOf(t, await shown()), message);
  });
}

test("a client refuses a server whose row is gone, though its certificate is good", async (t) => {
  const good = await credentialsOf(authority, node("node1", "manager"));
  t.is(await refusalOf(t, good, "node 'node1' was removed"), "node 'node1' was removed");
});

test("renewed credentials are used by new connections, and open ones go on", async (t) => {
  const manager = await credentialsOf(authority, node("node1", "manager"));
  const { port } = await server(t, manager);
  const own = await credentialsOf(authority, node("node2"));
  const connections = new ClientConnections(own, { role: "manager" });
  t.teardown(() => connections.close());
  const { agent: before } = connections;
  t.is(await get(port, { agent: before }), "node2");
  own.replace(await certificateOf(authority, node("node3")));
  manager.replace(await certificateOf(authority, node("node4", "manager")));
  t.is(await get(port, { agent: connections.agent }), "node3");
  const { port: other } = await server(t, manager);
  t.is(await get(other, clientTls(own, { role: "manager" })), "node3");
  t.not(connections.agent, before);
});

test("requests one after the other take one connection, and those after a renewal another", async (t) => {
  const listening = await server(t, await credentialsOf(authority, node("node1", "manager")));
  const own = await credentialsOf(authority, node("node2"));
  const connections = new ClientConnections(own, { role: "manager" });
  t.teardown(() => connections.close());
  const portOf = async () => {
    const request = get(listening.port, { agent: connections.agent });
    t.is(await request, own.subject.name);
    const sockets = Object.values(connections.agent.freeSockets).flat();
    return sockets.map((socket) => socket?.localPort);
  };
  const first = await portOf();
  t.is(first.length, 1);
  t.deepEqual(await portOf(), first);
  own.replace(await certificateOf(authority, node("node3")));
  t.notDeepEqual(await portOf(), first);
});

test("no session is resumed, so that each connection shows its certificate", async (t) => {
  const { port } = await server(t, await credentialsOf(authority, node("node1", "manager")));
  const sessions: Buffer[] = [];
  const once = (session?: Buffer) =>
    new Promise<boolean>((resolve, reject) => {
      const socket = connect({ host: "127.0.0.1", port, ...clientTls(worker), ...(session && { session }) });
      socket.on("session", (offered) => sessions.push(offered));
      socket.once("error", reject);
      socket.once("data", () => {
        resolve(socket.isSessionReused());
        socket.destroy();
      });
      socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    });
  t.false(await once());
  for (const session of [...sessions]) t.false(await once(session));
});

test("a refusal is found in the causes of an error, and other errors are none", (t) => {
  const cause = Object.assign(new Error("certificate has expired"), { code: "CERT_HAS_EXPIRED" });
  t.is(serverRefusal(new Error("no answer", { cause }), NOW)?.reason, "expired");
  t.is(serverRefusal(Object.assign(new Error("refused"), { code: "ECONNREFUSED" }), NOW), undefined);
  t.is(serverRefusal("no error", NOW), undefined);
});

test("a token's digest pins the cluster's CA, and no other server gets a request", async (t) => {
  const { port } = await server(t, await credentialsOf(authority, node("node1", "manager")));
  const at = { host: "127.0.0.1", port };
  const pinned = await pinnedTls(at, publicKeyDigest(authority.certificate), { timeoutMs: 10_000 });
  t.is(await get(port, pinned), "no name");
  await t.throwsAsync(pinnedTls(at, publicKeyDigest(otherAuthority.certificate), { timeoutMs: 10_000 }), {
    message: /its CA is not the one that the token names/,
  });
  const { port: workers } = await server(t, worker);
  const ofWorker = await pinnedTls({ ...at, port: workers }, publicKeyDigest(authority.certificate), {
    timeoutMs: 10_000,
  });
  await t.throwsAsync(get(workers, ofWorker), { message: /'node2', a worker, and no manager/ });
});

test("a server that shows the cluster's CA without its key is refused by a joining node", async (t) => {
  const fake = await certificateOf(otherAuthority, node("node1", "manager"));
  const { port } = await server(t, new Credentials({ ...fake, bundle: [authority.certificate] }));
  const at = { host: "127.0.0.1", port };
  const joining = async () =>
    get(port, await pinnedTls(at, publicKeyDigest(authority.certificate), { timeoutMs: 10_000 }));
  await t.throwsAsync(joining(), { message: /its CA is not the one that the token names/ });
});
