// Work that is done one piece at a time.
import test from "ava";
import { delay } from "../../src/lib/clock.ts";
import { Turns } from "../../src/lib/turns.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

test("each piece begins when the one before has ended, in the order in which they came", async (t) => {
  const clock = new VirtualClock(0);
  const turns = new Turns();
  const steps: string[] = [];
  const work = (name: string, ms: number) => async (): Promise<string> => {
    steps.push(`${name} begins`);
    await delay(clock, ms);
    steps.push(`${name} ends`);
    return name;
  };
  const results = Promise.all([turns.run(work("a", 30)), turns.run(work("b", 10)), turns.run(() => "c")]);
  t.is(turns.waiting, 3);
  await clock.advance(40);
  t.deepEqual(await results, ["a", "b", "c"]);
  t.deepEqual(steps, ["a begins", "a ends", "b begins", "b ends"]);
  t.is(turns.waiting, 0);
});

test("a failure reaches its caller, and the next piece is done", async (t) => {
  const turns = new Turns();
  const failed = turns.run(() => {
    throw new Error("a full disk");
  });
  const next = turns.run(() => "done");
  await t.throwsAsync(failed, { message: "a full disk" });
  t.is(await next, "done");
});

test("it is settled when all that was given until now is done, also when that failed", async (t) => {
  const clock = new VirtualClock(0);
  const turns = new Turns();
  await turns.settled();
  const failed = turns.run(async () => {
    await delay(clock, 10);
    throw new Error("no");
  });
  let isSettled = false;
  const settled = turns.settled().then(() => {
    isSettled = true;
  });
  void turns.run(() => delay(clock, 1000));
  await clock.advance(5);
  t.false(isSettled);
  await clock.advance(5);
  await t.throwsAsync(failed);
  await settled;
  t.is(turns.waiting, 1);
});
