// How resolvers are written, and when they are down.
import test from "ava";
import { parseUpstream, Upstream } from "../../src/dns/upstream.ts";
import { ConfigError } from "../../src/lib/errors.ts";
import { resolverTo } from "./ask-resolver.ts";

const resolvers: [string, string | undefined][] = [
  ["192.0.2.53", "192.0.2.53#53"],
  ["192.0.2.53:5353", "192.0.2.53#5353"],
  ["2001:db8::53", "2001:db8::53#53"],
  ["[2001:db8::53]:5353", "2001:db8::53#5353"],
  ["fe80::53%eth0", "fe80::53%eth0#53"],
  ["[fe80::53%eth0]:5353", "fe80::53%eth0#5353"],
  ["2001:db8::53:5353:x", undefined],
  ["[2001:db8::53]", undefined],
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
      const error = t.throws(() => resolverTo([], { "corp.example": [text] }), { instanceOf: ConfigError });
      t.is(error?.field, "dns.forward.corp.example");
    }
  });
}

test("each failure makes the pause longer, up to half a minute, and an answer ends it", (t) => {
  const upstream = new Upstream("192.0.2.53", 53);
  let nowMs = 0;
  t.false(upstream.failed(nowMs, nowMs));
  for (const [i, pauseMs] of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].entries()) {
    t.is(upstream.failed(nowMs, nowMs), i === 0, "goes down once");
    t.false(upstream.isHealthy(nowMs + pauseMs - 1));
    nowMs += pauseMs;
    t.true(upstream.isHealthy(nowMs));
  }
  t.true(upstream.answered(nowMs));
  t.false(upstream.failed(nowMs, nowMs));
  t.true(upstream.isHealthy(nowMs));
  t.false(upstream.answered(nowMs), "it was not down");
});

test("many questions that fail together count as two", (t) => {
  const upstream = new Upstream("192.0.2.53", 53);
  for (let i = 0; i < 100; i++) upstream.failed(0, 1_000);
  t.true(upstream.isHealthy(2_000));
});

test("a question that fails says nothing of a resolver that has answered since it was asked", (t) => {
  const upstream = new Upstream("192.0.2.53", 53);
  upstream.answered(500);
  for (let i = 0; i < 100; i++) upstream.failed(0, 1_000);
  t.true(upstream.isHealthy(1_000));
});
