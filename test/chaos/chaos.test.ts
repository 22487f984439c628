// Ten faults of managers and of etcd's members under writers and readers; `npm run chaos:managers` does it for long.
import test from "ava";
import { Chaos } from "./chaos.ts";

test("no acknowledged write is lost, none of two leaders interleave, and no read is stale, over ten faults", async (t) => {
  const seed = Date.now() & 0x7fffffff;
  t.log(`seed ${seed}`);
  const { violations, acknowledged, reads } = await Chaos.run(10, seed, (line) => t.log(line));
  t.deepEqual(violations, []);
  t.true(acknowledged > 50, `${acknowledged} writes`);
  t.true(reads > 10, `${reads} reads`);
});
