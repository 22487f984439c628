// `npm run chaos:managers`: managers and members of etcd are killed, frozen and stopped for long. `-- FAULTS SEED` says how many
// times, and how to go on with a run from one of its rounds; a word after them, as `frozen`, takes only the faults that have it.
import { Chaos, FAULTS, type Fault } from "./chaos.ts";

const ROUND = 10;

const [faults = "200", seed = `${Date.now() & 0x7fffffff}`, word = ""] = process.argv.slice(2);
const kinds = FAULTS.filter((fault) => fault.includes(word));
if (kinds.length === 0) throw new Error(`no fault has '${word}': they are ${FAULTS.join(", ")}`);
const began = performance.now();
const recoveries = new Map<Fault, number[]>();
let acknowledged = 0;
let reads = 0;
let violated = 0;
for (let done = 0, round = 0; done < Number(faults); done += ROUND, round++) {
  const roundSeed = (Number(seed) + round) | 0;
  const count = Math.min(ROUND, Number(faults) - done);
  console.log(`${done} faults; the next ${count} from seed ${roundSeed}`);
  const outcome = await Chaos.run({ faults: count, seed: roundSeed, kinds, log: console.log });
  acknowledged += outcome.acknowledged;
  reads += outcome.reads;
  violated += outcome.violations.length;
  console.log(`${acknowledged} acknowledged writes, ${reads} reads, ${violated} violations until now`);
  for (const violation of outcome.violations) console.log(`VIOLATED: ${violation}`);
  for (const [fault, times] of outcome.recoveries) recoveries.set(fault, [...(recoveries.get(fault) ?? []), ...times]);
}
for (const [fault, times] of recoveries) {
  const sorted = times.toSorted((a, b) => a - b);
  const [median, most] = [sorted[sorted.length >> 1]!, sorted.at(-1)!];
  console.log(
    `${fault}: ${times.length} times, a write succeeded after ${Math.round(median)} ms (median), ${Math.round(most)} ms (most)`,
  );
}
const minutes = ((performance.now() - began) / 60_000).toFixed(1);
console.log(
  `${faults} faults, ${acknowledged} acknowledged writes, ${reads} reads, ${violated} violations in ${minutes} minutes`,
);
process.exitCode = violated === 0 ? 0 : 1;
