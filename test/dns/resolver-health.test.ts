// Which resolver is asked when others fail, and for how long.
import { createSocket } from "node:dgram";
import test from "ava";
import { encode, type OptAnswer, type Packet, TRUNCATED_RESPONSE } from "dns-packet";
import { delay } from "../../src/lib/clock.ts";
import { createLog } from "../../src/lib/log.ts";
import { addressOf, ask, resolverTo, silent, upstream } from "./ask-resolver.ts";
import { answering, type Behaviour, FakeUpstream } from "./fake-upstream.ts";

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
    const { clock, forwarder } = resolverTo([bad.text, good.text]);
    t.is(addressOf(await ask(forwarder, "example.org", { clock })), "203.0.113.1", title);
    t.is(bad.asked.length, 1, title);
    t.is(forwarder.stats().upstreamFailures, 1, title);
  }
});

test("an answer that comes from elsewhere than the resolver is none", async (t) => {
  const forger = createSocket("udp4");
  t.teardown(() => forger.close());
  const server = await upstream(t, async (query, transport) => {
    const forged = encode({ ...query, type: "response", ...(answering("203.0.113.66")(query, transport) as Packet) });
    await new Promise((sent) => forger.send(forged, server.ports.at(-1)!, "127.0.0.1", sent));
    return answering("203.0.113.1")(query, transport);
  });
  t.is(addressOf(await ask(resolverTo([server.text]).forwarder, "example.org")), "203.0.113.1");
});

test("a resolver that failed twice is asked last, until a pause is over", async (t) => {
  const bad = await upstream(t, silent);
  const good = await upstream(t, answering("203.0.113.1", 0));
  const { clock, forwarder } = resolverTo([bad.text, good.text]);
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
  const { clock, forwarder } = resolverTo([bad.text]);
  const startMs = clock.monotonic();
  t.is((await ask(forwarder, "example.org", { clock })).rcode, "SERVFAIL");
  t.true(clock.monotonic() - startMs < 5_000);
  t.is((await ask(resolverTo([]).forwarder, "example.org")).rcode, "SERVFAIL");
});

const BAD_VERSION: OptAnswer = {
  type: "OPT",
  name: ".",
  udpPayloadSize: 1232,
  extendedRcode: 1,
  ednsVersion: 0,
  flags: 0,
  flag_do: false,
  options: [],
};

const servfail: Behaviour = () => ({ flags: 2 });

/** Some names get an answer, `bad.` ones what `behaviour` says. */
function badNames(behaviour: Behaviour): Behaviour {
  const good = answering("203.0.113.1", 10);
  return (query, transport) => (query.questions![0]!.name.startsWith("bad") ? behaviour : good)(query, transport);
}

const ofTheName: Record<string, Behaviour> = {
  "that fail": servfail,
  "that are too slow": silent,
  "that are refused": () => ({ flags: 5 }),
  "that are too long without TCP": () => ({ flags: TRUNCATED_RESPONSE }),
};
for (const [title, behaviour] of Object.entries(ofTheName)) {
  test(`names ${title} do not make their resolver one that is down for others`, async (t) => {
    const server = await upstream(t, badNames(behaviour));
    const { clock, forwarder } = resolverTo([server.text]);
    await ask(forwarder, "good.example.org");
    for (let i = 0; i < 3; i++) {
      t.is((await ask(forwarder, "bad.example.org", { clock })).rcode, "SERVFAIL");
      await clock.advance(20_000);
    }
    t.is(addressOf(await ask(forwarder, "good.example.org")), "203.0.113.1");
    t.is(forwarder.stats().staleAnswers, 0);
  });
}

test("a resolver that refuses many names has fresh answers for others, though it is asked last", async (t) => {
  const server = await upstream(
    t,
    badNames(() => ({ flags: 5 })),
  );
  const { clock, forwarder } = resolverTo([server.text]);
  await ask(forwarder, "good.example.org");
  await clock.advance(10_000);
  for (const name of ["bad1.example.org", "bad2.example.org", "bad3.example.org"]) await ask(forwarder, name);
  t.is(addressOf(await ask(forwarder, "good.example.org", { clock })), "203.0.113.1");
  t.is(forwarder.stats().staleAnswers, 0);
});

test("a resolver's SERVFAIL is followed by the next resolver, and is asked for once", async (t) => {
  const [bad, good] = await Promise.all([upstream(t, servfail), upstream(t, answering("203.0.113.1", 0))]);
  const { forwarder } = resolverTo([bad.text, good.text]);
  for (let i = 0; i < 4; i++) t.is(addressOf(await ask(forwarder, `n${i}.example.org`)), "203.0.113.1");
  t.is(bad.asked.length, 4);
  good.behaviour = servfail;
  t.is((await ask(forwarder, "last.example.org")).rcode, "SERVFAIL");
  t.is(bad.asked.length, 5);
});

const refusals: Record<string, Behaviour> = {
  "a refusal without the question": () => ({ flags: 5, questions: [] }),
  "a failure without the question": () => ({ flags: 2, questions: [] }),
  "an extended response code": () => ({ flags: 7, additionals: [BAD_VERSION] }),
};
for (const [title, behaviour] of Object.entries(refusals)) {
  test(`${title} is heard, and the next resolver asked at once`, async (t) => {
    const [bad, good] = await Promise.all([upstream(t, behaviour), upstream(t, answering("203.0.113.1"))]);
    const { forwarder } = resolverTo([bad.text, good.text]); // its time stands still
    t.is(addressOf(await ask(forwarder, "example.org")), "203.0.113.1");
  });
}

test("a resolver that knows another EDNS than ours is asked without it", async (t) => {
  const server = await upstream(t, (query, transport) =>
    query.additionals?.length ? { additionals: [BAD_VERSION] } : answering("203.0.113.9")(query, transport),
  );
  t.is(addressOf(await ask(resolverTo([server.text]).forwarder, "old.example.org")), "203.0.113.9");
});

test("a resolver that is silent for two names is down", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 10));
  const { clock, forwarder } = resolverTo([server.text]);
  await ask(forwarder, "kept.example.org");
  server.behaviour = silent;
  await clock.advance(10_000);
  for (const name of ["one.example.org", "two.example.org"]) await ask(forwarder, name, { clock });
  const startMs = clock.monotonic();
  t.is(addressOf(await ask(forwarder, "kept.example.org", { clock })), "203.0.113.1");
  t.true(clock.monotonic() - startMs <= 100);
});

test("the log says once that a resolver is down, and once that it is back", async (t) => {
  const lines: string[] = [];
  const log = createLog("info", { write: (line) => void lines.push(line) });
  const server = await upstream(t, silent);
  const { clock, forwarder } = resolverTo([server.text], {}, log);
  for (let i = 0; i < 4; i++) await ask(forwarder, `n${i}.example.org`, { clock });
  server.behaviour = answering("203.0.113.1");
  for (let i = 4; i < 6; i++) await ask(forwarder, `n${i}.example.org`, { clock });
  const address = server.text.replace(":", "#");
  const said = lines.map((line) => JSON.parse(line));
  t.is(said.length, 2);
  t.like(said[0], { address, msg: "a resolver is down, it is asked after the others", reason: "no answer in time" });
  t.like(said[1], { address, msg: "a resolver answers again" });
});

test("who asks when a resolver is back gets its answer, not a stale one", async (t) => {
  const server = await upstream(t, answering("203.0.113.1", 10));
  const { clock, forwarder } = resolverTo([server.text]);
  await ask(forwarder, "kept.example.org");
  server.behaviour = silent;
  for (const name of ["one.example.org", "two.example.org"]) await ask(forwarder, name, { clock });
  server.behaviour = answering("203.0.113.2", 10);
  await clock.advance(10_000);
  t.is(addressOf(await ask(forwarder, "kept.example.org")), "203.0.113.2");
});

test("a resolver that was down is tried with one question, the others do not wait for it", async (t) => {
  const [bad, good] = await Promise.all([upstream(t, silent), upstream(t, answering("203.0.113.1", 0))]);
  const { clock, forwarder } = resolverTo([bad.text, good.text]);
  for (const name of ["one.example.org", "two.example.org"]) await ask(forwarder, name, { clock });
  bad.asked.length = 0;
  await clock.advance(5_000);
  const first = ask(forwarder, "n0.example.org", { clock });
  await Promise.all([1, 2, 3, 4].map((i) => ask(forwarder, `n${i}.example.org`)));
  t.true(bad.asked.length <= 1);
  await first;
  t.deepEqual(bad.asked, ["udp n0.example.org A"]);
});

for (const [title, behaviour] of Object.entries({
  fail: servfail,
  refuse: (() => ({ flags: 5 })) satisfies Behaviour,
})) {
  test(`names that others ${title} are not waited for twice from a resolver that is down`, async (t) => {
    const [down, other] = await Promise.all([upstream(t, silent), upstream(t, behaviour)]);
    const { clock, forwarder } = resolverTo([down.text, other.text]);
    for (const name of ["one.example.org", "two.example.org"]) await ask(forwarder, name, { clock });
    down.asked.length = 0;
    await clock.advance(5_000); // it is tried again
    const startMs = clock.monotonic();
    t.is((await ask(forwarder, "three.example.org", { clock })).rcode, "SERVFAIL");
    t.is(down.asked.length, 1);
    t.true(clock.monotonic() - startMs <= 1_200, `${clock.monotonic() - startMs} ms`);
  });
}

test("of two that are down, the one that refuses is asked before the one that is silent", async (t) => {
  const refusesSome = badNames(() => ({ flags: 5 }));
  const [mute, other] = await Promise.all([upstream(t, silent), upstream(t, refusesSome)]);
  const { clock, forwarder } = resolverTo([mute.text, other.text]);
  for (const name of ["bad1.example.org", "bad2.example.org"]) await ask(forwarder, name, { clock });
  mute.asked.length = 0;
  t.is(addressOf(await ask(forwarder, "good.example.org", { clock })), "203.0.113.1");
  t.deepEqual(mute.asked, []);
});

test("a resolver that cannot be reached is left at once, and asked once for a question", async (t) => {
  const [gone, good] = await Promise.all([FakeUpstream.start(silent), upstream(t, answering("203.0.113.1", 0))]);
  const address = gone.text;
  gone.stop();
  const { forwarder } = resolverTo([address, good.text]);
  t.is(addressOf(await ask(forwarder, "one.example.org")), "203.0.113.1");
  t.is(forwarder.stats().sentUpstream, 2);
  t.is((await ask(resolverTo([address]).forwarder, "example.org")).rcode, "SERVFAIL");
});

test("a datagram that is lost is sent again", async (t) => {
  let lost = 0;
  const server = await upstream(t, (query, transport) =>
    lost++ === 0 ? undefined : answering("203.0.113.1")(query, transport),
  );
  const { clock, forwarder } = resolverTo([server.text]);
  t.is(addressOf(await ask(forwarder, "example.org", { clock })), "203.0.113.1");
});

test("a resolver that is slow three times over has one resolver's time, and the client hears in time", async (t) => {
  const slow: Behaviour = async (query, transport) => {
    await delay(clock, 900);
    if (query.additionals?.length) return { flags: 1, questions: [] };
    return transport === "udp" ? { flags: TRUNCATED_RESPONSE } : undefined;
  };
  const askedAfterMs: number[] = [];
  const [first, second] = await Promise.all([
    upstream(t, slow),
    upstream(t, (query, transport) => {
      askedAfterMs.push(clock.monotonic() - startMs);
      return slow(query, transport);
    }),
  ]);
  const { clock, forwarder } = resolverTo([first.text, second.text]);
  const startMs = clock.monotonic();
  t.is((await ask(forwarder, "example.org", { clock })).rcode, "SERVFAIL");
  t.true(clock.monotonic() - startMs < 4_500, `${clock.monotonic() - startMs} ms`);
  t.true(askedAfterMs[0]! <= 2_000, `${askedAfterMs[0]} ms`);
});
