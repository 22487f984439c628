// `npm run fuzz`: the data path under fuzz for long, then the express lane's programs. `-- PACKETS SEED` says how long, and how to have a
// run again; the lane gets a tenth as many.
import { whatBpfLacks } from "../../src/linux/bpf-probe.ts";
import { fuzzDataPath } from "./data-path.ts";
import { fuzzEntrances } from "./entrances.ts";
import { fuzzLane } from "./express-lane.ts";
import { fuzzBesideAgent } from "./lane-and-agent.ts";

const ROUND = 100_000;
const LANE_SHARE = 10;

const [packets = "5000000", seed = `${Date.now() & 0x7fffffff}`] = process.argv.slice(2);

type Round = (packets: number, seed: number) => Record<string, number> | Promise<Record<string, number>>;

async function fuzz(what: string, packets: number, round: Round): Promise<void> {
  const began = performance.now();
  const totals = new Map<string, number>();
  for (let done = 0, number = 0; done < packets; done += ROUND, number++) {
    const roundSeed = (Number(seed) + number) | 0;
    const next = Math.min(ROUND, packets - done);
    console.log(`${what}: ${done} packets; the next ${next} from seed ${roundSeed}`);
    for (const [outcome, count] of Object.entries(await round(next, roundSeed))) {
      totals.set(outcome, (totals.get(outcome) ?? 0) + count);
    }
  }
  console.log(Object.fromEntries([...totals].sort(([, a], [, b]) => b - a)));
  console.log(`${what}: ${packets} packets in ${Math.round((performance.now() - began) / 1000)} s: nothing broke`);
}

await fuzz("data path", Number(packets), (packets, seed) => fuzzDataPath({ packets, seed }));
const lack = whatBpfLacks();
const lanePackets = Math.ceil(Number(packets) / LANE_SHARE);
if (lack !== undefined) console.log(`express lane: skipped: ${lack}`);
else {
  await fuzz("express lane", lanePackets, fuzzLane);
  await fuzz("express lane, published ports", lanePackets, fuzzEntrances);
  await fuzz("express lane beside the agent", lanePackets, fuzzBesideAgent);
}
