// However connections end, relays keep nothing of them: no descriptor is left, and what broke is counted.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import test from "ava";
import { silentLog } from "../../src/lib/log.ts";
import { RELAY_DROPS, type RelayDrops } from "../../src/mesh/relay.ts";
import { listenTcp } from "../../src/mesh/tcp-relay.ts";
import { listenUdp } from "../../src/mesh/udp-relay.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";

const LOOPBACK = "127.0.0.1";
const COUNT = 1000;
const AT_ONCE = 50;

const openFiles = (): number => readdirSync("/proc/self/fd").length;
const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => (socket.closed ? resolve() : socket.once("close", () => resolve())));

interface Ending {
  title: string;
  /** The target's side; undefined: nobody listens there. */
  serve?: (socket: Socket) => void;
  client(socket: Socket): Promise<void> | void;
  counts?: keyof RelayDrops;
}

const ENDINGS: Ending[] = [
  {
    title: "the client closes first",
    serve: (socket) => socket.resume().on("end", () => socket.end("bye")),
    client: (socket) => void socket.resume().end("hi"),
  },
  {
    title: "the task closes first",
    serve: (socket) => socket.resume().end("bye"),
    client: (socket) => void socket.resume().on("end", () => socket.end()),
  },
  {
    title: "the client has closed half and resets",
    // Who has closed nothing itself hears of a reset only when it writes.
    serve: (socket) => {
      socket.resume().on("end", () => socket.write("still here"));
      socket.setTimeout(500, () => socket.destroy());
    },
    client: async (socket) => {
      socket.end("hi");
      await once(socket, "data");
      socket.resetAndDestroy();
    },
    counts: "relay-broken",
  },
  {
    title: "the client resets",
    serve: (socket) => void socket.resume().write("welcome"),
    client: async (socket) => {
      await once(socket, "data");
      socket.resetAndDestroy();
    },
    counts: "relay-broken",
  },
  {
    title: "the client resets before its task has been reached",
    serve: (socket) => void socket.resume().on("end", () => socket.end()),
    client: (socket) => void socket.resetAndDestroy(),
  },
  {
    title: "the task resets",
    serve: (socket) => void socket.once("data", () => socket.resetAndDestroy()),
    client: (socket) => void socket.resume().write("hi"),
    counts: "relay-broken",
  },
  { title: "nobody takes the connection", client: (socket) => void socket.resume(), counts: "relay-no-task" },
];

for (const { title, serve, client, counts } of ENDINGS) {
  test.serial(`TCP, ${COUNT} times: ${title}`, async (t) => {
    const server = createServer({ allowHalfOpen: true }, (socket) => serve?.(socket.on("error", () => {})));
    server.listen(0, LOOPBACK);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    if (serve === undefined) await new Promise((resolve) => server.close(resolve));
    const drops = Object.fromEntries(RELAY_DROPS.map((reason) => [reason, 0])) as RelayDrops;
    const options = {
      log: silentLog,
      clock: new VirtualClock(),
      drops,
      address: LOOPBACK,
      proxyProtocol: true,
      halfClosedMs: 100,
    };
    const relay = await listenTcp({ ...options, port: 0, target: { address: LOOPBACK, port } });
    const before = openFiles();
    const one = async (): Promise<void> => {
      const socket = connect({ port: relay.port, host: LOOPBACK, allowHalfOpen: true }).on("error", () => {});
      await once(socket, "connect");
      await client(socket);
      await closed(socket);
    };
    for (let i = 0; i < COUNT; i += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, one));
    await waitFor(() => openFiles() <= before, { what: "the descriptors to be closed", deadlineMs: 10_000 });
    if (counts !== undefined) t.is(drops[counts], COUNT);
    await relay.close();
    server.close();
    t.pass();
  });
}

test.serial(`TCP: a relay that is closed leaves none of ${AT_ONCE} connections`, async (t) => {
  const before = openFiles();
  const server = createServer((socket) => socket.on("error", () => {})).listen(0, LOOPBACK);
  await once(server, "listening");
  const drops = Object.fromEntries(RELAY_DROPS.map((reason) => [reason, 0])) as RelayDrops;
  const target = { address: LOOPBACK, port: (server.address() as AddressInfo).port };
  const options = { log: silentLog, clock: new VirtualClock(), drops, address: LOOPBACK, proxyProtocol: false };
  const relay = await listenTcp({ ...options, port: 0, target });
  const clients = Array.from({ length: AT_ONCE }, () => connect(relay.port, LOOPBACK).on("error", () => {}));
  await Promise.all(clients.map((client) => once(client, "connect")));
  await relay.close();
  await Promise.all(clients.map(closed));
  server.close();
  t.true(await waitFor(() => openFiles() <= before, { what: "the descriptors to be closed" }));
});

test.serial("UDP: a port that cannot be had costs no descriptor, however often it is tried", async (t) => {
  const occupant = createSocket("udp4").bind(0, LOOPBACK);
  await once(occupant, "listening");
  const drops = Object.fromEntries(RELAY_DROPS.map((reason) => [reason, 0])) as RelayDrops;
  const { port } = occupant.address();
  const options = { log: silentLog, clock: new VirtualClock(), drops, address: LOOPBACK, port };
  const before = openFiles();
  for (let i = 0; i < AT_ONCE; i++) {
    const error = await t.throwsAsync<NodeJS.ErrnoException>(
      listenUdp({ ...options, target: { address: LOOPBACK, port } }),
    );
    t.is(error?.code, "EADDRINUSE");
  }
  t.true(await waitFor(() => openFiles() <= before, { what: "the descriptors to be closed" }));
  occupant.close();
});

test.serial(`UDP: ${COUNT} clients that fall silent, or whose task is gone, leave nothing`, async (t) => {
  const clock = new VirtualClock();
  const target = createSocket("udp4").bind(0, LOOPBACK);
  await once(target, "listening");
  let asked = 0;
  target.on("message", () => asked++);
  const drops = Object.fromEntries(RELAY_DROPS.map((reason) => [reason, 0])) as RelayDrops;
  const address = { address: LOOPBACK, port: target.address().port };
  const relay = await listenUdp({ log: silentLog, clock, drops, address: LOOPBACK, port: 0, target: address });
  const before = openFiles();
  for (let i = 0; i < COUNT; i++) {
    if (i === COUNT / 2) target.close();
    const client = createSocket("udp4");
    await new Promise((resolve) => client.send("x", relay.port, LOOPBACK, resolve));
    await new Promise<void>((resolve) => client.close(resolve));
    await new Promise(setImmediate); // the relay has its turn
    if (i === COUNT / 2 - 1) await waitFor(() => asked > COUNT / 2 - 10, { what: "the target to be asked" });
  }
  await waitFor(() => openFiles() > COUNT / 2, { what: "the relay to have sockets" });
  await clock.advance(200_000);
  t.true(await waitFor(() => openFiles() < before, { what: "the descriptors to be closed" }), "and the target's own");
  await relay.close();
});
