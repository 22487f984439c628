// Takes idle flows out of the table, a few at every call, so that no packet waits for a sweep of all of it.
import { FlowState } from "./flow-entries.ts";
import type { FlowReaper } from "./flow-reaper.ts";
import type { FlowTable } from "./flow-table.ts";

/** So many calls see the table through: with one every 100 ms, in 13 s. */
const CALLS = 128;
/** A small table is seen through sooner. */
const LEAST_FLOWS = 64;

export class FlowSweeper {
  readonly #flows: FlowTable;
  readonly #reaper: FlowReaper;
  #next = 0;

  constructor(flows: FlowTable, reaper: FlowReaper) {
    this.#flows = flows;
    this.#reaper = reaper;
  }

  /** `seconds` is the time on the flows' clock. */
  sweep(seconds: number): void {
    const flows = this.#flows;
    if (flows.size === 0) return;
    const end = flows.highWater;
    for (let i = Math.min(end, Math.max(LEAST_FLOWS, Math.ceil(end / CALLS))); i > 0; i--) {
      if (this.#next >= end) this.#next = 0;
      const entry = 2 * this.#next++;
      const version = flows.versionOf(entry);
      if (flows.stateOf(entry) === FlowState.Free) continue;
      if (seconds - flows.lastSeenOf(entry) > flows.timeoutOf(entry)) this.#reaper.end(entry, version);
    }
  }
}
