// Forwarding, against resolvers on loopback: what is asked of whom, and how much of it.
import test from "ava";
import { AUTHORITATIVE_ANSWER, type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import { addressOf, ask, forwarderTo, upstream, withResolvers } from "./ask-forwarder.ts";
import { answering } from "./fake-upstream.ts";

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

test("a resolver with an IPv6 address is asked there, over UDP and TCP", async (t) => {
  const whole = answering("203.0.113.1");
  const server = await upstream(
    t,
    (query, transport) => (transport === "udp" ? { flags: TRUNCATED_RESPONSE } : whole(query, transport)),
    "::1",
  );
  t.is(addressOf(await ask(forwarderTo([server.text]).forwarder, "example.org")), "203.0.113.1");
  t.deepEqual(server.asked, ["udp example.org A", "tcp example.org A"]);
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
  const { forwarder } = forwarderTo([world!.text], { "corp.example": [corp!.text], "lab.corp.example": [lab!.text] });
  const rows: [string, string][] = [
    ["a.corp.example", "203.0.113.2"],
    ["corp.example", "203.0.113.2"],
    ["a.lab.corp.example", "203.0.113.3"],
    ["mycorp.example", "203.0.113.1"],
    ["example", "203.0.113.1"],
  ];
  for (const [name, expected] of rows) t.is(addressOf(await ask(forwarder, name)), expected, name);
  t.true(forwarder.hasRoute("x.corp.example"));
  t.true(forwarder.hasRoute("x\\.y.corp.example"));
  t.false(forwarder.hasRoute("x\\.corp.example"), "its first label is `x.corp`");
  t.true(forwarder.hasRoute("x\\\\.corp.example"));
  t.false(forwarder.hasRoute("x.example"));
});

test("without recursion desired nothing is said of what others asked", async (t) => {
  const server = await upstream(t, answering("203.0.113.1"));
  const { forwarder } = forwarderTo([server.text]);
  await ask(forwarder, "example.org");
  t.is((await ask(forwarder, "example.org", { recursion: false })).rcode, "REFUSED");
});
