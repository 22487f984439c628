// Smooth weighted round robin, as nginx has it: in every round of the weights' sum each task gets its weight, spread
// out rather than in a row.
import type { VipRow } from "../rows.ts";
import type { Candidates, Scheduler } from "./scheduler.ts";

export class WeightedRoundRobin implements Scheduler {
  /** The turns that each task is owed. BOUNDED: by the rows in force. */
  readonly #owed = new WeakMap<VipRow, Int32Array>();

  choose(vip: VipRow, candidates: Candidates): number {
    let owed = this.#owed.get(vip);
    if (owed === undefined) {
      owed = new Int32Array(vip.tasks.length);
      this.#owed.set(vip, owed);
    }
    const { weights } = vip.balancing;
    let best = candidates.index[0]!;
    let total = 0;
    for (let i = 0; i < candidates.count; i++) {
      const index = candidates.index[i]!;
      const weight = weights[index]!;
      owed[index]! += weight;
      total += weight;
      if (owed[index]! > owed[best]!) best = index;
    }
    owed[best]! -= total;
    return best;
  }
}
