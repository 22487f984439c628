// When a worker looks again and when it blocks, in a time that only waiting moves.
import test from "ava";
import { Side } from "../../src/datapath/engine.ts";
import { runLoop } from "../../src/datapath/loop.ts";

const LOOK_MS = 0.005;
const TICK_MS = 100;
const MOST_RUNNABLE = 3;

/** How often the worker looked and how often it blocked, after packets at these times; it ends with the last tick. */
function waits(
  spinMs: number,
  arrivals: readonly number[],
  { lookMs = LOOK_MS, endMs = 150, runnable = (): number => 1 } = {},
): { looked: number; blocked: number } {
  const left = [...arrivals];
  const waited = { looked: 0, blocked: 0 };
  let now = 1000; // a machine that has been up for a while
  const start = now;
  runLoop({
    engine: { step: () => 0, tick: () => TICK_MS },
    look: () => 0,
    now: () => now,
    commands: () => now - start < endMs,
    spinMs,
    runnable,
    mostRunnable: MOST_RUNNABLE,
    wait: (timeoutMs) => {
      const next = (left[0] ?? Number.POSITIVE_INFINITY) + start;
      if (timeoutMs === 0) {
        waited.looked++;
        now += lookMs;
      } else {
        waited.blocked++;
        now = Math.max(now, Math.min(next, now + timeoutMs));
      }
      if (now < next) return 0;
      left.shift();
      return Side.Device;
    },
  });
  return waited;
}

const ROWS: [name: string, spinMs: number, arrivals: number[], looks: "none" | "one spin" | "two spins"][] = [
  ["an idle worker blocks", 0.1, [], "none"],
  ["packets far apart are waited for blocked", 0.1, [10, 20, 30], "none"],
  ["after packets close together it looks again for a while, and then blocks", 0.1, [10, 10.5], "one spin"],
  ["a packet that comes while it looks makes it look for longer", 0.1, [10, 10.5, 10.595], "two spins"],
  ["a worker that is told not to never looks again", 0, [10, 10.01, 10.02], "none"],
];

for (const [name, spinMs, arrivals, looks] of ROWS) {
  test(name, (t) => {
    const { looked, blocked } = waits(spinMs, arrivals);
    const [least, most] = { none: [0, 0], "one spin": [19, 21], "two spins": [38, 42] }[looks] as [number, number];
    t.true(looked >= least && looked <= most, `${looked} looks`);
    t.true(blocked > 0);
  });
}

test("what others run for while it looks is not counted: it looks as often as when none run", (t) => {
  const { looked } = waits(0.1, [10, 10.5], { lookMs: 1 });
  t.true(looked >= 19 && looked <= 21, `${looked} looks`);
});

/** A packet every 0.3 ms, from 1 ms on. */
const STREAM = Array.from({ length: 100 }, (_, i) => 1 + 0.3 * i);

test("while more threads than that are runnable it does not look again, and it is asked seldom", (t) => {
  let asked = 0;
  const few = waits(0.1, STREAM, {
    runnable: () => {
      asked++;
      return MOST_RUNNABLE;
    },
  });
  t.true(few.looked > 1000, `${few.looked} looks`);
  t.true(asked >= 15 && asked <= 31, `asked ${asked} times in 30 ms`);
  const many = waits(0.1, STREAM, { runnable: () => 2 * MOST_RUNNABLE });
  t.true(many.looked < few.looked / 2, `${many.looked} looks`);
  t.true(many.blocked > few.blocked / 2);
});

test("a moment with many runnable threads does not keep it from looking", (t) => {
  let asked = 0;
  const { looked } = waits(0.1, STREAM, { runnable: () => (asked++ % 8 === 0 ? 2 * MOST_RUNNABLE : 1) });
  t.is(looked, waits(0.1, STREAM).looked);
});

test("it looks again when the threads are fewer", (t) => {
  let asked = 0;
  const busyFirst = waits(0.1, STREAM, { runnable: () => (asked++ < 8 ? 2 * MOST_RUNNABLE : 1) });
  const never = waits(0.1, STREAM, { runnable: () => 2 * MOST_RUNNABLE });
  t.true(busyFirst.looked > never.looked, `${busyFirst.looked} looks, and ${never.looked}`);
});

test("a side that always has more keeps no other from its turn", (t) => {
  const stepped: number[] = [];
  const others = [Side.Device, Side.Device | Side.Underlay, Side.Device];
  runLoop({
    engine: {
      step: (sides) => {
        stepped.push(sides);
        return Side.Device;
      },
      tick: () => TICK_MS,
    },
    now: () => 1000,
    commands: () => stepped.length < 4,
    spinMs: 0,
    runnable: () => 1,
    mostRunnable: MOST_RUNNABLE,
    wait: () => 0,
    look: () => others[stepped.length - 1]!,
  });
  t.deepEqual(stepped, [Side.All, Side.Device, Side.Device | Side.Underlay, Side.Device]);
});
