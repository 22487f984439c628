// The cache by itself: failures beside answers, and its bound.
import test from "ava";
import { encode } from "dns-packet";
import { ResponseCache } from "../../src/dns/cache.ts";
import type { Response } from "../../src/dns/response.ts";

const KEY = "example.org 1";

function responseOf(ttlSeconds: number): Response {
  const message = encode({ type: "response", questions: [{ type: "A", name: "example.org" }] });
  return { message, rcode: 0, truncated: false, ttlOffsets: [], ttlSeconds };
}

test("a failure is kept for a second, and longer each time, up to five", (t) => {
  const cache = new ResponseCache();
  let nowMs = 0;
  for (const keptMs of [1_000, 2_000, 4_000, 5_000, 5_000]) {
    cache.putFailure(KEY, nowMs);
    t.true(cache.hasFailed(KEY, nowMs + keptMs - 1));
    nowMs += keptMs;
    t.false(cache.hasFailed(KEY, nowMs));
  }
  cache.put(KEY, responseOf(60), nowMs);
  t.false(cache.hasFailed(KEY, nowMs));
  cache.putFailure(KEY, nowMs);
  t.false(cache.hasFailed(KEY, nowMs + 1_000), "as the first");
});

test("a failure hides no answer, neither fresh nor stale", (t) => {
  const cache = new ResponseCache();
  cache.put(KEY, responseOf(60), 0);
  cache.putFailure(KEY, 0);
  t.truthy(cache.fresh(KEY, 59_999));
  for (let nowMs = 60_000; nowMs < 86_400_000; nowMs += 3_600_000) {
    cache.putFailure(KEY, nowMs);
    t.is(cache.fresh(KEY, nowMs), undefined);
    t.truthy(cache.stale(KEY, nowMs));
  }
  t.is(cache.stale(KEY, 86_460_000), undefined);
});

test("answers and failures share one bound, and the least used goes first", (t) => {
  const cache = new ResponseCache();
  cache.put("used", responseOf(60), 0);
  cache.put("unused", responseOf(60), 0);
  for (let i = 0; i < 9_999; i++) {
    cache.putFailure(`failed ${i}`, 0);
    t.truthy(cache.fresh("used", 0));
  }
  t.is(cache.fresh("unused", 0), undefined);
  t.true(cache.hasFailed("failed 0", 0));
  cache.putFailure("one more", 0);
  t.false(cache.hasFailed("failed 0", 0));
});

test("large answers leave room for fewer", (t) => {
  const cache = new ResponseCache();
  const large = { ...responseOf(60), message: Buffer.alloc(65_535) };
  for (let i = 0; i < 300; i++) cache.put(`large ${i}`, large, 0);
  const kept = Array.from({ length: 300 }, (_, i) => cache.fresh(`large ${i}`, 0)).filter(
    (found) => found !== undefined,
  );
  t.is(kept.length, Math.floor((16 * 1024 * 1024) / (65_535 + 512)));
});
