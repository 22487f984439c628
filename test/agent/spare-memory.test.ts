// What a burst of changes took is given back once it is quiet.
import test from "ava";
import { SpareMemory } from "../../src/agent/spare-memory.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { waitFor } from "../system/command.ts";

const MEBIBYTE = 1 << 20;

function litter(): number {
  const garbage = Array.from({ length: 400_000 }, (_, i) => ({ i, text: `${i}` }));
  return garbage.length;
}

test("garbage is given back when nothing has changed for a while, and not before", async (t) => {
  const clock = new VirtualClock();
  const spare = new SpareMemory(clock);
  litter();
  const taken = process.memoryUsage().heapTotal;
  for (let i = 0; i < 5; i++) {
    spare.changed();
    await clock.advance(2000);
  }
  t.true(process.memoryUsage().heapTotal > taken - 16 * MEBIBYTE, "it changes all the time");
  await clock.advance(2000);
  await waitFor(() => process.memoryUsage().heapTotal < taken - 16 * MEBIBYTE, { what: "the heap to shrink" });
  spare.stop();
});
