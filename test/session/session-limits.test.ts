// The session server against a host that reaches its port: connections that say nothing, bodies that never end, logs that
// were asked of another node.
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import test from "ava";
import type { StreamMessage } from "../../src/cluster/protocol.ts";
import { serveSessions } from "../../src/leader/server.ts";
import { silentLog } from "../../src/lib/log.ts";
import { httpTransport } from "../../src/session/transport.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "../leader/cluster-fixture.ts";
import { deafSink, identityOf, readingSink } from "../leader/fake-node.ts";
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

async function serve(timeoutMs: number) {
  const cluster = await Cluster.start(0);
  const server = await serveSessions(cluster.leader, { host: "127.0.0.1", port: 0, log: silentLog, timeoutMs });
  const open = async (): Promise<Socket> => {
    const socket = connect(server.port, "127.0.0.1");
    await once(socket, "connect");
    socket.on("error", () => {}); // the server may end it at any time
    return socket;
  };
  return { cluster, server, open, address: `127.0.0.1:${server.port}` };
}

test("who connects and says nothing, or a part of a head or of a body, is cut off", async (t) => {
  const { server, open } = await serve(300);
  for (const said of [
    "",
    "POST /v1/commands HTTP/1.1\r\nHost: x\r\n",
    'POST /v1/commands HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"type":',
  ]) {
    const socket = await open();
    socket.write(said);
    t.notRegex(await untilClosed(socket), / 200 /);
  }
  await server.close();
});

test("a request that is whole is answered however long the answer takes", async (t) => {
  const { cluster, server, address } = await serve(PATIENCE_MS);
  const request = { ...identityOf(1), known: null };
  const lines = httpTransport.open(address, request, new AbortController().signal, () => {});
  const iterator = lines[Symbol.asyncIterator]();
  t.like((await iterator.next()).value, { type: "session" });
  await delay(3 * PATIENCE_MS);
  await cluster.leader.execute({ type: "network.create", name: "web" });
  const types: string[] = [];
  while (types.at(-1) !== "changes") types.push(((await iterator.next()).value as StreamMessage).type);
  t.deepEqual(
    types.filter((type) => type !== "rows"),
    ["snapshot", "snapshot-end", "changes"],
  );
  await server.close();
});

test("one address has a share of the connections", async (t) => {
  const { server, open } = await serve(60_000);
  const sockets = await Promise.all(Array.from({ length: 1024 }, open));
  const one = connect(server.port, "127.0.0.1");
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
  t.true(await waitFor(async () => (await ask()).includes("200 OK"), { what: "an answer" }));
  for (const socket of sockets) socket.destroy();
  await server.close();
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
  const reading = cluster.leader.readLog(cluster.tasks("s")[0]!.id, query);
  const request = asked.find((message) => message.type === "log")!;
  const requestId = request.type === "log" ? request.requestId : "";
  const forged = () => cluster.leader.bringLog(other, requestId, Readable.from(["forged"]));
  t.throws(forged, { message: /no client waits/ });
  t.throws(() => cluster.leader.refuseLog(other, requestId, { code: 404, message: "forged" }), {
    message: /no client/,
  });
  cluster.leader.bringLog(own, requestId, Readable.from(["true"]));
  t.is(await text(await reading), "true");
});
