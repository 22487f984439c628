// Takes idle flows out of the table, a few at every call, so that no packet waits for a sweep of all of it.

import { FlowState } from "./flow-entries.ts";
import type { FlowReaper } from "./flow-reaper.ts";
import type { FlowTable } from "./flow-table.ts";

/** With a call every 100 ms a table of 262,144 flows is seen through in 13 s. */
const FLOWS_PER_SWEEP = 2048;

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
    const end = flows.highWater;
    for (let i = Math.min(FLOWS_PER_SWEEP, end); i > 0; i--) {
      if (this.#next >= end) this.#next = 0;
      const entry = 2 * this.#next++;
      const version = flows.versionOf(entry);
      if (flows.stateOf(entry) === FlowState.Free) continue;
      if (seconds - flows.lastSeenOf(entry) > flows.timeoutOf(entry)) this.#reaper.end(entry, version);
    }
  }
}
