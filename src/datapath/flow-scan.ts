// The walk through the flow table, a slice at each tick, round and round: it ends flows that were idle for too long or lost
// what they stand on, and counts the flows of each task. The workers share the table: the first one ends flows, and each counts
// for itself, because none sees the flows that another one makes or ends.
import type { Ipv4 } from "../lib/ip.ts";
import type { FlowCheck } from "./flow-check.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { Load } from "./schedulers/scheduler.ts";

/** A round that only looks for idle flows takes this time. */
const IDLE_ROUND_MS = 13_000;
/** The longest pause between two slices. */
const PAUSE_MS = 100;
/** While there is more to do: packets go between two slices. */
const BUSY_PAUSE_MS = 1;

// The work of a slice, in flows that are looked at: no packet moves meanwhile, and a queue of the device holds packets of 2 ms.
const IDLE_WORK = 256;
const CHECK_WORK = 2048;
/** A table of up to this size is counted at once. */
const CENSUS_WORK = 8192;
/** To end a flow takes as long as to look at this many. */
const WORK_OF_END = 8;

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

  /** Whether a round is under way because flows lost ground. */
  get isChecking(): boolean {
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

  /**
   * Walks through a slice. `seconds` is the time on the flows' clock; `needsLoad` says whether a scheduler asks for of(). Returns the
   * milliseconds until it wants to be called again.
   */
  step(seconds: number, needsLoad: boolean): number {
    const end = this.#flows.highWater;
    if (this.#unchecked > 0) this.#unchecked += end - this.#end; // new flows are in the way of the round
    this.#end = end;
    if (needsLoad !== this.#isCounting) this.#startOrStopCounting(needsLoad);
    let work = this.#workOf(needsLoad);
    let visited = 0;
    for (; visited < end && work > 0; visited++, work--) {
      if (this.#next >= end) this.#endRound();
      if (this.#visit(2 * this.#next++, seconds, needsLoad)) work -= WORK_OF_END;
    }
    this.#unchecked = Math.max(0, this.#unchecked - visited);
    if (needsLoad && this.#next >= end) this.#endRound();
    if (this.#unchecked > 0 || work < 0) return BUSY_PAUSE_MS;
    return Math.min(PAUSE_MS, Math.ceil((IDLE_ROUND_MS * IDLE_WORK) / Math.max(1, end)));
  }

  #workOf(needsLoad: boolean): number {
    if (needsLoad) return CENSUS_WORK;
    if (this.#unchecked > 0) return CHECK_WORK;
    return this.#check === undefined || this.#flows.size === 0 ? 0 : IDLE_WORK;
  }

  /** Returns whether the flow was ended. */
  #visit(entry: number, seconds: number, needsLoad: boolean): boolean {
    const flows = this.#flows;
    const check = this.#check;
    const version = flows.versionOf(entry);
    const state = flows.stateOf(entry);
    if (state === FlowState.Free) return false;
    if (check !== undefined) {
      if (check.isIdle(entry, version, seconds) || (this.#unchecked > 0 && !check.mayStay(entry, version))) {
        check.end(entry, version);
        return true;
      }
    }
    if (!needsLoad || isClosing(state) || flows.vipOf(entry) === 0) return false;
    const task = flows.sourceOf(entry + 1);
    this.#counting.set(task, (this.#counting.get(task) ?? 0) + 1);
    return false;
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
