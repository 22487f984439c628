// Clients that wait for a revision to be in force on every live node.
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import type { Progress } from "./progress.ts";

const MAX_WAITERS = 10_000;

interface Waiter {
  revision: number;
  finish: (behind: string[]) => void;
}

export class AppliedBarrier {
  readonly #clock: Clock;
  readonly #progress: Progress;
  readonly #begun: (revision: number) => void;
  // BOUNDED: by MAX_WAITERS; keyed by nothing.
  readonly #waiters = new Set<Waiter>();
  /** What was on all nodes at the last check. */
  #checked = 0;

  /** `begun`: called when a client begins to wait for a revision that nodes lack. */
  constructor(clock: Clock, progress: Progress, begun: (revision: number) => void) {
    this.#clock = clock;
    this.#progress = progress;
    this.#begun = begun;
  }

  /** Resolves with the nodes that are behind: none once all have applied it, or those left when the time is over. */
  async wait(revision: number, timeoutMs: number): Promise<string[]> {
    const behind = this.#progress.behind(revision);
    if (behind.length === 0) return behind;
    if (this.#waiters.size >= MAX_WAITERS)
      throw new UserError(503, "too many clients wait for the nodes already; try again");
    this.#begun(revision);
    return new Promise((resolve) => {
      const timer = this.#clock.after(timeoutMs, () => waiter.finish(this.#progress.behind(revision)));
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

  /** To be called when a node has applied more, or counts as live no longer. Loops over the waiters when all nodes have more. */
  check(): void {
    const { onAllReady } = this.#progress;
    if (onAllReady === this.#checked) return;
    this.#checked = onAllReady;
    for (const { revision, finish } of this.#waiters) if (revision <= onAllReady) finish([]);
  }

  /** Answers all clients that wait as things stand. */
  close(): void {
    for (const { revision, finish } of this.#waiters) finish(this.#progress.behind(revision));
  }
}
