// The walk through the flow table, a slice at each tick, round and round: it ends flows that were idle for too long or lost
// what they stand on, and counts the flows of each task. The workers share the table: the first one ends flows, and each counts
// for itself, because none sees the flows that another one makes or ends.
import type { Ipv4 } from "../lib/ip.ts";
import type { FlowCheck } from "./flow-check.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { Load } from "./schedulers/scheduler.ts";

/** Slices of a round that only looks for idle flows: with one every 100 ms, it takes 13 s. */
const IDLE_SLICES = 128;
/** A small table is seen through sooner. */
const LEAST_FLOWS = 64;
/** Flows a slice while some may have lost ground. They take about half a millisecond, in which no packet moves. */
const CHECK_FLOWS = 4096;
/** Flows a slice while they are counted: a table of up to this size is counted at once. */
const CENSUS_FLOWS = 8192;

export class FlowScan implements Load {
  readonly #flows: FlowTable;
  /** undefined: this worker ends no flows. */
  readonly #check: FlowCheck | undefined;
  #next = 0;
  /** The table's high-water mark at the last step. */
  #end = 0;
  /** Flows that are still to be looked at since flows lost ground. */
  #unchecked = 0;
  #isCounting = false;
  #counted = new Map<Ipv4, number>(); // BOUNDED: by the flows' servers; keyed by address
  #counting = new Map<Ipv4, number>(); // BOUNDED: as #counted

  constructor(flows: FlowTable, check: FlowCheck | undefined) {
    this.#flows = flows;
    this.#check = check;
  }

  /** Whether each tick should come soon: there are flows that may have lost ground. */
  get isUrgent(): boolean {
    return this.#unchecked > 0;
  }

  /** The flows of a task, as of the last whole round, and those that this worker has added since. */
  of(task: Ipv4): number {
    return this.#counted.get(task) ?? 0;
  }

  add(task: Ipv4): void {
    this.#counted.set(task, this.of(task) + 1);
  }

  /** Flows may have lost ground: a whole round begins here. */
  checkAll(): void {
    if (this.#check !== undefined) this.#unchecked = this.#end = this.#flows.highWater;
  }

  /** Walks through a slice. `seconds` is the time on the flows' clock; `needsLoad` says whether a scheduler asks for of(). */
  step(seconds: number, needsLoad: boolean): void {
    const end = this.#flows.highWater;
    if (this.#unchecked > 0) this.#unchecked += end - this.#end; // new flows are in the way of the round
    this.#end = end;
    if (needsLoad !== this.#isCounting) this.#startOrStopCounting(needsLoad);
    const slice = this.#sliceOf(end, needsLoad);
    for (let i = 0; i < slice; i++) {
      if (this.#next >= end) this.#endRound();
      this.#visit(2 * this.#next++, seconds, needsLoad);
    }
    this.#unchecked = Math.max(0, this.#unchecked - slice);
    if (needsLoad && this.#next >= end) this.#endRound();
  }

  #sliceOf(end: number, needsLoad: boolean): number {
    let slice = 0;
    if (this.#check !== undefined && this.#flows.size > 0) slice = Math.max(LEAST_FLOWS, Math.ceil(end / IDLE_SLICES));
    if (needsLoad) slice = Math.max(slice, CENSUS_FLOWS);
    if (this.#unchecked > 0) slice = Math.max(slice, CHECK_FLOWS);
    return Math.min(slice, end);
  }

  #visit(entry: number, seconds: number, needsLoad: boolean): void {
    const flows = this.#flows;
    const check = this.#check;
    const version = flows.versionOf(entry);
    const state = flows.stateOf(entry);
    if (state === FlowState.Free) return;
    if (check !== undefined) {
      const isIdle = seconds - flows.lastSeenOf(entry) > flows.timeoutOf(entry);
      if (isIdle || (this.#unchecked > 0 && !check.mayStay(entry, version))) {
        check.end(entry, version);
        return;
      }
    }
    if (!needsLoad || isClosing(state) || flows.vipOf(entry) === 0) return;
    const task = flows.sourceOf(entry + 1);
    this.#counting.set(task, (this.#counting.get(task) ?? 0) + 1);
  }

  #endRound(): void {
    this.#next = 0;
    if (!this.#isCounting) return;
    this.#counted = this.#counting;
    this.#counting = new Map();
  }

  /** A count begins with a round, so that it has each flow once. */
  #startOrStopCounting(needsLoad: boolean): void {
    this.#isCounting = needsLoad;
    this.#counting.clear();
    this.#counted.clear();
    if (!needsLoad) return;
    this.#next = 0;
    if (this.#unchecked > 0) this.checkAll();
  }
}
