// Which nodes have been silent for too long. Silence counts from when the leader began to listen, so that after a start,
// or after the leader itself was stopped for a while, no node is judged for one period. The leader judges
// an expected node that has not come one period after it last heard a new one: thousands that come at once wait in line.
import type { Clock } from "../lib/clock.ts";

export interface Verdict {
  lost: string[];
  /** Most nodes are silent at once: then it is the leader that is cut off, and no node is judged. */
  suspended: boolean;
}

export class Liveness {
  readonly #clock: Clock;
  readonly #periodMs: () => number;
  // BOUNDED: by the nodes that have a row (`forget`); keyed by node id.
  readonly #heardAt = new Map<string, number>();
  #listeningSince: number;
  #judgedAt: number;
  // BOUNDED: by the nodes that were ready when the leader began. Those that it has not heard yet.
  readonly #expected: Set<string>;
  /** When one of them was heard. */
  #arrivedAt: number;

  /** `expected`: the nodes that are to come to a leader that begins. */
  constructor(clock: Clock, periodMs: () => number, expected: Iterable<string> = []) {
    this.#expected = new Set(expected);
    this.#clock = clock;
    this.#periodMs = periodMs;
    this.#listeningSince = clock.monotonic();
    this.#judgedAt = this.#listeningSince;
    this.#arrivedAt = this.#listeningSince;
  }

  heard(nodeId: string): void {
    const now = this.#clock.monotonic();
    if (this.#expected.delete(nodeId)) this.#arrivedAt = now;
    this.#heardAt.set(nodeId, now);
  }

  forget(nodeId: string): void {
    this.#heardAt.delete(nodeId);
    this.#expected.delete(nodeId);
  }

  silent(nodeId: string): boolean {
    const heardAt = this.#expected.has(nodeId) ? this.#arrivedAt : (this.#heardAt.get(nodeId) ?? 0);
    const since = Math.max(heardAt, this.#listeningSince);
    return this.#clock.monotonic() - since > this.#periodMs();
  }

  /** To be called several times a period, with the nodes that count as ready. */
  judge(readyNodeIds: readonly string[]): Verdict {
    const now = this.#clock.monotonic();
    if (now - this.#judgedAt > this.#periodMs()) this.#listeningSince = now;
    this.#judgedAt = now;
    const lost = readyNodeIds.filter((nodeId) => this.silent(nodeId));
    const suspended = lost.length > readyNodeIds.length / 2;
    return { lost: suspended ? [] : lost, suspended };
  }
}
