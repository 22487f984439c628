// Forwarding, against resolvers on loopback: what is asked of whom, and how much of it.
import test, { type ExecutionContext } from "ava";
import { AUTHORITATIVE_ANSWER, type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import { addressOf, ask, resolverTo, silent, upstream, withResolvers } from "./ask-resolver.ts";
import { answering, type Behaviour } from "./fake-upstream.ts";

test("an answer is passed on, once more from the cache with less time to live, and asked again when it is over", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 60));
  const { clock, forwarder } = resolverTo([server.text]);
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
  t.false((await ask(resolverTo([server.text]).forwarder, "example.org")).flag_aa);
});

test("each query leaves from a port and under an id of its own", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = resolverTo([server.text]);
  for (let i = 0; i < 20; i++) await ask(forwarder, `n${i}.example.org`);
  t.is(new Set(server.ids).size, 20);
  t.true(new Set(server.ports).size > 10);
});

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
  const packet = await ask(resolverTo([server.text]).forwarder, "big.example.org");
  t.is(packet.answers?.length, 200);
  t.deepEqual(server.asked, ["udp big.example.org A", "tcp big.example.org A"]);
});

test("a resolver with an IPv6 address is asked there, over UDP and TCP", async (t) => {
  const whole = answering("203.0.113.1");
  const server = await upstream(
    t,
    (query, transport) => (transport === "udp" ? { flags: TRUNCATED_RESPONSE } : whole(query, transport)),
    "::1",
  );
  t.is(addressOf(await ask(resolverTo([server.text]).forwarder, "example.org")), "203.0.113.1");
  t.deepEqual(server.asked, ["udp example.org A", "tcp example.org A"]);
});

test("a resolver that does not know EDNS is asked without it", async (t) => {
  const server = await upstream(t, (query, transport) =>
    query.additionals?.length ? { flags: 1, questions: [] } : answering("203.0.113.9")(query, transport),
  );
  t.is(addressOf(await ask(resolverTo([server.text]).forwarder, "old.example.org")), "203.0.113.9");
});

test("a resolver that does not know EDNS is asked without it over TCP too", async (t) => {
  const server = await upstream(t, (query, transport) => {
    if (query.additionals?.length) return { flags: 1, questions: [] };
    return transport === "udp" ? { flags: TRUNCATED_RESPONSE } : answering("203.0.113.9")(query, transport);
  });
  t.is(addressOf(await ask(resolverTo([server.text]).forwarder, "old.example.org")), "203.0.113.9");
});

test("our own gateways are never asked", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = resolverTo(["10.192.16.1", "10.192.32.1", server.text]);
  t.is(addressOf(await ask(forwarder, "example.org")), "203.0.113.1");
  t.is(forwarder.stats().sentUpstream, 1);
});

test("the same question is asked once while it is under way, so a loop through a resolver ends", async (t) => {
  const { promise: asked, resolve: release } = withResolvers();
  const server = await upstream(t, async (query, transport) => {
    await asked;
    return answering("203.0.113.1")(query, transport);
  });
  const { forwarder } = resolverTo([server.text]);
  const all = Array.from({ length: 10 }, () => ask(forwarder, "example.org"));
  release();
  t.deepEqual((await Promise.all(all)).map(addressOf), Array(10).fill("203.0.113.1"));
  t.is(server.asked.length, 1);
});

/** A forwarder to several resolvers, each for a domain of its own: one receive buffer would not hold a thousand questions. */
async function resolverToMany(t: ExecutionContext, behaviour: Behaviour) {
  const servers = await Promise.all(Array.from({ length: 10 }, () => upstream(t, behaviour)));
  const routes = Object.fromEntries(servers.map(({ text }, i) => [`d${i}.example`, [text]]));
  const parts = resolverTo([], routes);
  const askMany = (count: number) =>
    Array.from({ length: count }, (_, i) => ask(parts.forwarder, `n${i}.d${i % 10}.example`));
  return { ...parts, askMany };
}

test("a thousand questions of one client at once are all answered", async (t) => {
  const { forwarder, askMany } = await resolverToMany(t, answering("203.0.113.1"));
  const all = await Promise.all(askMany(1000));
  t.deepEqual(new Set(all.map(addressOf)), new Set(["203.0.113.1"]));
  t.like(forwarder.stats(), { waited: 0, limited: 0 });
});

test("what one client asks beyond 1,024 waits for its turn, and others are served meanwhile", async (t) => {
  const { promise: asked, resolve: release } = withResolvers();
  const { forwarder, clock, askMany } = await resolverToMany(t, async (query, transport) => {
    if (query.questions![0]!.name !== "other.d1.example") await asked;
    return answering("203.0.113.1")(query, transport);
  });
  const all = askMany(1100);
  t.like(forwarder.stats(), { waited: 76, limited: 0 });
  t.is(addressOf(await ask(forwarder, "other.d1.example", { client: "10.192.16.32" })), "203.0.113.1");
  release();
  await Promise.all(all.slice(0, 1024));
  await clock.advance(1000); // another second: it may ask as many again
  t.deepEqual(new Set((await Promise.all(all)).map(addressOf)), new Set(["203.0.113.1"]));
  t.is(forwarder.stats().limited, 0);
});

test("a question that has no turn within 4 s fails, and is counted", async (t) => {
  const server = await upstream(t, silent);
  const { forwarder, clock } = resolverTo([server.text]);
  for (let i = 0; i < 1024; i++) void ask(forwarder, `n${i}.example.org`);
  const late = ask(forwarder, "late.example.org");
  await clock.advance(3_900);
  t.is(forwarder.stats().limited, 0);
  await clock.advance(100);
  t.is((await late).rcode, "SERVFAIL");
  t.is(forwarder.stats().limited, 1);
});

test("a domain is asked of its own resolvers, the longest that fits, and nobody else", async (t) => {
  const [world, corp, lab] = await Promise.all(
    ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map((address) => upstream(t, answering(address))),
  );
  const { forwarder } = resolverTo([world!.text], { "corp.example": [corp!.text], "lab.corp.example": [lab!.text] });
  const rows: [string, string][] = [
    ["a.corp.example", "203.0.113.2"],
    ["corp.example", "203.0.113.2"],
    ["a.lab.corp.example", "203.0.113.3"],
    ["mycorp.example", "203.0.113.1"],
    ["example", "203.0.113.1"],
  ];
  for (const [name, expected] of rows) t.is(addressOf(await ask(forwarder, name)), expected, name);
  t.true(forwarder.hasRoute("x.corp.example", {}));
  t.true(forwarder.hasRoute("x\\.y.corp.example", {}));
  t.false(forwarder.hasRoute("x\\.corp.example", {}), "its first label is `x.corp`");
  t.true(forwarder.hasRoute("x\\\\.corp.example", {}));
  t.false(forwarder.hasRoute("x.example", {}));
});

test("a container's own resolvers are asked for it and for nobody else, and what each said is kept apart", async (t) => {
  const [world, corp, own] = await Promise.all(
    ["203.0.113.1", "203.0.113.2", "203.0.113.3"].map((address) => upstream(t, answering(address))),
  );
  const port = Number(own!.text.split(":")[1]);
  const servers = [`127.0.0.1:${port}`];
  const { forwarder } = resolverTo([world!.text], { "corp.example": [corp!.text] });
  for (let i = 0; i < 2; i++) {
    t.is(addressOf(await ask(forwarder, "example.org")), "203.0.113.1");
    t.is(addressOf(await ask(forwarder, "example.org", { servers })), "203.0.113.3");
    t.is(addressOf(await ask(forwarder, "a.corp.example")), "203.0.113.2");
    t.is(addressOf(await ask(forwarder, "a.corp.example", { servers })), "203.0.113.3");
  }
  t.deepEqual(own!.asked, ["udp example.org A", "udp a.corp.example A"]);
  t.false(forwarder.hasRoute("a.corp.example", { servers }));
});

test("of the resolvers that containers have of their own 64 sets are remembered, those that were asked last", async (t) => {
  const own = await upstream(t, answering("203.0.113.3"));
  const { forwarder } = resolverTo([]);
  const servers = (i: number) => [own.text, `192.0.2.${i}`];
  for (let i = 0; i <= 64; i++) await ask(forwarder, "example.org", { servers: servers(i) });
  t.is(own.asked.length, 65);
  await ask(forwarder, "example.org", { servers: servers(64) });
  t.is(own.asked.length, 65);
  await ask(forwarder, "example.org", { servers: servers(0) });
  t.is(own.asked.length, 66);
});

test("without recursion desired nothing is said of what others asked", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = resolverTo([server.text]);
  await ask(forwarder, "example.org");
  t.is((await ask(forwarder, "example.org", { recursion: false })).rcode, "REFUSED");
});
