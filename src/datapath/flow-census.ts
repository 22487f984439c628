// How many flows go to each task, counted in the flow table itself a slice at a time: the workers share it, and none
// sees the flows that another one makes or ends. Between two counts a worker adds what it makes.
import type { Ipv4 } from "../lib/ip.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { Load } from "./schedulers/scheduler.ts";

/** A table of up to so many flows is counted at once. */
const FLOWS_PER_STEP = 8192;

export class FlowCensus implements Load {
  readonly #flows: FlowTable;
  #counted = new Map<Ipv4, number>(); // BOUNDED: by the flows' servers; keyed by address
  #counting = new Map<Ipv4, number>(); // BOUNDED: likewise
  #next = 0;

  constructor(flows: FlowTable) {
    this.#flows = flows;
  }

  of(task: Ipv4): number {
    return this.#counted.get(task) ?? 0;
  }

  add(task: Ipv4): void {
    this.#counted.set(task, this.of(task) + 1);
  }

  /** Counts a slice. */
  step(): void {
    const flows = this.#flows;
    const end = Math.min(flows.highWater, this.#next + FLOWS_PER_STEP);
    for (; this.#next < end; this.#next++) {
      const entry = 2 * this.#next;
      const state = flows.stateOf(entry);
      if (state === FlowState.Free || isClosing(state) || flows.vipOf(entry) === 0) continue;
      const task = flows.sourceOf(entry + 1);
      this.#counting.set(task, (this.#counting.get(task) ?? 0) + 1);
    }
    if (this.#next < flows.highWater) return;
    this.#counted = this.#counting;
    this.#counting = new Map();
    this.#next = 0;
  }
}
