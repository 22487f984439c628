// The last commits of a leader, for standbys that copy its state: a standby that is further behind gets the whole state.
import type { Change } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { delay } from "../lib/clock.ts";

export interface Commit {
  revision: number;
  changes: readonly Change[];
}

/** Rows of all commits that are kept. */
const MAX_ROWS = 50_000;

export class CommitLog {
  readonly #clock: Clock;
  // BOUNDED: by MAX_ROWS, and one commit more. The oldest first.
  #commits: Commit[] = [];
  #rows = 0;
  /** The revision before the first commit that is kept. */
  #since: number;
  #last: number;
  // BOUNDED: by the standbys that wait.
  readonly #waiting = new Set<() => void>();

  /** `revision`: that of the state with which the leader began. */
  constructor(clock: Clock, revision: number) {
    this.#clock = clock;
    this.#since = revision;
    this.#last = revision;
  }

  add(commit: Commit): void {
    this.#commits.push(commit);
    this.#rows += commit.changes.length;
    this.#last = commit.revision;
    if (this.#rows > MAX_ROWS) this.#drop();
    for (const wake of this.#waiting) wake();
  }

  /** The commits after `revision`; undefined: some of them are not kept any more, or `revision` is another leader's. */
  after(revision: number): Commit[] | undefined {
    if (revision < this.#since || revision > this.#last) return undefined;
    let first = this.#commits.length;
    while (first > 0 && this.#commits[first - 1]!.revision > revision) first--;
    return this.#commits.slice(first);
  }

  /** Resolves when there is a commit after `revision`, or the time is over. */
  async wait(revision: number, timeoutMs: number): Promise<void> {
    if (this.#last !== revision) return;
    const done = new AbortController();
    const wake = () => done.abort();
    this.#waiting.add(wake);
    try {
      await delay(this.#clock, timeoutMs, done.signal);
    } finally {
      this.#waiting.delete(wake);
    }
  }

  /** Half of them at once: an array is not shifted for each commit. */
  #drop(): void {
    while (this.#rows > MAX_ROWS / 2 && this.#commits.length > 1) {
      const dropped = this.#commits.splice(0, Math.ceil(this.#commits.length / 2));
      for (const { revision, changes } of dropped) {
        this.#rows -= changes.length;
        this.#since = revision;
      }
    }
  }
}
