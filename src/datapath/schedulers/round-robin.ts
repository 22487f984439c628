// Round robin: the tasks in turn.
import type { VipRow } from "../rows.ts";
import type { Candidates, Scheduler } from "./scheduler.ts";

interface Turn {
  next: number;
}

export class RoundRobin implements Scheduler {
  readonly #turns = new WeakMap<VipRow, Turn>(); // BOUNDED: by the rows in force

  choose(vip: VipRow, candidates: Candidates): number {
    let turn = this.#turns.get(vip);
    if (turn === undefined) {
      turn = { next: 0 };
      this.#turns.set(vip, turn);
    }
    const index = candidates.index[turn.next % candidates.count]!;
    turn.next = (turn.next + 1) & 0x3fffffff;
    return index;
  }
}
