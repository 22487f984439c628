// Forwarding, against resolvers on loopback and under a clock that the test moves.
import { setTimeout as realTime } from "node:timers/promises";
import test from "ava";
import { AUTHORITATIVE_ANSWER, type DecodedPacket, decode, encode, type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import { type Answer, parseQuery, TCP_BYTES } from "../../src/dns/codec.ts";
import { compileNames } from "../../src/dns/compile-names.ts";
import { encodeResponse } from "../../src/dns/encode.ts";
import { Forwarder } from "../../src/dns/forward.ts";
import { nameserversOf, parseUpstream } from "../../src/dns/upstream.ts";
import { ConfigError } from "../../src/lib/errors.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { silentLog } from "../../src/lib/log.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { exampleState } from "./example-state.ts";
import { answering, type Behaviour, FakeUpstream } from "./fake-upstream.ts";

const names = compileNames(exampleState);

function forwarderTo(resolvers: string[], forward: Record<string, string[]> = {}) {
  const clock = new VirtualClock();
  return { clock, forwarder: new Forwarder({ clock, random: seededRandom(7), log: silentLog, resolvers, forward }) };
}

interface AskOptions {
  client?: string;
  type?: "A" | "TXT";
  recursion?: boolean;
  /** Moves time while waiting. */
  clock?: VirtualClock;
}

async function ask(forwarder: Forwarder, name: string, options: AskOptions = {}) {
  const { client = "10.192.16.31", type = "A", recursion = true, clock } = options;
  const flags = recursion ? 0x0100 : 0;
  const query = parseQuery(encode({ type: "query", id: 99, flags, questions: [{ type, name }] }))!;
  const networks = names.networksOf(ipv4(client), ipv4("10.192.16.1"))!;
  const answer = forwarder.resolve(query, { address: ipv4(client), via: ipv4("10.192.16.1"), names, networks });
  const settled = clock === undefined ? await answer : await whileTimePasses(clock, answer);
  return decode(encodeResponse(query, settled, TCP_BYTES)) as DecodedPacket & { rcode: string };
}

async function whileTimePasses(clock: VirtualClock, answer: Answer | Promise<Answer>): Promise<Answer> {
  let settled: Answer | undefined;
  void Promise.resolve(answer).then((value) => {
    settled = value;
  });
  while (settled === undefined) {
    await clock.advance(50);
    await realTime(2); // the sockets' time is real: 50 ms of the clock's must not be over before they had any
  }
  return settled;
}

function addressOf(packet: Packet): unknown {
  const record = packet.answers?.find(({ type }) => type === "A");
  return record?.type === "A" ? record.data : undefined;
}

async function upstream(t: { teardown(stop: () => void): void }, behaviour: Behaviour): Promise<FakeUpstream> {
  const server = await FakeUpstream.start(behaviour);
  t.teardown(() => server.stop());
  return server;
}

const silent: Behaviour = () => undefined;

test("an answer is passed on, once more from the cache with less time to live, and asked again when it is over", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 60));
  const { clock, forwarder } = forwarderTo([server.text]);
  const first = await ask(forwarder, "Example.org");
  t.is(addressOf(first), "203.0.113.1");
  t.is(first.id, 99);
  await clock.advance(20_000);
  const second = await ask(forwarder, "eXAMPLE.org");
  t.like(second.answers?.[0], { ttl: 40 });
  t.is(second.questions?.[0]?.name, "eXAMPLE.org");
  t.is(server.asked.length, 1);
  await clock.advance(40_000);
  await ask(forwarder, "example.org");
  t.is(server.asked.length, 2);
  t.is(forwarder.stats().cacheHits, 1);
});

test("what is passed on is not ours to vouch for: AA is taken away", async (t) => {
  const server = await upstream(t, (query, transport) => ({
    ...(answering("203.0.113.1")(query, transport) as Packet),
    flags: AUTHORITATIVE_ANSWER,
  }));
  t.false((await ask(forwarderTo([server.text]).forwarder, "example.org")).flag_aa);
});

test("each query leaves from a port and under an id of its own", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = forwarderTo([server.text]);
  for (let i = 0; i < 20; i++) await ask(forwarder, `n${i}.example.org`);
  t.is(new Set(server.ids).size, 20);
  t.true(new Set(server.ports).size > 10);
});

const soa = {
  type: "SOA",
  name: "example.org",
  ttl: 300,
  data: { mname: "a.example.org", rname: "b.example.org", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 },
} as const;

for (const [title, rcode] of [
  ["no such name", 3],
  ["no such record", 0],
] as const) {
  test(`${title} is kept as long as the SOA's minimum says`, async (t) => {
    const server = await upstream(t, () => ({ flags: rcode, authorities: [soa] }));
    const { clock, forwarder } = forwarderTo([server.text]);
    await ask(forwarder, "no.example.org");
    await clock.advance(29_000);
    await ask(forwarder, "no.example.org");
    t.is(server.asked.length, 1);
    await clock.advance(1_000);
    await ask(forwarder, "no.example.org");
    t.is(server.asked.length, 2);
  });
}

test("a truncated answer is asked for again over TCP", async (t) => {
  const many = Array.from({ length: 200 }, (_, i) => ({
    type: "A" as const,
    name: "big.example.org",
    ttl: 60,
    data: `203.0.113.${i}`,
  }));
  const server = await upstream(t, (_, transport) =>
    transport === "udp" ? { flags: TRUNCATED_RESPONSE } : { answers: many },
  );
  const packet = await ask(forwarderTo([server.text]).forwarder, "big.example.org");
  t.is(packet.answers?.length, 200);
  t.deepEqual(server.asked, ["udp big.example.org A", "tcp big.example.org A"]);
});

test("a resolver that does not know EDNS is asked without it", async (t) => {
  const server = await upstream(t, (query, transport) =>
    query.additionals?.length ? { flags: 1, questions: [] } : answering("203.0.113.9")(query, transport),
  );
  t.is(addressOf(await ask(forwarderTo([server.text]).forwarder, "old.example.org")), "203.0.113.9");
});

test("a resolver that does not know EDNS is asked without it over TCP too", async (t) => {
  const server = await upstream(t, (query, transport) => {
    if (query.additionals?.length) return { flags: 1, questions: [] };
    return transport === "udp" ? { flags: TRUNCATED_RESPONSE } : answering("203.0.113.9")(query, transport);
  });
  t.is(addressOf(await ask(forwarderTo([server.text]).forwarder, "old.example.org")), "203.0.113.9");
});

test("a resolver that is silent, refuses, fails or lies is passed over for the next one", async (t) => {
  const good = await upstream(t, answering("203.0.113.1"));
  const behaviours: Record<string, Behaviour> = {
    silent,
    refuses: () => ({ flags: 5 }),
    fails: () => ({ flags: 2 }),
    "answers another question": () => ({ questions: [{ type: "A", name: "other.example.org" }] }),
    "answers under another id": (query) => ({ id: query.id! ^ 1 }),
    "sends garbage": () => Buffer.from("garbage"),
  };
  for (const [title, behaviour] of Object.entries(behaviours)) {
    const bad = await upstream(t, behaviour);
    const { clock, forwarder } = forwarderTo([bad.text, good.text]);
    t.is(addressOf(await ask(forwarder, "example.org", { clock })), "203.0.113.1", title);
    t.is(bad.asked.length, 1, title);
    t.is(forwarder.stats().upstreamFailures, 1, title);
  }
});

test("a resolver that failed twice is asked last, until a pause is over", async (t) => {
  const bad = await upstream(t, silent);
  const good = await upstream(t, answering("203.0.113.1", 0));
  const { clock, forwarder } = forwarderTo([bad.text, good.text]);
  await ask(forwarder, "one.example.org", { clock });
  await ask(forwarder, "two.example.org", { clock });
  t.is(bad.asked.length, 2);
  await ask(forwarder, "three.example.org", { clock });
  t.is(bad.asked.length, 2);
  bad.behaviour = answering("203.0.113.2", 0);
  await clock.advance(2_000);
  t.is(addressOf(await ask(forwarder, "four.example.org", { clock })), "203.0.113.2");
});

test("without any answer it is SERVFAIL, within the time that clients wait", async (t) => {
  const bad = await upstream(t, silent);
  const { clock, forwarder } = forwarderTo([bad.text]);
  const startMs = clock.monotonic();
  t.is((await ask(forwarder, "example.org", { clock })).rcode, "SERVFAIL");
  t.true(clock.monotonic() - startMs < 5_000);
  t.is((await ask(forwarderTo([]).forwarder, "example.org")).rcode, "SERVFAIL");
});

test("while no resolver answers, an answer whose time is over is better than none", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 10));
  const { clock, forwarder } = forwarderTo([server.text]);
  await ask(forwarder, "example.org");
  server.behaviour = silent;
  await clock.advance(3_600_000);
  const stale = await ask(forwarder, "example.org", { clock });
  t.like(stale.answers?.[0], { data: "203.0.113.1", ttl: 10 });
  t.is(forwarder.stats().staleAnswers, 1);
  await clock.advance(86_400_000);
  t.is((await ask(forwarder, "example.org", { clock })).rcode, "SERVFAIL");
});

test("our own gateways are never asked", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = forwarderTo(["10.192.16.1", "10.192.32.1", server.text]);
  t.is(addressOf(await ask(forwarder, "example.org")), "203.0.113.1");
  t.is(forwarder.stats().sentUpstream, 1);
});

test("the same question is asked once while it is under way, so a loop through a resolver ends", async (t) => {
  const { promise: asked, resolve: release } = withResolvers();
  const server = await upstream(t, async (query, transport) => {
    await asked;
    return answering("203.0.113.1")(query, transport);
  });
  const { forwarder } = forwarderTo([server.text]);
  const all = Array.from({ length: 10 }, () => ask(forwarder, "example.org"));
  release();
  t.deepEqual((await Promise.all(all)).map(addressOf), Array(10).fill("203.0.113.1"));
  t.is(server.asked.length, 1);
});

test("one client has at most 100 queries waiting, and others are served meanwhile", async (t) => {
  const { promise: asked, resolve: release } = withResolvers();
  const server = await upstream(t, async (query, transport) => {
    await asked;
    return answering("203.0.113.1")(query, transport);
  });
  const { forwarder } = forwarderTo([server.text]);
  const waiting = Array.from({ length: 100 }, (_, i) => ask(forwarder, `n${i}.example.org`));
  t.is((await ask(forwarder, "one-more.example.org")).rcode, "SERVFAIL");
  t.is(forwarder.stats().limited, 1);
  const other = ask(forwarder, "other.example.org", { client: "10.192.16.32" });
  release();
  t.is(addressOf(await other), "203.0.113.1");
  await Promise.all(waiting);
  t.is(addressOf(await ask(forwarder, "one-more.example.org")), "203.0.113.1");
});

test("one client asks 500 new questions a second, and others are served meanwhile", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder, clock } = forwarderTo([server.text]);
  for (let i = 0; i < 500; i += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, j) => ask(forwarder, `n${i + j}.example.org`)));
  }
  t.is((await ask(forwarder, "one-more.example.org")).rcode, "SERVFAIL");
  t.is(forwarder.stats().limited, 1);
  t.is(addressOf(await ask(forwarder, "n7.example.org")), "203.0.113.1");
  t.is(addressOf(await ask(forwarder, "one-more.example.org", { client: "10.192.16.32" })), "203.0.113.1");
  await clock.advance(1000);
  t.is(addressOf(await ask(forwarder, "another.example.org")), "203.0.113.1");
});

test("a domain is asked of its own resolvers, the longest that fits, and nobody else", async (t) => {
  const [world, corp, lab] = await Promise.all(
    ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map((address) => upstream(t, answering(address))),
  );
  const { forwarder } = forwarderTo([world!.text], { "corp.example": [corp!.text], "Lab.Corp.Example.": [lab!.text] });
  const rows: [string, string][] = [
    ["a.corp.example", "203.0.113.2"],
    ["corp.example", "203.0.113.2"],
    ["a.lab.corp.example", "203.0.113.3"],
    ["mycorp.example", "203.0.113.1"],
    ["example", "203.0.113.1"],
  ];
  for (const [name, expected] of rows) t.is(addressOf(await ask(forwarder, name)), expected, name);
  t.true(forwarder.hasRoute("x.corp.example"));
  t.false(forwarder.hasRoute("x.example"));
});

test("without recursion desired nothing is said of what others asked", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = forwarderTo([server.text]);
  await ask(forwarder, "example.org");
  t.is((await ask(forwarder, "example.org", { recursion: false })).rcode, "REFUSED");
});

const resolvers: [string, string | undefined][] = [
  ["192.0.2.53", "192.0.2.53#53"],
  ["192.0.2.53:5353", "192.0.2.53#5353"],
  ["2001:db8::53", "2001:db8::53#53"],
  ["[2001:db8::53]:5353", "2001:db8::53#5353"],
  ["192.0.2.53:0", undefined],
  ["192.0.2.53:65536", undefined],
  ["[192.0.2.53]:53", undefined],
  ["dns.example", undefined],
  ["", undefined],
];
for (const [text, expected] of resolvers) {
  test(`'${text}' is ${expected === undefined ? "no resolver" : `the resolver ${expected}`}`, (t) => {
    t.is(parseUpstream(text)?.name, expected);
    if (expected === undefined) {
      const error = t.throws(() => forwarderTo([], { "corp.example": [text] }), { instanceOf: ConfigError });
      t.is(error?.field, "dns.forward.corp.example");
    }
  });
}

test("a resolv.conf gives its name servers in order", (t) => {
  const text =
    "# a comment\nnameserver 192.0.2.1\nsearch example.org\n nameserver 9.9.9.9\nnameserver\tfe80::1%eth0\nnameserver x\n";
  t.deepEqual(nameserversOf(text), ["192.0.2.1", "fe80::1%eth0"]);
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
