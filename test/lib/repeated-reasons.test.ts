// Reasons that come again and again are news once.
import test from "ava";
import { RepeatedReasons } from "../../src/lib/repeated-reasons.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

test("a reason is news when it is another one, or has stayed away for a minute", async (t) => {
  const clock = new VirtualClock();
  const reasons = new RepeatedReasons(clock);
  const heard = [reasons.isNews("a"), reasons.isNews("b"), reasons.isNews("b")];
  for (let i = 0; i < 100; i++) {
    await clock.advance(6000);
    heard.push(reasons.isNews("b"));
  }
  t.deepEqual(
    heard.filter((isNews) => isNews),
    [true, true],
  );
  await clock.advance(60_000);
  t.deepEqual([reasons.isNews("b"), reasons.isNews("b"), reasons.isNews("a")], [true, false, true]);
});
