// The server on loopback, asked with dig and over plain sockets. Loopback is the node itself: it sees every network.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import test, { type ExecutionContext } from "ava";
import { type DecodedPacket, decode, encode } from "dns-packet";
import { emptyState, LiveState } from "../../src/cluster/state.ts";
import type { AnswerCache } from "../../src/dns/answer-cache.ts";
import { Names } from "../../src/dns/names.ts";
import { DnsServer, type DnsServerOptions } from "../../src/dns/server.ts";
import { TcpFrames } from "../../src/dns/tcp-frames.ts";
import { type Clock, systemClock } from "../../src/lib/clock.ts";
import { formatIpv4 } from "../../src/lib/ip.ts";
import { createLog, silentLog } from "../../src/lib/log.ts";
import { openBoundUdp } from "../../src/linux/udp-socket.ts";
import { applyChanges } from "../fakes/apply-changes.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { dig as digArgv, run, waitFor } from "../system/command.ts";
import { exampleState, idOf, running, serviceRow, taskRow } from "./example-state.ts";
import { answering, FakeUpstream } from "./fake-upstream.ts";

interface Started {
  server: DnsServer;
  port: number;
}

async function start(t: ExecutionContext, options: Partial<DnsServerOptions> = {}): Promise<Started> {
  const names = new Names(exampleState);
  // The port that was free over UDP may not be over TCP: then with another.
  for (let attempt = 1; ; attempt++) {
    const server = new DnsServer({ port: 0, clock: systemClock, log: silentLog, names, ...options });
    await server.listen(["127.0.0.1"]);
    const [endpoint] = server.endpoints();
    if (endpoint !== undefined) {
      t.teardown(() => server.stop());
      return { server, port: endpoint.port };
    }
    await server.stop();
    if (attempt === 20) throw new Error("no port is free over UDP and TCP");
  }
}

/** dig's answer: its status, and with +short lines the records. */
async function dig({ port }: Started, ...words: string[]): Promise<string> {
  return (await run(digArgv("@127.0.0.1", "-p", String(port), ...words))).trim();
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  await waitFor(condition, { what });
}

const rows: [string, string[], RegExp][] = [
  ["a service", ["+short", "search.web"], /^10\.192\.16\.2$/],
  ["a service over TCP", ["+short", "+tcp", "search.web"], /^10\.192\.16\.2$/],
  ["running tasks", ["+short", "+nocookie", "tasks.search.web"], /^10\.192\.16\.1[12]\n10\.192\.16\.1[12]$/],
  ["a slot", ["+short", "search.1.web.overlay"], /^10\.192\.16\.11$/],
  ["an address", ["+short", "-x", "10.192.16.11"], /^search\.1\.web\.overlay\.$/],
  ["SRV", ["+short", "SRV", "_9200._tcp.search.web"], /^0 0 9200 search\.web\.overlay\.$/],
  ["the letter case asked", ["SeaRCH.weB"], /\nSeaRCH\.weB\.\s+5\s+IN\s+A\s+10\.192\.16\.2\n/],
  ["authority and recursion", ["search.web"], /status: NOERROR.*\n;; flags: qr aa rd ra;/],
  ["EDNS", ["search.web"], /EDNS: version: 0, flags:; udp: 1232/],
  ["no EDNS when none was asked", ["+noedns", "search.web"], /ADDITIONAL: 0/],
  ["EDNS version 1", ["+edns=1", "+noednsnegotiation", "search.web"], /status: BADVERS/],
  ["AAAA", ["AAAA", "search.web"], /status: NOERROR.*\n.*ANSWER: 0, AUTHORITY: 1/],
  ["an unknown single label", ["nothing"], /status: NXDOMAIN/],
  ["class CHAOS", ["CH", "TXT", "version.bind"], /status: REFUSED/],
  ["another opcode", ["+opcode=NOTIFY", "search.web"], /opcode: NOTIFY, status: NOTIMP/],
  ["a query with only a header", ["+header-only"], /status: FORMERR/],
  ["a transfer", ["+tcp", "AXFR", "overlay"], /Transfer failed/],
];
for (const [title, words, expected] of rows) {
  test(`dig is answered: ${title}`, async (t) => {
    t.regex(await dig(await start(t), ...words), expected);
  });
}

/** A cache that forgets nothing. */
function cacheOf(addAnswer: AnswerCache["addAnswer"]): AnswerCache {
  return { addAnswer, forgetAnswers: () => {} };
}

test("an answer that holds until the names change is given to the packet path, and no other", async (t) => {
  const upstream = await FakeUpstream.start(answering("203.0.113.1"));
  t.teardown(() => upstream.stop());
  const cached: string[] = [];
  const started = await start(t, {
    resolvers: [upstream.text],
    answerCache: cacheOf(({ client, server, question, response }) => {
      const { id, questions } = decode(Buffer.from(question));
      const answered = decode(Buffer.from(response));
      t.is(answered.id, id);
      t.deepEqual([formatIpv4(client), formatIpv4(server)], ["127.0.0.1", "127.0.0.1"]);
      t.is(question.buffer.byteLength, question.length);
      cached.push(`${questions![0]!.name} ${questions![0]!.type} ${answered.answers!.length}`);
    }),
  });
  const ask = (...words: string[]) => dig(started, "+nocookie", ...words);
  for (const word of ["search.web", "tasks.search.web", "search.1.web", "nothing.web", "www.example.org"]) {
    await ask(word);
  }
  await ask("AAAA", "search.web");
  await ask("SRV", "_9200._tcp.search.web");
  await ask("+noedns", "SEARCH.web");
  await ask("+tcp", "search.web");
  await ask("+cookie", "search.web");
  await ask("-c", "CH", "search.web");
  t.deepEqual(cached, [
    "search.web A 1",
    "search.1.web A 1",
    "search.web AAAA 0",
    "_9200._tcp.search.web SRV 1",
    "SEARCH.web A 1",
  ]);
});

test("the packet path is given a thousand answers a second of a client at most", async (t) => {
  let given = 0;
  const clock = new VirtualClock();
  const { server, port } = await start(t, { clock, answerCache: cacheOf(() => given++) });
  const queries = Array.from({ length: 1100 }, (_, id) =>
    encode({ type: "query", id, flags: 0x100, questions: [{ name: "search.web", type: "A" }] }),
  );
  for (let i = 0; i < queries.length; i += 50) await askUdp(port, queries.slice(i, i + 50), 50);
  t.is(given, 1000);
  await clock.advance(1000);
  await askUdp(port, queries.slice(0, 1), 1);
  t.is(given, 1001);
  t.is(server.stats().queries, 1101);
});

test("other names are forwarded, single labels are not", async (t) => {
  const upstream = await FakeUpstream.start(answering("203.0.113.1"));
  t.teardown(() => upstream.stop());
  // Its time stands: a busy machine asks the resolver once, too.
  const started = await start(t, { resolvers: [upstream.text], clock: new VirtualClock() });
  t.is(await dig(started, "+short", "www.example.org"), "203.0.113.1");
  t.regex(await dig(started, "nothing"), /status: NXDOMAIN/);
  t.regex(await dig(started, "-x", "10.200.1.1"), /status: NXDOMAIN/);
  // On a busy machine the resolver is asked again before it has answered.
  t.deepEqual([...new Set(upstream.asked)], ["udp www.example.org A"]);
  t.is(started.server.stats().sentUpstream, upstream.asked.length);
});

const WEB = idOf("web");
const crowd = applyChanges(
  exampleState,
  [
    { kind: "services", key: idOf("crowd"), row: serviceRow("crowd", { networks: [WEB], endpointMode: "dnsrr" }) },
    ...Array.from({ length: 4000 }, (_, i) =>
      running(taskRow("crowd", i + 1, { [WEB]: `10.192.${17 + (i >> 8)}.${i & 255}` })),
    ).flat(),
  ],
  9,
);

test("4000 tasks are cut with TC over UDP and come whole over TCP", async (t) => {
  const started = await start(t, { names: new Names(crowd) });
  t.regex(await dig(started, "+ignore", "+notcp", "crowd.web"), /flags: qr aa tc rd ra;.*ANSWER: 7\d,/);
  const all = (await dig(started, "+short", "tasks.crowd.web")).split("\n");
  t.is(new Set(all).size, 4000);
});

test("a client has 100,000 records a second in long answers over TCP; short ones and datagrams are not counted", async (t) => {
  const clock = new VirtualClock();
  const { port, server } = await start(t, { names: new Names(crowd), clock });
  const client = new TcpClient(t, port);
  const ask = (id: number, name: string) => client.socket.write(TcpFrames.frame(query(id, name)));
  for (let id = 0; id < 30; id++) ask(id, "tasks.crowd.web");
  ask(30, "search.web");
  await until(() => client.received.length === 31, "31 answers");
  t.like(server.stats().answersByRcode, { NOERROR: 26, REFUSED: 5 });
  await askUdp(port, [query(31, "tasks.crowd.web")], 1);
  await clock.advance(1000);
  ask(32, "tasks.crowd.web");
  await until(() => client.received.length === 32, "another");
  t.is(client.received.at(-1)?.answers?.length, 4000);
});

test("an update is in force with the next query", async (t) => {
  const state = new LiveState();
  state.replaceBy(exampleState);
  const names = new Names(state);
  const started = await start(t, { names });
  t.regex(await dig(started, "queue"), /status: NOERROR/);
  names.changed(state.apply([{ kind: "services", key: idOf("queue"), row: null }], 8));
  t.regex(await dig(started, "queue"), /status: NXDOMAIN/);
});

async function askUdp(port: number, messages: Buffer[], answers: number, from = "127.0.0.1"): Promise<DecodedPacket[]> {
  const socket = createSocket("udp4");
  socket.bind(0, from);
  await once(socket, "listening");
  const received: DecodedPacket[] = [];
  socket.on("message", (message) => received.push(decode(message)));
  for (const message of messages) socket.send(message, port, "127.0.0.1");
  await until(() => received.length >= answers, `${answers} answers`);
  if (answers === 0) await new Promise((sent) => setImmediate(sent));
  socket.close();
  return received;
}

function query(id: number, name: string): Buffer {
  return encode({ type: "query", id, flags: 0x0100, questions: [{ type: "A", name }] });
}

test("garbage is counted and does not stop the server", async (t) => {
  const { server, port } = await start(t);
  const garbage = [Buffer.alloc(0), Buffer.from("x"), Buffer.alloc(65_000, 0xff), query(1, "a").subarray(0, 15)];
  const response = query(2, "search.web");
  response[2]! |= 0x80;
  await askUdp(port, [...garbage, response, query(3, "search.web")], 2);
  t.like(server.stats(), { queries: 6, malformed: 5, answersByRcode: { FORMERR: 1, NOERROR: 1 } });
});

class TcpClient {
  readonly socket: Socket;
  readonly received: DecodedPacket[] = [];
  closed = false;

  constructor(t: ExecutionContext, port: number, from = "127.0.0.1") {
    this.socket = connect({ port, host: "127.0.0.1", localAddress: from });
    const frames = new TcpFrames();
    this.socket.on("data", (chunk) => {
      frames.push(chunk);
      for (let message = frames.next(); message !== undefined; message = frames.next()) {
        this.received.push(decode(message));
      }
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.closed = true;
    });
    t.teardown(() => this.socket.destroy());
  }
}

test("queries on one TCP connection are all answered, also when the client has ended its side", async (t) => {
  const { port } = await start(t);
  const client = new TcpClient(t, port);
  const queries = Array.from({ length: 500 }, (_, id) => TcpFrames.frame(query(id, "search.web")));
  client.socket.end(Buffer.concat(queries));
  await until(() => client.closed, "the server closes when all is answered");
  t.deepEqual(
    client.received.map(({ id }) => id).sort((a, b) => a! - b!),
    Array.from({ length: 500 }, (_, id) => id),
  );
});

test("a slow name does not hold up the others on its connection", async (t) => {
  const upstream = await FakeUpstream.start(() => undefined);
  t.teardown(() => upstream.stop());
  const { port } = await start(t, { resolvers: [upstream.text], clock: new VirtualClock() });
  const client = new TcpClient(t, port);
  client.socket.write(TcpFrames.frame(query(1, "www.example.org")));
  client.socket.write(TcpFrames.frame(query(2, "search.web")));
  await until(() => client.received.length === 1, "an answer");
  t.is(client.received[0]?.id, 2);
});

test("more queries than are worked on at once wait their turn", async (t) => {
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const upstream = await FakeUpstream.start(async (...asked) => {
    await released;
    return answering("203.0.113.1")(...asked);
  });
  t.teardown(() => upstream.stop());
  // Its time stands: a resolver that is slow to answer is not asked again.
  const { port, server } = await start(t, { resolvers: [upstream.text], clock: new VirtualClock() });
  const client = new TcpClient(t, port);
  const queries = Array.from({ length: 90 }, (_, id) => TcpFrames.frame(query(id, `n${id}.example.org`)));
  client.socket.end(Buffer.concat(queries));
  await until(() => upstream.asked.length === 64, "64 queries upstream");
  t.is(server.stats().queries, 64);
  release();
  await until(() => client.closed, "the server closes when all is answered");
  t.is(client.received.length, 90);
  t.true(client.received.every(({ answers }) => answers?.length === 1));
});

test("a TCP connection is closed when it is idle, and when it does not speak DNS", async (t) => {
  const clock = new VirtualClock();
  const { port } = await start(t, { clock });
  const idle = new TcpClient(t, port);
  idle.socket.write(TcpFrames.frame(query(1, "search.web")));
  await until(() => idle.received.length === 1, "an answer");
  await clock.advance(9_999);
  t.false(idle.closed);
  await clock.advance(1);
  await until(() => idle.closed, "idle connection closed");
  const other = new TcpClient(t, port);
  other.socket.write(TcpFrames.frame(Buffer.from("?")));
  await until(() => other.closed, "nonsense closed");
});

test("a TCP connection on which bytes come but no message is idle", async (t) => {
  const clock = new VirtualClock();
  const { port } = await start(t, { clock });
  const [slow, other] = [new TcpClient(t, port), new TcpClient(t, port)];
  slow.socket.write(TcpFrames.frame(query(1, "search.web")));
  await until(() => slow.received.length === 1, "an answer");
  await clock.advance(9_999);
  slow.socket.write(Buffer.of(0));
  other.socket.write(TcpFrames.frame(query(2, "search.web")));
  await until(() => other.received.length === 1, "an answer to the other");
  t.false(slow.closed);
  await clock.advance(1);
  await until(() => slow.closed, "slow connection closed");
});

test("a client has at most 32 connections", async (t) => {
  const { port, server } = await start(t);
  const clients = Array.from({ length: 32 }, () => new TcpClient(t, port));
  for (const { socket } of clients) socket.write(TcpFrames.frame(query(1, "search.web")));
  await until(() => clients.every(({ received }) => received.length === 1), "all connections answered");
  const extra = new TcpClient(t, port);
  await until(() => extra.closed, "the 33rd turned away");
  t.is(server.stats().connectionsLimited, 1);
  clients[0]!.socket.destroy();
  await until(async () => {
    const again = new TcpClient(t, port);
    again.socket.write(TcpFrames.frame(query(2, "search.web")));
    await until(() => again.closed || again.received.length === 1, "an end");
    return again.received.length === 1;
  }, "room for another");
});

test("clients that hold every connection they can get do not keep another from being answered", async (t) => {
  const { port, server } = await start(t);
  const greedy = Array.from({ length: 20 }, (_, i) =>
    Array.from({ length: 32 }, () => new TcpClient(t, port, `127.0.1.${i}`)),
  ).flat();
  await until(() => server.stats().connectionsLimited > 0, "one turned away");
  for (let i = 0; i < 5; i++) {
    const modest = new TcpClient(t, port, `127.0.2.${i}`);
    modest.socket.write(TcpFrames.frame(query(i, "search.web")));
    await until(() => modest.received.length === 1, "an answer to a modest client");
  }
  const held = () => greedy.filter(({ closed }) => !closed).length;
  await until(() => held() <= 256, "no more connections than there are places");
  t.true(held() > 128);
});

test("datagrams of one client beyond 10,000 a second are not read, and those of others are", async (t) => {
  const clock = new VirtualClock(); // a second that does not pass
  const { server, port } = await start(t, { clock });
  const batch = Array.from({ length: 50 }, (_, id) => query(id, "search.web"));
  for (let i = 0; i < 200; i++) await askUdp(port, batch, 50);
  await askUdp(port, [query(1, "search.web")], 0);
  await until(() => server.stats().ignored === 1, "one ignored");
  t.is((await askUdp(port, [query(2, "search.web")], 1, "127.0.0.2")).length, 1);
  await clock.advance(1000);
  t.is((await askUdp(port, [query(3, "search.web")], 1)).length, 1);
  t.is(server.stats().queries, 10_002);
});

test("listen() opens what is new, closes what is gone and leaves the rest alone", async (t) => {
  const { server, port } = await start(t);
  await server.listen(["127.0.0.1", "127.0.0.2"]);
  const [first, second] = server.endpoints();
  t.deepEqual(first, { address: "127.0.0.1", port });
  t.is(second?.address, "127.0.0.2");
  await server.listen(["127.0.0.2"]);
  t.deepEqual(server.endpoints(), [second!]);
  const refused = connect(port, "127.0.0.1");
  await t.throwsAsync(once(refused, "connect"), { code: "ECONNREFUSED" });
  await server.stop();
  t.deepEqual(server.endpoints(), []);
});

/** Shortens every pause, so that retries need no waiting. */
const eagerClock: Clock = { ...systemClock, after: (ms, call) => systemClock.after(Math.min(ms, 5), call) };

for (const [socket, openUdp] of [
  ["node's", undefined],
  ["the kernel's", openBoundUdp],
] as const) {
  test(`with ${socket} socket an address that cannot be had is logged once with what to do, and had as soon as it can`, async (t) => {
    const holder = createSocket("udp4");
    holder.bind(0, "127.0.0.1");
    await once(holder, "listening");
    const lines: string[] = [];
    const log = createLog("info", { write: (line) => lines.push(line) });
    const names = new Names(exampleState);
    const { port } = holder.address();
    const server = new DnsServer({ port, clock: eagerClock, log, names, ...(openUdp && { openUdp }) });
    t.teardown(() => server.stop());
    await server.listen(["127.0.0.1"]);
    t.deepEqual(server.endpoints(), []);
    t.is(lines.length, 1);
    t.regex(JSON.parse(lines[0]!).msg, /DNS cannot answer on 127\.0\.0\.1.*another server holds port.*ss -lntup/);
    holder.close();
    await until(() => server.endpoints().length === 1, "the address is had");
    t.is(lines.length, 2);
    await server.listen(["127.0.0.1", "192.0.2.200"]);
    t.regex(JSON.parse(lines[2]!).msg, /192\.0\.2\.200.*not on a link yet/);
    await server.listen(["127.0.0.1"]);
    t.is(await dig({ server, port }, "+short", "search.web"), "10.192.16.2");
  });
}

class StrangersOnly extends Names {
  constructor() {
    super(emptyState());
  }
  override networksOf(): undefined {}
}

test("a stranger is refused", async (t) => {
  t.regex(await dig(await start(t, { names: new StrangersOnly() }), "search.web"), /status: REFUSED/);
});

test("strangers hear a hundred refusals a second, whatever they ask, and then nothing", async (t) => {
  const clock = new VirtualClock();
  const { port, server } = await start(t, { names: new StrangersOnly(), clock });
  const malformed = query(0, "a").subarray(0, 15);
  const many = Array.from({ length: 300 }, (_, id) => (id % 3 === 0 ? malformed : query(id, "search.web")));
  const refused = await askUdp(port, many, 100);
  t.true(refused.every((packet) => "rcode" in packet && packet.rcode === "REFUSED"));
  await until(() => server.stats().queries === 300, "all are read");
  t.like(server.stats(), { ignored: 200, answersByRcode: { REFUSED: 100 } });
  await clock.advance(1000);
  await askUdp(port, [query(1, "search.web")], 1);
  t.like(server.stats(), { ignored: 200, answersByRcode: { REFUSED: 101 } });
});
