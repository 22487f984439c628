// The session server against a host that reaches its port: connections that say nothing, bodies that never end, logs that
// were asked of another node.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { connect as secureConnect } from "node:tls";
import test, { type ExecutionContext } from "ava";
import { PROTOCOL } from "../../src/cluster/features.ts";
import type { StreamMessage } from "../../src/cluster/protocol.ts";
import { clientTls } from "../../src/trust/tls.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { deafSink, identityOf, readingSink } from "../leader/fake-node.ts";
import { SecureCluster } from "../leader/secure-cluster.ts";
import { waitFor } from "../system/command.ts";

/** Long enough to send a request in on a busy machine. */
const PATIENCE_MS = 1500;

/** Answers what the server says until it closes the connection. */
async function untilClosed(socket: Socket): Promise<string> {
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  socket.on("error", () => {});
  await once(socket, "close");
  return Buffer.concat(parts).toString();
}

async function serve(t: ExecutionContext, timeoutMs: number) {
  const cluster = await SecureCluster.start({ timeoutMs });
  t.teardown(() => cluster.close());
  const { manager } = cluster;
  const credentials = await manager.credentialsNamed("node1");
  const opened = async (socket: Socket, event: "connect" | "secureConnect"): Promise<Socket> => {
    await once(socket, event);
    socket.on("error", () => {}); // the server may end it at any time
    return socket;
  };
  return {
    cluster,
    manager,
    credentials,
    connected: () => opened(connect(manager.port, "127.0.0.1"), "connect"),
    open: () => opened(secureConnect({ ...clientTls(credentials), port: manager.port }), "secureConnect"),
  };
}

test("who connects and says nothing, or a part of a handshake, a head or a body, is cut off", async (t) => {
  const { connected, open } = await serve(t, 300);
  for (const begun of [Buffer.alloc(0), Buffer.from("1603010200", "hex")]) {
    const socket = await connected();
    socket.write(begun);
    await untilClosed(socket);
  }
  for (const said of [
    "",
    "POST /v1/commands HTTP/1.1\r\nHost: x\r\n",
    'POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"type":',
  ]) {
    // On a busy machine a handshake may take longer than the server waits for it.
    const socket = await waitFor(() => open().catch(() => undefined), { what: "a handshake in time" });
    socket.write(said);
    t.notRegex(await untilClosed(socket), / 200 /);
  }
});

test("a request that is whole is answered however long the answer takes", async (t) => {
  const { cluster, manager, credentials } = await serve(t, PATIENCE_MS);
  const request = { ...identityOf(1), known: null, protocol: PROTOCOL };
  const lines = manager.transport(credentials).open(manager.address, request, new AbortController().signal, () => {});
  const iterator = lines[Symbol.asyncIterator]();
  t.like((await iterator.next()).value, { type: "session" });
  await delay(3 * PATIENCE_MS);
  await cluster.leader.execute({ type: "network.create", name: "web" });
  const types: string[] = [];
  while (types.at(-1) !== "changes") {
    const { type } = (await iterator.next()).value as StreamMessage;
    if (type !== "alive") types.push(type);
  }
  t.deepEqual(
    types.filter((type) => type !== "rows"),
    ["snapshot", "snapshot-end", "changes"],
  );
});

test("one address has a share of the handshakes under way", async (t) => {
  const { manager, connected, open } = await serve(t, 60_000);
  const sockets = await Promise.all(Array.from({ length: 256 }, connected));
  await untilClosed(connect(manager.port, "127.0.0.1"));
  sockets[0]!.destroy();
  const opens = () =>
    open().then(
      () => true,
      () => false,
    );
  t.true(await waitFor(opens, { what: "a handshake" }));
  for (const socket of sockets) socket.destroy();
});

test("one address has a share of the connections", async (t) => {
  const { manager, open } = await serve(t, 60_000);
  const sockets: Socket[] = [];
  // Fewer at once than handshakes are allowed.
  while (sockets.length < 1024) sockets.push(...(await Promise.all(Array.from({ length: 64 }, open))));
  const one = connect(manager.port, "127.0.0.1");
  await untilClosed(one);
  sockets[0]!.destroy();
  await once(sockets[0]!, "close");
  const body = JSON.stringify({ type: "network.create", name: "web" });
  const asked = `POST /v1/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  // The server may hear of the end of the first connection a moment later.
  const ask = async (): Promise<string> => {
    const socket = await open();
    socket.write(asked);
    return untilClosed(socket);
  };
  const answers = () =>
    ask().then(
      (answer) => answer.includes("200 OK"),
      () => false,
    );
  t.true(await waitFor(answers, { what: "an answer" }));
  for (const socket of sockets) socket.destroy();
});

test("a log is brought by the session that was asked, and by no other", async (t) => {
  const cluster = await Cluster.start(2);
  const workload = { runtime: "process" as const, command: ["true"] };
  const constraints = ["node.name==node1"];
  await cluster.leader.execute({ type: "service.create", name: "s", workload, constraints });
  const asked: StreamMessage[] = [];
  const sink = readingSink(
    (message) => asked.push(message),
    () => {},
  );
  const own = await openSession(cluster.leader, cluster.nodes[0]!.identity, sink);
  const other = await openSession(cluster.leader, cluster.nodes[1]!.identity, deafSink);
  const query = { follow: false, tail: null, since: null };
  const reading = cluster.leader.logs.read(cluster.tasks("s")[0]!.id, query);
  const request = asked.find((message) => message.type === "log")!;
  const requestId = request.type === "log" ? request.requestId : "";
  const forged = () => cluster.leader.logs.bring(other, requestId, Readable.from(["forged"]));
  t.throws(forged, { message: /no client waits/ });
  t.throws(() => cluster.leader.logs.refuse(other, requestId, { code: 404, message: "forged" }), {
    message: /no client/,
  });
  cluster.leader.logs.bring(own, requestId, Readable.from(["true"]));
  t.is(await text(await reading), "true");
});
