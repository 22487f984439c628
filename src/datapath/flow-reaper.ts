// Ends flows before their time: takes them out of the table and, of TCP, tells the ends.
import { Protocol } from "../packet/ipv4.ts";
import type { FlowCheck } from "./flow-check.ts";
import { FlowState } from "./flow-entries.ts";
import type { FlowTable } from "./flow-table.ts";
import type { Resets } from "./resets.ts";

/** So many flows take about half a millisecond, for which no packet moves. */
const FLOWS_PER_STEP = 4096;

export class FlowReaper {
  readonly #flows: FlowTable;
  readonly #check: FlowCheck;
  readonly #resets: Resets;
  #next = 0;
  #end = 0;

  constructor(flows: FlowTable, check: FlowCheck, resets: Resets) {
    this.#flows = flows;
    this.#check = check;
    this.#resets = resets;
  }

  /** The flow cannot go on: an end is gone, or it was idle for too long. `version` is that of the flow. */
  end(entry: number, version: number): void {
    if (this.#flows.protocolOf(entry) === Protocol.Tcp && this.#flows.isCurrent(entry, version)) {
      this.#resets.flow(entry);
    }
    this.#flows.remove(entry, version);
  }

  /** The tables changed: look at every flow anew. */
  lookAgain(): void {
    this.#next = 0;
    this.#end = this.#flows.highWater;
  }

  /** Looks at some of the flows that are to be looked at; whether there are more. */
  step(): boolean {
    const flows = this.#flows;
    const end = Math.min(this.#end, this.#next + FLOWS_PER_STEP);
    for (; this.#next < end; this.#next++) {
      const entry = 2 * this.#next;
      const version = flows.versionOf(entry);
      if (flows.stateOf(entry) === FlowState.Free || !this.#check.isDue(entry)) continue;
      if (!this.#check.isBorneOut(entry)) this.end(entry, version);
    }
    return this.#next < this.#end;
  }
}
