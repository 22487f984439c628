// A clock that moves only when a test moves it.
import type { Clock, Timer } from "../../src/lib/clock.ts";

interface Pending {
  at: number;
  order: number;
  call: () => void;
}

export class VirtualClock implements Clock {
  #now: number;
  #stepMs = 0;
  #order = 0;
  // BOUNDED: by what the code under test has under way; keyed by nothing, scanned for the earliest.
  readonly #pending = new Set<Pending>();

  constructor(startMs = 1_700_000_000_000) {
    this.#now = startMs;
  }

  now(): number {
    return Math.floor(this.#now + this.#stepMs);
  }

  /** Sets the wall clock forward, or back, and leaves the monotonic one. */
  step(ms: number): void {
    this.#stepMs += ms;
  }

  monotonic(): number {
    return this.#now;
  }

  after(ms: number, call: () => void): Timer {
    const pending = { at: this.#now + Math.max(0, ms), order: this.#order++, call };
    this.#pending.add(pending);
    return { cancel: () => this.#pending.delete(pending) };
  }

  /** Moves time on by `ms`, calling what falls due in order, and lets promises settle between calls. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const next = this.#earliest(end);
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.at);
      this.#pending.delete(next);
      next.call();
      await settle();
    }
    this.#now = end;
  }

  #earliest(end: number): Pending | undefined {
    let first: Pending | undefined;
    for (const pending of this.#pending) {
      if (pending.at > end) continue;
      if (first === undefined || pending.at < first.at || (pending.at === first.at && pending.order < first.order)) {
        first = pending;
      }
    }
    return first;
  }
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
