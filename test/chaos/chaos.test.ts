// Ten faults of managers and of etcd's members under writers and readers; `npm run chaos:managers` does it for long.
import test from "ava";
import { Chaos } from "./chaos.ts";
import { judge } from "./history.ts";
import { INJECTED } from "./injected.ts";

test("no acknowledged write is lost, none of two leaders interleave, and no read is stale, over ten faults", async (t) => {
  const seed = Date.now() & 0x7fffffff;
  t.log(`seed ${seed}`);
  const outcome = await Chaos.run({ faults: 10, seed, log: (line) => t.log(line) });
  const { violations, acknowledged, reads } = outcome;
  t.deepEqual(violations, []);
  t.true(acknowledged > 50, `${acknowledged} writes`);
  t.true(reads > 10, `${reads} reads`);
  // The same history, with one thing wrong.
  for (const { title, inject, says } of INJECTED) {
    const { operations, final } = inject(outcome);
    t.regex(judge(operations, final).join("\n"), says, title);
  }
});
