// Work from the newest state, when it is asked for faster than it gets done.
import test from "ava";
import { delay } from "../../src/lib/clock.ts";
import { ReconcileLoop } from "../../src/lib/reconcile-loop.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

function setUp(tookMs: number, fails: (run: number) => boolean = () => false) {
  const clock = new VirtualClock(0);
  const runs: number[] = [];
  const failures: unknown[] = [];
  const work = async (): Promise<void> => {
    runs.push(clock.now());
    await delay(clock, tookMs);
    if (fails(runs.length)) throw new Error("not now");
  };
  return { clock, runs, failures, latest: new ReconcileLoop(clock, work, (error) => failures.push(error)) };
}

/** Resolves when the run that is asked for is done. */
function asked(latest: ReconcileLoop): Promise<void> {
  latest.ask();
  return latest.settled();
}

test("what is asked for while it works is one more run, at once", async (t) => {
  const { clock, runs, latest } = setUp(30);
  const first = asked(latest);
  await clock.advance(10);
  const others = Promise.all([asked(latest), asked(latest), asked(latest)]);
  await clock.advance(20);
  await first;
  await clock.advance(30);
  await others;
  t.deepEqual(runs, [0, 30]);
});

/** Asks all the time, for so long. */
async function burst({ clock, latest }: ReturnType<typeof setUp>, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 10) {
    latest.ask();
    await clock.advance(10);
  }
}

test("in a burst it rests after each run for as long as that took", async (t) => {
  const work = setUp(30);
  await burst(work, 250);
  t.deepEqual(work.runs, [0, 30, 60, 120, 180, 240]);
});

test("in a burst of short runs it rests for some milliseconds", async (t) => {
  const work = setUp(0);
  for (let passed = 0; passed < 100; passed++) {
    work.latest.ask();
    work.latest.ask();
    await work.clock.advance(1);
  }
  t.true(work.runs.length < 40, `${work.runs.length} runs in 100 ms`);
  await work.clock.advance(10);
  await work.latest.settled();
  t.pass("the last one is done too");
});

test("a long run is not followed by a long rest", async (t) => {
  const work = setUp(5000);
  await burst(work, 15_500);
  t.deepEqual(work.runs, [0, 5000, 10_000, 15_200]);
});

test("after quiet there is no rest", async (t) => {
  const work = setUp(30);
  await burst(work, 100);
  await work.clock.advance(100);
  const before = work.runs.length;
  work.latest.ask();
  await work.clock.advance(1);
  t.is(work.runs.length, before + 1);
});

test("a run that fails is told, and tried again", async (t) => {
  const { clock, runs, failures, latest } = setUp(0, (run) => run === 1);
  const done = asked(latest);
  await clock.advance(1000);
  await done;
  t.deepEqual(runs, [0, 1000]);
  t.is(failures.length, 1);
});

test("stopped, it does nothing more, and lets go who waits", async (t) => {
  const { clock, runs, latest } = setUp(30);
  latest.ask();
  const waiting = asked(latest);
  const stopped = latest.stop();
  await clock.advance(100);
  await Promise.all([waiting, stopped]);
  t.deepEqual(runs, [0]);
});

test("nothing is left of those that ask and do not wait, however long the work fails", async (t) => {
  const { clock, failures, latest } = setUp(0, () => true);
  for (let i = 0; i < 100; i++) {
    t.is(latest.ask(), undefined);
    await clock.advance(100);
  }
  t.true(failures.length >= 9);
  t.is(latest.waiting, 0);
  void latest.settled();
  await clock.advance(0);
  t.is(latest.waiting, 1);
});

test("a refresh keeps no caller that waits, and what is asked for meanwhile comes after it", async (t) => {
  const { clock, runs, latest } = setUp(500, (run) => run === 1);
  latest.refresh();
  await latest.settled();
  t.deepEqual(runs, [0]);
  await clock.advance(500 + 1000); // it fails, and is tried again
  t.deepEqual(runs, [0, 1500]);
  let isDone = false;
  const done = asked(latest).then(() => {
    isDone = true;
  });
  await clock.advance(500);
  t.false(isDone);
  await clock.advance(500);
  await done;
  t.deepEqual(runs, [0, 1500, 2000]);
});
