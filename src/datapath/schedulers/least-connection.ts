// Least connections: the task with the fewest flows for its weight; among equals, the one whose turn it is.
import type { VipRow } from "../rows.ts";
import { RoundRobin } from "./round-robin.ts";
import type { Candidates, Load, Scheduler } from "./scheduler.ts";

export class LeastConnection implements Scheduler {
  readonly #load: Load;
  readonly #turns = new RoundRobin();

  constructor(load: Load) {
    this.#load = load;
  }

  choose(vip: VipRow, candidates: Candidates): number {
    const { tasks, balancing } = vip;
    let best = this.#turns.choose(vip, candidates);
    let bestLoad = this.#load.of(tasks[best]!);
    for (let i = 0; i < candidates.count; i++) {
      const index = candidates.index[i]!;
      const load = this.#load.of(tasks[index]!);
      // With the new flow; loads over weights, compared without a division.
      if ((load + 1) * balancing.weights[best]! < (bestLoad + 1) * balancing.weights[index]!) {
        best = index;
        bestLoad = load;
      }
    }
    this.#load.add(tasks[best]!);
    return best;
  }
}
