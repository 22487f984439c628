// Who waits for a revision to be in force on every live node, and who keeps them waiting.
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";

const MAX_WAITERS = 10_000;

interface Waiter {
  revision: number;
  finish: (behind: string[]) => void;
}

export class AppliedBarrier {
  readonly #clock: Clock;
  readonly #behind: (revision: number) => string[];
  // BOUNDED: by MAX_WAITERS; keyed by nothing.
  readonly #waiters = new Set<Waiter>();

  /** `behind` names the live nodes that have not applied a revision. */
  constructor(clock: Clock, behind: (revision: number) => string[]) {
    this.#clock = clock;
    this.#behind = behind;
  }

  /** Resolves with the nodes that are behind: none once all have applied it, or those left when the time is over. */
  async wait(revision: number, timeoutMs: number): Promise<string[]> {
    const behind = this.#behind(revision);
    if (behind.length === 0) return behind;
    if (this.#waiters.size >= MAX_WAITERS) throw new UserError(503, "too many wait for the nodes already; try again");
    return new Promise((resolve) => {
      const timer = this.#clock.after(timeoutMs, () => waiter.finish(this.#behind(revision)));
      const waiter: Waiter = {
        revision,
        finish: (nodes) => {
          timer.cancel();
          this.#waiters.delete(waiter);
          resolve(nodes);
        },
      };
      this.#waiters.add(waiter);
    });
  }

  /** To be called when a node has applied more, or counts as live no longer. */
  check(): void {
    for (const { revision, finish } of this.#waiters) if (this.#behind(revision).length === 0) finish([]);
  }

  /** Answers all who wait as things stand. */
  close(): void {
    for (const { revision, finish } of this.#waiters) finish(this.#behind(revision));
  }
}
