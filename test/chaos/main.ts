// `npm run chaos:managers`: managers and members of etcd are killed, frozen and stopped for long. `-- FAULTS SEED` says how many
// times, and how to go on with a run from one of its rounds.
import { Chaos, type Fault } from "./chaos.ts";

const ROUND = 10;

const [faults = "200", seed = `${Date.now() & 0x7fffffff}`] = process.argv.slice(2);
const recoveries = new Map<Fault, number[]>();
let acknowledged = 0;
let violated = 0;
for (let done = 0, round = 0; done < Number(faults); done += ROUND, round++) {
  const roundSeed = (Number(seed) + round) | 0;
  const count = Math.min(ROUND, Number(faults) - done);
  console.log(`${done} faults; the next ${count} from seed ${roundSeed}`);
  const outcome = await Chaos.run(count, roundSeed, console.log);
  acknowledged += outcome.acknowledged;
  violated += outcome.violations.length;
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
console.log(`${faults} faults, ${acknowledged} acknowledged writes, ${violated} violations`);
process.exitCode = violated === 0 ? 0 : 1;
