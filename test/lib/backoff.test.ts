// Pauses that grow with each failure.
import test from "ava";
import { Backoff } from "../../src/lib/backoff.ts";

test("each failure doubles the pause up to the longest, and a success begins again", (t) => {
  const backoff = new Backoff(100, 1000);
  t.deepEqual(
    Array.from({ length: 6 }, () => backoff.failed()),
    [100, 200, 400, 800, 1000, 1000],
  );
  t.is(backoff.failures, 6);
  backoff.succeeded();
  t.is(backoff.failures, 0);
  t.is(backoff.failed(), 100);
});

test("after very many failures the pause is still the longest", (t) => {
  const backoff = new Backoff(100, 1000);
  for (let failure = 0; failure < 5000; failure++) backoff.failed();
  t.is(backoff.failed(), 1000);
});
