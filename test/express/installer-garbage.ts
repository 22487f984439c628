// Enters, reads and takes out entries, and prints how much heap each costs. Run with --expose-gc and a young generation so large that
// it is not collected meanwhile.
import { LaneFlows } from "./lane-flows.ts";
import { LaneRig } from "./lane-rig.ts";

const ROUNDS = 20_000;
const rig = new LaneRig();
const flows = new LaneFlows(rig);
const entry = flows.add();

function use(rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    flows.enter(entry);
    flows.enter(entry + 1);
    flows.installer.flush();
    flows.read(entry);
    flows.take(entry);
    flows.take(entry + 1);
  }
}

if (gc === undefined) throw new Error("run with --expose-gc");
use(ROUNDS); // until everything is compiled
gc();
const before = process.memoryUsage().heapUsed;
use(ROUNDS);
console.log((process.memoryUsage().heapUsed - before) / ROUNDS / 2);
flows.installer.close();
rig.close();
