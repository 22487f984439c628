// The control page as the agent has it: the switch and the lease of the lane, and why packets were passed on.
import { Control, counterAt, LAYOUT, type Origin, PassedOn } from "./layout.ts";

export class ControlPage {
  readonly #words: Uint32Array;
  readonly #wide: BigUint64Array;

  /** `page` is the mapped value of the map `control`. */
  constructor(page: ArrayBufferLike) {
    this.#words = new Uint32Array(page);
    this.#wide = new BigUint64Array(page);
  }

  /** Says that these maps have this agent's layout. */
  claim(): void {
    this.#words[Control.Layout >> 2] = LAYOUT;
  }

  /** Whether the maps have the layout of this agent. */
  get isOurs(): boolean {
    return this.#words[Control.Layout >> 2] === LAYOUT;
  }

  get isOn(): boolean {
    return this.#words[Control.IsOn >> 2] !== 0;
  }
  /** Turns the lane on or off: from now on, for both programs. */
  turn(isOn: boolean): void {
    this.#words[Control.IsOn >> 2] = isOn ? 1 : 0;
  }

  get goesByLink(): boolean {
    return this.#words[Control.ByLink >> 2] !== 0;
  }
  /** Whether segments from peers go by the containers' links, as Control.ByLink: from now on, those of flows that are in the lane too. */
  goByLink(byLink: boolean): void {
    this.#words[Control.ByLink >> 2] = byLink ? 1 : 0;
  }

  /** Lets the lane carry packets until then, in nanoseconds of CLOCK_MONOTONIC. */
  lease(until: bigint): void {
    this.#wide[Control.LeaseUntil >> 3] = until;
  }

  /** Whether the lane carries nothing because no agent has renewed its lease; `now` as in lease(). */
  isLeaseOver(now: bigint): boolean {
    return this.#wide[Control.LeaseUntil >> 3]! < now;
  }

  /** Leads what comes for published ports to the link with this index, the TUN; 0: nowhere. */
  leadTo(index: number): void {
    this.#words[Control.Device >> 2] = index;
  }

  /** How many packets the program passed on for this reason. */
  passedOn(origin: Origin, reason: PassedOn): number {
    return Number(this.#wide[counterAt(origin, reason) >> 3]);
  }

  /** All of these counters of a program that are not 0. */
  allPassedOn(origin: Origin): Map<PassedOn, number> {
    const reasons = Object.keys(PassedOn) as PassedOn[];
    const counts = reasons.map((reason) => [reason, this.passedOn(origin, reason)] as const);
    return new Map(counts.filter(([, count]) => count > 0));
  }
}
