// How long a task that is to stop is waited for.
import test from "ava";
import { drainTask } from "../../src/agent/task-drain.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const rows: [title: string, graceMs: number, endsMs: number, expectedMs: number][] = [
  ["without connections it stops at once", 10_000, 0, 0],
  ["connections that end soon are waited for", 10_000, 1900, 2000],
  ["connections that do not end get their grace", 10_000, 60_000, 10_000],
  ["without grace nothing is waited for", 0, 60_000, 0],
];
for (const [title, graceMs, endsMs, expectedMs] of rows) {
  test(title, async (t) => {
    const clock = new VirtualClock();
    const began = clock.monotonic();
    const liveFlows = async () => (clock.monotonic() - began < endsMs ? 2 : 0);
    let took: number | undefined;
    void drainTask({ clock, liveFlows }, ["10.192.16.9"], graceMs).then(() => {
      took = clock.monotonic() - began;
    });
    for (let i = 0; i < 80 && took === undefined; i++) await clock.advance(250);
    t.true(took! >= expectedMs && took! <= expectedMs + 250, `${took}`);
  });
}
