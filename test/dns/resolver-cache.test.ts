// What is kept of the resolvers' answers, and how long.
import test from "ava";
import type { Packet } from "dns-packet";
import { addressOf, ask, resolverTo, silent, upstream, withResolvers } from "./ask-resolver.ts";
import { answering, type Behaviour } from "./fake-upstream.ts";

function soa(ttl: number, minimum: number): Packet["authorities"] {
  const names = { mname: "a.example.org", rname: "b.example.org" };
  const data = { ...names, serial: 1, refresh: 1, retry: 1, expire: 1, minimum };
  return [{ type: "SOA", name: "example.org", ttl, data }];
}

function alias(ttl: number): Packet["answers"] {
  return [{ type: "CNAME", name: "no.example.org", ttl, data: "gone.example.org" }];
}

const NO_NAME = 3;
const negatives: [title: string, packet: Packet, keptSeconds: number][] = [
  ["no such name, as long as the SOA's minimum says", { flags: NO_NAME, authorities: soa(300, 30) }, 30],
  ["no such record, as long as the SOA's minimum says", { authorities: soa(300, 30) }, 30],
  ["no such name, as long as the SOA itself", { flags: NO_NAME, authorities: soa(20, 30) }, 20],
  ["an alias of no name, as long as the alias", { flags: NO_NAME, answers: alias(10), authorities: soa(300, 30) }, 10],
  ["an alias of no name, as its SOA says", { flags: NO_NAME, answers: alias(300), authorities: soa(300, 30) }, 30],
  ["an alias of no record, as its SOA says", { answers: alias(100), authorities: soa(300, 30) }, 30],
  ["no such name, a quarter of an hour at most", { flags: NO_NAME, authorities: soa(86_400, 86_400) }, 900],
];
for (const [title, packet, keptSeconds] of negatives) {
  test(`kept: ${title}, and the SOA counts down from that`, async (t) => {
    const server = await upstream(t, () => packet);
    const { clock, forwarder } = resolverTo([server.text]);
    t.like((await ask(forwarder, "no.example.org")).authorities?.[0], { ttl: keptSeconds });
    await clock.advance((keptSeconds - 1) * 1000);
    t.like((await ask(forwarder, "no.example.org")).authorities?.[0], { ttl: 1 });
    t.is(server.asked.length, 1);
    await clock.advance(1_000);
    await ask(forwarder, "no.example.org");
    t.is(server.asked.length, 2);
  });
}

const unkept: [title: string, packet: Packet][] = [
  ["no such name without a SOA", { flags: NO_NAME }],
  ["no such record without a SOA", {}],
  ["an alias of no record without a SOA", { answers: alias(100) }],
  ["no such name when the minimum is 0", { flags: NO_NAME, authorities: soa(300, 0) }],
];
for (const [title, packet] of unkept) {
  test(`passed on but not kept: ${title}`, async (t) => {
    const server = await upstream(t, () => packet);
    const { forwarder } = resolverTo([server.text]);
    for (let i = 0; i < 2; i++) t.is((await ask(forwarder, "no.example.org")).flags! & 15, packet.flags ?? 0);
    t.is(server.asked.length, 2);
  });
}

test("while no resolver answers, an answer whose time is over is better than none", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 10));
  const { clock, forwarder } = resolverTo([server.text]);
  await ask(forwarder, "example.org");
  server.behaviour = silent;
  await clock.advance(3_600_000);
  const stale = await ask(forwarder, "example.org", { clock });
  t.like(stale.answers?.[0], { data: "203.0.113.1", ttl: 10 });
  t.is(forwarder.stats().staleAnswers, 1);
  await clock.advance(86_400_000);
  t.is((await ask(forwarder, "example.org", { clock })).rcode, "SERVFAIL");
});

test("what nobody could answer is not asked again at once, and what is stale is served meanwhile", async (t) => {
  const servers = await Promise.all([upstream(t, answering("203.0.113.1", 10)), upstream(t, silent)]);
  const { clock, forwarder } = resolverTo(servers.map(({ text }) => text));
  const failing: Behaviour = () => ({ flags: 2 });
  await ask(forwarder, "kept.example.org");
  for (const server of servers) server.behaviour = failing;
  await clock.advance(10_000);
  for (let i = 0; i < 5; i++) {
    t.is((await ask(forwarder, "new.example.org")).rcode, "SERVFAIL");
    t.is(addressOf(await ask(forwarder, "kept.example.org")), "203.0.113.1");
  }
  t.is(forwarder.stats().sentUpstream, 1 + 2 * servers.length);
  for (const server of servers) server.behaviour = answering("203.0.113.2", 10);
  await clock.advance(1_000);
  for (const name of ["new", "kept"]) t.is(addressOf(await ask(forwarder, `${name}.example.org`)), "203.0.113.2");
});

test("answers are forgotten with the resolvers that gave them, however late they come", async (t) => {
  const { promise: released, resolve: release } = withResolvers();
  const late: Behaviour = async (query, transport) => {
    if (query.questions![0]!.name.startsWith("late")) await released;
    return answering("203.0.113.1", 3_600)(query, transport);
  };
  const [home, office] = await Promise.all([upstream(t, late), upstream(t, answering("203.0.113.2"))]);
  const { forwarder } = resolverTo([home.text]);
  await ask(forwarder, "example.org");
  const waiting = ask(forwarder, "late.example.org");
  forwarder.setResolvers([office.text]);
  t.is(addressOf(await ask(forwarder, "example.org")), "203.0.113.2");
  t.is(addressOf(await ask(forwarder, "late.example.org")), "203.0.113.2");
  release();
  t.is(addressOf(await waiting), "203.0.113.1");
  t.is(addressOf(await ask(forwarder, "late.example.org")), "203.0.113.2");
});

test("the same resolvers in another order, or none for a while, are no reason to forget", async (t) => {
  const servers = await Promise.all([upstream(t, answering("203.0.113.1", 10)), upstream(t, silent)]);
  const resolvers = servers.map(({ text }) => text);
  const { clock, forwarder } = resolverTo(resolvers);
  await ask(forwarder, "example.org");
  forwarder.setResolvers(resolvers.toReversed());
  await ask(forwarder, "example.org");
  t.is(forwarder.stats().sentUpstream, 1);
  await clock.advance(10_000);
  forwarder.setResolvers([]);
  t.is(addressOf(await ask(forwarder, "example.org", { clock })), "203.0.113.1");
  t.is(forwarder.stats().staleAnswers, 1);
});
