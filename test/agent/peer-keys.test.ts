// Agents agree on keys: real TLS over loopback, with a record in place of workers.
import { createServer, type Socket } from "node:net";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import test, { type ExecutionContext } from "ava";
import { KeyListener } from "../../src/agent/key-listener.ts";
import type { AgreedKey } from "../../src/agent/peer-exchange.ts";
import type { OutboundKey } from "../../src/datapath/associations.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { createLog } from "../../src/lib/log.ts";
import { clientTls } from "../../src/trust/tls.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { credentialsOf, DAY_MS, node as nodeSubject, nodesAuthority, user } from "../trust/cluster.ts";
import { isOpened, KeyNode, meet, RecordedPath, until } from "./key-nodes.ts";

const authority = await nodesAuthority();
let addresses = 1;

function nextAddress(): string {
  addresses++;
  return `127.3.${addresses >> 8}.${addresses & 255}`;
}

function start(t: ExecutionContext, name: string, options: Parameters<typeof KeyNode.start>[4] = {}): Promise<KeyNode> {
  return KeyNode.start(t, authority, name, nextAddress(), options);
}

/** Lets the time pass, slowly enough for what goes over the network meanwhile. */
function untilLater(clock: VirtualClock, what: string, condition: () => boolean): Promise<void> {
  return until(what, () => {
    void clock.advance(50);
    return condition();
  });
}

/** Two nodes with keys. */
async function pair(
  t: ExecutionContext,
  options: Parameters<typeof KeyNode.start>[4] = {},
): Promise<[KeyNode, KeyNode]> {
  const nodes = [await start(t, "node1", options), await start(t, "node2", options)] as [KeyNode, KeyNode];
  meet(...nodes);
  await bothReach(...nodes);
  return nodes;
}

function bothReach(one: KeyNode, other: KeyNode): Promise<void> {
  const settled = (node: KeyNode, peer: KeyNode) =>
    node.reaches(peer) && node.keys.view(peer.subject.id)?.reason === null;
  return until("both seal for each other", () => settled(one, other) && settled(other, one) && one.keys.underWay === 0);
}

test.serial("two nodes seal for each other by keys that each opens in the worker of the peer's socket", async (t) => {
  const few = new RecordedPath(1, 4);
  const many = new RecordedPath(3, 12);
  const one = await start(t, "node1", { path: few });
  const other = await start(t, "node2", { path: many });
  meet(one, other);
  await bothReach(one, other);
  t.is(few.sealsTo(other.vtep).length, 4);
  t.is(many.sealsTo(one.vtep).length, 12);
  const keys = [...few.sealsTo(other.vtep), ...many.sealsTo(one.vtep)].map(({ key }) =>
    Buffer.from(key).toString("hex"),
  );
  t.is(new Set(keys).size, 16);
  t.true([...few.inbound.keys(), ...many.inbound.keys()].every((spi) => spi >= 256 && spi < 2 ** 32));
});

test.serial("both dial at once, and go on by the same keys", async (t) => {
  const clock = new VirtualClock();
  for (let round = 0; round < 5; round++) {
    const [one, other] = await pair(t, { clock });
    await clock.advance(40_000); // what the other connection brought is gone
    t.true(one.reaches(other) && other.reaches(one));
    t.is(one.path.inbound.size, other.path.sealingSockets);
    t.is(other.path.inbound.size, one.path.sealingSockets);
  }
});

/** Fails when either seals by what the other does not open, at the moment or later. */
function watchOpening(t: ExecutionContext, one: KeyNode, other: KeyNode): void {
  const watch = (from: KeyNode, to: KeyNode): void => {
    from.path.onSeal = (keys: readonly OutboundKey[]) => t.true(keys.every((key) => isOpened(key, from, to)));
    to.path.onForget = (spis) => {
      const sealing = new Set(from.path.sealsTo(to.vtep).map(({ spi }) => spi));
      t.false(spis.some((spi) => sealing.has(spi)));
    };
  };
  watch(one, other);
  watch(other, one);
}

test.serial("keys change each hour, new before old, and the old ones go after 30 s", async (t) => {
  const clock = new VirtualClock();
  const [one, other] = await pair(t, { clock });
  await clock.advance(40_000);
  watchOpening(t, one, other);
  for (let hour = 1; hour <= 3; hour++) {
    const before = one.path.sealsTo(other.vtep).map(({ spi }) => spi);
    const { rekeys } = one.keys.view(other.subject.id)!;
    await clock.advance(3_600_000 - 60_000);
    await untilLater(clock, "other keys", () => one.keys.view(other.subject.id)!.rekeys > rekeys);
    await bothReach(one, other);
    t.true(
      before.every((spi) => other.path.inbound.has(spi)),
      "what is on the way is opened",
    );
    await clock.advance(31_000);
    t.is(other.path.inbound.size, one.path.sealingSockets);
    t.false(before.some((spi) => other.path.inbound.has(spi)));
  }
});

test.serial("keys change when packets ask for them, but not twice for one need", async (t) => {
  const clock = new VirtualClock();
  const [one, other] = await pair(t, { clock });
  const { rekeys } = other.keys.view(one.subject.id)!;
  other.keys.wanted([one.vtep]);
  t.is(other.keys.view(one.subject.id)!.rekeys, rekeys);
  await clock.advance(6000);
  other.keys.wanted([one.vtep]);
  other.keys.wanted([one.vtep]);
  await until("other keys", () => other.keys.view(one.subject.id)!.rekeys > rekeys);
  await bothReach(one, other);
  other.keys.wanted([one.vtep, ipv4("10.99.0.1")]);
  await bothReach(one, other);
  t.is(other.keys.view(one.subject.id)!.rekeys, rekeys + 1);
});

test.serial("a node that starts again has new keys with its peers, and the old ones are taken nowhere", async (t) => {
  const clock = new VirtualClock();
  const [one, other] = await pair(t, { clock });
  const before = one.path.sealsTo(other.vtep).map(({ key }) => Buffer.from(key).toString("hex"));
  await one.stop();
  const again = await KeyNode.start(t, authority, "node1", one.address, { clock });
  again.keys.setPeers([other.row]);
  await bothReachAgain(again, other);
  const after = again.path.sealsTo(other.vtep).map(({ key }) => Buffer.from(key).toString("hex"));
  t.false(after.some((key) => before.includes(key)));
  await clock.advance(40_000);
  t.is(other.path.inbound.size, again.path.sealingSockets);
});

/** The peer's row still says the port of the agent before. */
function bothReachAgain(one: KeyNode, other: KeyNode): Promise<void> {
  return until("keys again", () => one.reaches(other) && other.reaches(one));
}

test.serial("a step of the wall clock changes no keys", async (t) => {
  const clock = new VirtualClock(Date.now());
  const [one, other] = await pair(t, { clock });
  const { rekeys } = one.keys.view(other.subject.id)!;
  clock.step(10 * DAY_MS);
  await clock.advance(1000);
  clock.step(-20 * DAY_MS);
  await clock.advance(1000);
  t.is(one.keys.view(other.subject.id)!.rekeys, rekeys);
  t.true(one.reaches(other) && other.reaches(one));
});

test.serial("a node that is removed loses its keys at once, and gets no others", async (t) => {
  const [one, other] = await pair(t);
  one.keys.setPeers([]);
  await until("its keys are gone", () => one.path.inbound.size === 0 && one.path.outbound.size === 0);
  t.is(one.keys.view(other.subject.id), undefined);
  await other.stop();
  const again = await KeyNode.start(t, authority, "node2", other.address);
  const friend = await start(t, "node3");
  one.keys.setPeers([{ ...friend.row, address: other.address, vtep: other.vtep }]); // its address is another node's now
  again.keys.setPeers([one.row]);
  await until("it hears why", () => again.keys.view(one.subject.id)?.reason?.includes("removed") === true);
  t.regex(again.keys.view(one.subject.id)!.reason!, /it refuses: it has no node 'node2' that can seal/);
  t.is(one.path.inbound.size, 0);
});

test.serial("a node that is removed in the middle of an exchange gets no keys", async (t) => {
  const one = await start(t, "node1");
  const other = await start(t, "node2");
  let go = (): void => {};
  one.path.block = new Promise((resolve) => {
    go = resolve;
  });
  meet(one, other);
  await until("its worker is asked", () => other.path.inbound.size > 0);
  one.keys.setPeers([]);
  go();
  one.path.block = undefined;
  await until("its keys are gone", () => one.path.inbound.size === 0);
  t.is(one.path.outbound.size, 0);
  t.is(other.path.outbound.size, 0);
});

test.serial("a host that is no node is not answered", async (t) => {
  const one = await start(t, "node1");
  const closed = await new Promise((resolve) => {
    const { port } = one.listener;
    const socket = connect({ host: one.address, port, rejectUnauthorized: false });
    socket.once("error", () => resolve(true));
    socket.once("secureConnect", () => resolve(false));
  });
  t.true(closed);
});

/** Dials a node as a client with these credentials. Resolves with what it hears. */
async function dial(t: ExecutionContext, to: KeyNode, from: Parameters<typeof clientTls>[0]): Promise<TLSSocket> {
  const address = nextAddress();
  to.keys.setPeers([{ id: "idfriend", name: "friend", vtep: ipv4(address), address, keyPort: 9 }]);
  const trusting = { ...clientTls(from), rejectUnauthorized: false, checkServerIdentity: () => undefined };
  const socket = connect({
    host: to.address,
    port: to.listener.port,
    localAddress: address,
    ...trusting,
  } as ConnectionOptions);
  t.teardown(() => socket.destroy());
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  return socket.setEncoding("utf8");
}

async function heard(socket: TLSSocket): Promise<string> {
  let text = "";
  for await (const piece of socket) text += piece;
  return text;
}

const OTHER = "d".repeat(25);
const REFUSED: [what: string, from: () => Promise<Parameters<typeof clientTls>[0]>, words: RegExp][] = [
  [
    "of another cluster",
    async () => credentialsOf(await nodesAuthority(OTHER), nodeSubject("node2", "worker", OTHER)),
    /refused.*'node2' is of another cluster/,
  ],
  ["of a user", () => credentialsOf(authority, user("alice")), /refused.*'alice' is a user, and no node/],
  [
    "that has ended",
    () => credentialsOf(authority, nodeSubject("node2"), Date.now() - 100 * DAY_MS),
    /refused.*'node2' expired on/,
  ],
  ["of a node without a row", () => credentialsOf(authority, nodeSubject("node9")), /refused.*it has no node 'node9'/],
];
for (const [what, from, words] of REFUSED) {
  test.serial(`a certificate ${what} gets no keys, and hears why`, async (t) => {
    const one = await start(t, "node1");
    t.regex(await heard(await dial(t, one, await from())), words);
    t.is(one.path.inbound.size, 0);
  });
}

test.serial("the end that dials refuses a node that is not the one of the address", async (t) => {
  const one = await start(t, "node1");
  const other = await start(t, "node2");
  other.keys.setPeers([one.row]);
  one.keys.setPeers([{ ...other.row, id: "idnode3", name: "node3" }]);
  await until("it says why", () => one.keys.view("idnode3")?.reason !== "no key yet");
  t.regex(one.keys.view("idnode3")!.reason!, /node 'node2' answers there, and not the node that has the address/);
  t.is(one.path.inbound.size, 0);
});

test.serial("the end that dials refuses a node of another cluster", async (t) => {
  const one = await start(t, "node1");
  const foreign = nodeSubject("node2", "worker", OTHER);
  const credentials = await credentialsOf(await nodesAuthority(OTHER), foreign);
  const other = await start(t, "node2", { subject: foreign, credentials });
  other.keys.setPeers([one.row]);
  one.keys.setPeers([other.row]);
  await until("it says why", () => one.keys.view("idnode2")?.reason !== "no key yet");
  t.regex(
    one.keys.view("idnode2")!.reason!,
    /TCP \d+ at 127\.3\.\d+\.\d+: its certificate is not signed by this cluster's CA/,
  );
});

test.serial("where nothing listens the reason says so, and a peer that comes is dialled again", async (t) => {
  const clock = new VirtualClock();
  const one = await start(t, "node1", { clock });
  const other = await start(t, "node2", { clock });
  const { row } = other;
  await other.stop();
  one.keys.setPeers([row]);
  await until("it says why", () => one.keys.view(row.id)?.reason !== "no key yet");
  t.regex(one.keys.view(row.id)!.reason!, /TCP \d+ at 127.*: nothing listens there: its agent is down/);
  const again = await KeyNode.start(t, authority, "node2", other.address, { clock });
  again.keys.setPeers([one.row]);
  await until("keys", () => one.reaches(again) && again.reaches(one));
});

/** A node in whose place the test answers. */
async function impostor(
  t: ExecutionContext,
  onSocket: (socket: Socket) => void,
): Promise<{ address: string; port: number }> {
  const address = nextAddress();
  const server = createServer((socket) => {
    t.teardown(() => socket.destroy());
    socket.on("error", () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  t.teardown(() => server.close());
  return { address, port: (server.address() as { port: number }).port };
}

test.serial("a peer that says nothing is left after 20 s, and its place goes to others", async (t) => {
  const clock = new VirtualClock();
  const one = await start(t, "node0", { clock });
  let dialled = 0;
  const silent = await impostor(t, () => dialled++);
  const rows = Array.from({ length: 32 }, (_, i) => ({
    ...{
      id: `idsilent${i}`,
      name: `silent${i}`,
      vtep: ipv4(`10.99.0.${i}`),
      address: silent.address,
      keyPort: silent.port,
    },
  }));
  const other = await start(t, "node2", { clock });
  one.keys.setPeers([...rows, other.row]);
  await until("all are dialled", () => dialled === 32);
  t.false(one.keys.view(other.subject.id)!.hasKeys);
  await clock.advance(20_001);
  await until(
    "it is dialled",
    () => other.path.inbound.size === 0 && one.keys.view("idsilent0")!.reason !== "no key yet",
  );
  t.regex(one.keys.view("idsilent0")!.reason!, /did not agree on keys within 20 s/);
  other.keys.setPeers([one.row]);
  await until("keys", () => one.reaches(other));
});

const WRONG: [what: string, lines: string[]][] = [
  ["no message", ["hello\n"]],
  ["a message that is cut", ['{"type":"sockets","sock']],
  ["a message without an end", ["x".repeat(20_000)]],
  ["messages without an end", ["{}\n".repeat(100)]],
  ["no sockets", ['{"type":"sockets","sockets":0,"exchanges":0}\n']],
  ["too many sockets", ['{"type":"sockets","sockets":100000,"exchanges":0}\n']],
  ["an offer first", ['{"type":"offer","spis":[256]}\n']],
  ["too few keys", ['{"type":"sockets","sockets":1,"exchanges":0}\n', '{"type":"offer","spis":[256]}\n']],
  [
    "one key for two sockets",
    ['{"type":"sockets","sockets":1,"exchanges":0}\n', `{"type":"offer","spis":[${Array(8).fill(256).join()}]}\n`],
  ],
  ["a reserved SPI", ['{"type":"sockets","sockets":1,"exchanges":0}\n', '{"type":"offer","spis":[1,2,3,4,5,6,7,8]}\n']],
];
for (const [what, lines] of WRONG) {
  test.serial(`a peer that sends ${what} gets nothing, and nothing is sealed for it`, async (t) => {
    const one = await start(t, "node1");
    const socket = await dialAs(t, one, "node2");
    for (const line of lines) socket.write(line);
    socket.end();
    await new Promise((resolve) => socket.once("close", resolve));
    await until("it is left", () => one.keys.view("idnode2")!.reason !== "no key yet");
    t.is(one.path.outbound.size, 0);
    t.true(one.path.inbound.size <= 1);
  });
}

/** A connection of a node that `to` knows, whose messages the test writes. */
async function dialAs(t: ExecutionContext, to: KeyNode, name: string): Promise<TLSSocket> {
  const address = nextAddress();
  const credentials = await credentialsOf(authority, nodeSubject(name));
  const closed = await impostor(t, (socket) => socket.destroy());
  const socket = await dialKnown(t, to, credentials, { address, keyPort: closed.port, name });
  socket.on("data", () => {});
  return socket;
}

async function dialKnown(
  t: ExecutionContext,
  to: KeyNode,
  credentials: Parameters<typeof clientTls>[0],
  row: { address: string; keyPort: number; name: string },
): Promise<TLSSocket> {
  const { address } = row;
  to.keys.setPeers([{ id: `id${row.name}`, vtep: ipv4(address), ...row }]);
  await until("its own dial has failed", () => to.keys.view(`id${row.name}`)!.reason !== "no key yet");
  const at = { host: to.address, port: to.listener.port, localAddress: address };
  const socket = connect({ ...at, ...clientTls(credentials) } as ConnectionOptions);
  t.teardown(() => socket.destroy());
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  return socket.setEncoding("utf8");
}

test.serial(
  "exchanges that break off after the offer leave few keys, and the next that succeeds ends them",
  async (t) => {
    const one = await start(t, "node1");
    const credentials = await credentialsOf(authority, nodeSubject("node2"));
    const closed = await impostor(t, (socket) => socket.destroy());
    const address = nextAddress();
    for (let attempt = 0; attempt < 6; attempt++) {
      const socket = await dialKnown(t, one, credentials, { address, keyPort: closed.port, name: "node2" });
      socket.write('{"type":"sockets","sockets":4,"exchanges":0}\n');
      await until("its offer", () => String(socket.read() ?? "").includes("offer"));
      socket.destroy();
    }
    await until("few are left", () => one.path.inbound.size <= 12);
    t.is(one.path.outbound.size, 0);
  },
);

test.serial("while a worker is blocked the keys in force stay, and change when it goes on", async (t) => {
  const clock = new VirtualClock();
  const [one, other] = await pair(t, { clock });
  await clock.advance(40_000);
  watchOpening(t, one, other);
  let go = (): void => {};
  other.path.block = new Promise((resolve) => {
    go = resolve;
  });
  const { rekeys } = one.keys.view(other.subject.id)!;
  one.keys.wanted([other.vtep]);
  await clock.advance(5000);
  t.true(one.reaches(other) && other.reaches(one));
  other.path.block = undefined;
  go();
  await untilLater(clock, "it has changed", () => one.keys.view(other.subject.id)!.rekeys > rekeys);
  await bothReach(one, other);
});

test.serial("no key and no secret is in the log", async (t) => {
  let text = "";
  const log = createLog("debug", {
    write: (line) => {
      text += line;
    },
  });
  const clock = new VirtualClock();
  const [one, other] = await pair(t, { log, clock });
  await clock.advance(3_500_000);
  await untilLater(clock, "other keys", () => one.keys.view(other.subject.id)!.rekeys > 0);
  await bothReach(one, other);
  const { opening, sealing } = one.keys.keysWith(other.subject.id)!;
  t.true(opening.length >= 8 && sealing.length === 8);
  t.regex(text, /keys are agreed on/);
  const forms = ({ key }: AgreedKey): string[] =>
    (["hex", "base64", "latin1"] as const).map((form) => Buffer.from(key).toString(form).slice(0, 12));
  for (const form of [...opening, ...sealing].flatMap(forms)) t.false(text.includes(form));
});

test.serial("a port that is taken is an error that says so", async (t) => {
  const one = await start(t, "node1");
  await t.throwsAsync(KeyListener.open({ host: one.address, port: one.listener.port }), { code: "EADDRINUSE" });
});

test.serial("100 nodes agree on keys at once: one process plays the 99 others", async (t) => {
  const one = await start(t, "node0");
  const others = await Promise.all(Array.from({ length: 99 }, (_, i) => start(t, `peer${i}`)));
  const rows = others.map(({ row }) => row);
  for (const other of others) other.keys.setPeers([one.row]);
  const begun = performance.now();
  one.keys.setPeers(rows);
  await until("all have keys", () => others.every((other) => one.reaches(other) && other.reaches(one)));
  t.log(`${Math.round(performance.now() - begun)} ms`);
  // An agent that starts again, with all of them.
  await one.stop();
  const again = await KeyNode.start(t, authority, "node0", one.address);
  const restarted = performance.now();
  again.keys.setPeers(rows);
  await until("all have keys again", () => others.every((other) => again.reaches(other) && other.reaches(again)));
  t.log(`${Math.round(performance.now() - restarted)} ms after a restart`);
  t.true(others.every((other) => again.reaches(other)));
});
