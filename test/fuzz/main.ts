// `npm run fuzz`: the data path under fuzz for long. `-- PACKETS SEED` says how long, and how to have a run again.
import { fuzzDataPath } from "./data-path.ts";

const ROUND = 100_000;

const [packets = "5000000", seed = `${Date.now() & 0x7fffffff}`] = process.argv.slice(2);
const began = performance.now();
const totals = new Map<string, number>();
for (let done = 0, round = 0; done < Number(packets); done += ROUND, round++) {
  const roundSeed = (Number(seed) + round) | 0;
  console.log(`${done} packets; the next ${ROUND} from seed ${roundSeed}`);
  const outcome = fuzzDataPath({ packets: Math.min(ROUND, Number(packets) - done), seed: roundSeed });
  for (const [what, count] of Object.entries(outcome)) totals.set(what, (totals.get(what) ?? 0) + count);
}
console.log(Object.fromEntries([...totals].sort(([, a], [, b]) => b - a)));
console.log(`${packets} packets in ${Math.round((performance.now() - began) / 1000)} s: nothing broke`);
