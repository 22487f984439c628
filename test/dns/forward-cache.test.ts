// What is kept of the resolvers' answers, and how long.
import test from "ava";
import { ask, forwarderTo, silent, upstream } from "./ask-forwarder.ts";
import { answering } from "./fake-upstream.ts";

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
