// The newest state that this node knows, changed in place, and those that hear of its changes: which revision is in force
// here, and who waits for one to arrive.
import type { Change } from "../cluster/schema.ts";
import { type AppliedChange, emptyState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";

export type ChangesListener = (changes: readonly AppliedChange[]) => void;

export class StateFeed {
  readonly #clock: Clock;
  readonly #live = emptyState();
  #hasState = false;
  #isHeard = false;
  /** The revision since which no row has changed. */
  #sameSince = 0;
  /** The highest revision that the agent has in force. */
  #inForce = 0;
  // BOUNDED: by the agent's parts that listen; keyed by nothing.
  readonly #listeners = new Set<ChangesListener>();
  // BOUNDED: by the commands that wait for their change to arrive.
  readonly #arrivals = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Always the same object, and empty until the first state. */
  get live(): State {
    return this.#live;
  }

  /** Whether there has been a state, from disk or from a leader. */
  get hasState(): boolean {
    return this.#hasState;
  }

  /** Whether a leader's snapshot has come. */
  get isHeard(): boolean {
    return this.#isHeard;
  }

  /** The highest revision in force: what is in force of a revision is so of those after it that changed no row. */
  get applied(): number {
    return this.#inForce >= this.#sameSince ? this.#live.revision : this.#inForce;
  }

  /** `revision` is in force. Ignored when it is of an epoch that is over. */
  setApplied(revision: number): void {
    if (revision <= this.#live.revision) this.#inForce = revision;
  }

  onChanges(listener: ChangesListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes the state that this node had on its disk. */
  takeStored(state: State): void {
    this.#replace(state, false, () => {});
  }

  /** Takes a leader's snapshot. `keep` gets the difference to the state before, and then the listeners do. */
  takeSnapshot(state: State, keep: ChangesListener): void {
    const isNews = !this.#isHeard || this.#live.cluster?.epoch !== state.cluster?.epoch;
    this.#isHeard = true;
    this.#replace(state, isNews, keep);
  }

  /** `keep` gets the changes first: a listener that throws ends the session, and what is kept must not have a gap then. */
  advance(changes: readonly Change[], revision: number, keep: ChangesListener): void {
    this.#notify(this.#live.apply(changes, revision), false, keep);
  }

  /** Resolves with true when `revision` is here, or with false after `timeoutMs`. */
  arrivalOf(revision: number, timeoutMs: number): Promise<boolean> {
    if (this.#live.revision >= revision) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = () => {
        timer.cancel();
        this.#arrivals.delete(check);
        resolve(this.#live.revision >= revision);
      };
      const check = () => {
        if (this.#live.revision >= revision) finish();
      };
      const timer = this.#clock.after(timeoutMs, finish);
      this.#arrivals.add(check);
    });
  }

  #replace(state: State, isNews: boolean, keep: ChangesListener): void {
    const changes = this.#live.replaceBy(state);
    this.#hasState = true;
    this.#notify(changes, isNews, keep);
  }

  /** `isNews`: listeners are called even if no row has changed. */
  #notify(changes: readonly AppliedChange[], isNews: boolean, keep: ChangesListener): void {
    keep(changes);
    if (isNews) this.#inForce = 0;
    if (changes.length > 0 || isNews) {
      this.#sameSince = this.#live.revision;
      for (const listener of this.#listeners) listener(changes);
    }
    for (const arrived of this.#arrivals) arrived();
  }
}
