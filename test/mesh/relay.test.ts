// The user-space fallback on loopback: half-closes, answers to the right client, limits, and ports that are taken.
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import test from "ava";
import { systemClock } from "../../src/lib/clock.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { ProxyMesh } from "../../src/mesh/proxy-mesh.ts";
import type { RelayDrops } from "../../src/mesh/relay.ts";
import { listenTcp } from "../../src/mesh/tcp-relay.ts";
import { listenUdp } from "../../src/mesh/udp-relay.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const LOOPBACK = "127.0.0.1";
const drops = (): RelayDrops => {
  return { "relay-full": 0, "relay-no-task": 0, "relay-broken": 0, "relay-unsent": 0, "relay-stray": 0 };
};
const UDP = { log: silentLog, clock: systemClock, drops: drops(), address: LOOPBACK, port: 0 };
const TCP = { ...UDP, proxyProtocol: false };

async function tcpTarget(serve: (socket: Socket) => void) {
  const server = createServer({ allowHalfOpen: true }, serve).listen(0, LOOPBACK);
  await once(server, "listening");
  return { server, port: (server.address() as AddressInfo).port };
}

/** All that comes until the other side ends; the socket stays open for writing. */
async function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await once(socket, "end");
  return text;
}

async function udpSocket(): Promise<UdpSocket> {
  const socket = createSocket("udp4").bind(0, LOOPBACK);
  await once(socket, "listening");
  return socket;
}

async function ask(client: UdpSocket, port: number, question: string): Promise<string> {
  const answer = once(client, "message");
  client.send(question, port, LOOPBACK);
  return String((await answer)[0]);
}

test("a client that closes its side first still gets the whole answer", async (t) => {
  const { server, port } = await tcpTarget(async (socket) => {
    const asked = await readAll(socket);
    socket.end(`${asked.length} bytes, ${"x".repeat(300_000)}`);
  });
  const relay = await listenTcp({ ...TCP, target: { address: LOOPBACK, port } });
  const client = connect({ port: relay.port, host: LOOPBACK, allowHalfOpen: true });
  client.end("y".repeat(200_000));
  const answer = await readAll(client);
  t.true(answer.startsWith("200000 bytes, x"));
  t.is(answer.length, "200000 bytes, ".length + 300_000);
  await relay.close();
  server.close();
});

test("with the PROXY protocol the target learns who the client is before anything else", async (t) => {
  const { server, port } = await tcpTarget((socket) => {
    const chunks: Buffer[] = [];
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.on("end", () => socket.end(Buffer.concat(chunks).toString("hex")));
  });
  const relay = await listenTcp({ ...TCP, proxyProtocol: true, target: { address: LOOPBACK, port } });
  const client = connect({ port: relay.port, host: LOOPBACK, allowHalfOpen: true });
  await once(client, "connect");
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(client.localPort!);
  ports.writeUInt16BE(relay.port, 2);
  client.end("hi");
  const answer = await readAll(client);
  // The signature, version 2 and PROXY, TCP over IPv4, 12 bytes of addresses and ports: proxy-protocol.txt section 2.2.
  t.is(
    answer,
    `0d0a0d0a000d0a515549540a2111000c7f0000017f000001${ports.toString("hex")}${Buffer.from("hi").toString("hex")}`,
  );
  await relay.close();
  server.close();
});

test("a target that refuses resets the client", async (t) => {
  const { server, port } = await tcpTarget(() => {});
  await new Promise((resolve) => server.close(resolve));
  const relay = await listenTcp({ ...TCP, target: { address: LOOPBACK, port } });
  const client = connect({ port: relay.port, host: LOOPBACK });
  const [error] = (await once(client, "error")) as [NodeJS.ErrnoException];
  t.is(error.code, "ECONNRESET");
  await relay.close();
});

test("each UDP client gets its own answers", async (t) => {
  const target = await udpSocket();
  target.on("message", (data, from) => target.send(`re: ${data}`, from.port, from.address));
  const address = { address: LOOPBACK, port: target.address().port };
  const relay = await listenUdp({ ...UDP, target: address });
  const clients = await Promise.all([udpSocket(), udpSocket(), udpSocket()]);
  const answers = await Promise.all(clients.map((client, i) => ask(client, relay.port, `client ${i}`)));
  t.deepEqual(answers, ["re: client 0", "re: client 1", "re: client 2"]);
  await relay.close();
  for (const socket of [target, ...clients]) socket.close();
});

test("a UDP client that is silent for long is forgotten, one that speaks is not", async (t) => {
  const clock = new VirtualClock();
  const target = await udpSocket();
  target.on("message", (_, from) => target.send(String(from.port), from.port, from.address));
  const address = { address: LOOPBACK, port: target.address().port };
  const relay = await listenUdp({ ...UDP, clock, target: address });
  const busy = await udpSocket();
  const silent = await udpSocket();
  const before = { busy: await ask(busy, relay.port, ""), silent: await ask(silent, relay.port, "") };
  await clock.advance(100_000);
  t.is(await ask(busy, relay.port, ""), before.busy);
  await clock.advance(100_000);
  t.is(await ask(busy, relay.port, ""), before.busy, "the busy one kept its socket");
  t.not(await ask(silent, relay.port, ""), before.silent, "the silent one got a new socket");
  await relay.close();
  for (const socket of [target, busy, silent]) socket.close();
});

test("a port in use is said once with the command that shows by whom, and had when it is free", async (t) => {
  const { server: occupant, port } = await tcpTarget(() => {});
  const lines: string[] = [];
  const log = createLog("info", { write: (line: string) => void lines.push(line) });
  const mesh = new ProxyMesh({ log, clock: systemClock });
  const desired = {
    addresses: [LOOPBACK, "127.0.0.2"],
    ports: [{ protocol: "tcp" as const, port, vip: LOOPBACK, address: null, proxyProtocol: false }],
  };
  t.deepEqual(await mesh.apply(desired), [{ port, protocol: "tcp", address: LOOPBACK }], "it is had elsewhere");
  const onOne = { ...desired, addresses: [LOOPBACK] };
  t.deepEqual(await mesh.apply(onOne), [{ port, protocol: "tcp", address: "0.0.0.0" }]);
  t.is(lines.filter((line) => line.includes(`port ${port} is in use: 'ss -lnp' shows by whom`)).length, 1);
  await new Promise((resolve) => occupant.close(resolve));
  t.deepEqual(await mesh.apply(desired), []);
  t.regex(lines.at(-1)!, /is relayed/);
  await mesh.remove();
});

test("a UDP answer comes from the address that was asked", async (t) => {
  const target = await udpSocket();
  target.on("message", (data, from) => target.send(data, from.port, from.address));
  const vip = { address: LOOPBACK, port: target.address().port };
  const other = createSocket("udp4").bind(0, LOOPBACK); // holds a port that is free on the others
  await once(other, "listening");
  const { port } = other.address();
  const published = { protocol: "udp" as const, port, vip: LOOPBACK, address: null, proxyProtocol: false };
  const mesh = new ProxyMesh({ log: silentLog, clock: systemClock });
  t.deepEqual(await mesh.apply({ addresses: [LOOPBACK, "127.0.0.2", "127.0.0.3"], ports: [published] }), [
    { port, protocol: "udp", address: LOOPBACK },
  ]);
  await mesh.remove();
  for (const address of ["127.0.0.2", "127.0.0.3"]) {
    const relay = await listenUdp({ ...UDP, address, target: vip });
    const client = createSocket("udp4").bind(0, LOOPBACK);
    const answer = once(client, "message");
    client.send("x", relay.port, address);
    t.like((await answer)[1], { address, port: relay.port });
    client.close();
    await relay.close();
  }
  for (const socket of [target, other]) socket.close();
});

test("a TCP relay that has as many connections as it may counts the next, and says so once", async (t) => {
  const { server, port } = await tcpTarget((socket) => socket.on("error", () => {}));
  const lines: string[] = [];
  const log = createLog("info", { write: (line: string) => void lines.push(line) });
  const counted = drops();
  const relay = await listenTcp({
    ...TCP,
    log,
    drops: counted,
    maxConnections: 1,
    target: { address: LOOPBACK, port },
  });
  const first = connect(relay.port, LOOPBACK).on("error", () => {});
  await once(first, "connect");
  for (let i = 0; i < 2; i++)
    await once(
      connect(relay.port, LOOPBACK).on("error", () => {}),
      "close",
    );
  t.deepEqual(counted, { ...drops(), "relay-full": 2 });
  t.is(lines.filter((line) => line.includes("as many clients as it can")).length, 1);
  await relay.close();
  server.close();
});

test("a UDP relay that has as many clients as it may lets go the one that was silent longest, and counts it", async (t) => {
  const target = await udpSocket();
  target.on("message", (_, from) => target.send(String(from.port), from.port, from.address));
  const counted = drops();
  const relay = await listenUdp({
    ...UDP,
    drops: counted,
    maxSessions: 1,
    target: { address: LOOPBACK, port: target.address().port },
  });
  const clients = [await udpSocket(), await udpSocket()] as const;
  const before = await ask(clients[0], relay.port, "");
  await ask(clients[1], relay.port, "");
  t.not(await ask(clients[0], relay.port, ""), before);
  t.deepEqual(counted, { ...drops(), "relay-full": 2 });
  await relay.close();
  for (const socket of [target, ...clients]) socket.close();
});
