// Limits a second, for all together and for each source.
import test from "ava";
import { RateLimit, SourceRateLimit } from "../../src/lib/rate-limit.ts";

test("as many as the limit pass in a second, and as many again in the next", (t) => {
  const limit = new RateLimit(3);
  const passed = (second: number): number => [1, 2, 3, 4, 5].filter(() => limit.take(second)).length;
  t.deepEqual([passed(0), passed(0), passed(1), passed(5)], [3, 0, 3, 3]);
});

test("an amount passes whole or not at all", (t) => {
  const limit = new RateLimit(10);
  t.deepEqual(
    [limit.take(7, 6), limit.take(7, 6), limit.take(7, 4), limit.take(7), limit.take(8, 11)],
    [true, false, true, false, false],
  );
});

test("each source has its own count, amounts and seconds", (t) => {
  const limit = new SourceRateLimit(3, 12345);
  const passed = (source: number, second: number): number =>
    [1, 2, 3, 4, 5].filter(() => limit.take(source, second)).length;
  t.deepEqual([passed(10, 0), passed(-20, 0), passed(10, 0), passed(10, 1), passed(0, 0)], [3, 3, 0, 3, 3]);
  t.false(limit.take(30, 1, 4));
  t.true(limit.take(30, 1, 3));
  t.false(limit.take(30, 1));
});

test("a thousand busy sources are all limited", (t) => {
  for (const seed of [1, -77, 0x7fffffff]) {
    const limit = new SourceRateLimit(2, seed);
    let passed = 0;
    for (let round = 0; round < 5; round++)
      for (let source = 0; source < 1000; source++) if (limit.take(0x0ac00000 + source, 9)) passed++;
    t.true(passed >= 2000 && passed < 2300, `seed ${seed}: ${passed} passed`); // a crowded set forgets a few
  }
});

test("the source that came least recently makes room", (t) => {
  const limit = new SourceRateLimit(1, 0);
  t.true(limit.take(1, 100));
  for (let source = 1000; source < 100_000; source++) limit.take(source, 99);
  t.false(limit.take(1, 100), "sources of an earlier second take no place of this one's");
});
