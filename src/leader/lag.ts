// How long a node has not had in force what it was sent: a node that cannot apply must not hold back all others.
import type { Clock } from "../lib/clock.ts";

export class Lag {
  readonly #clock: Clock;
  // BOUNDED: by the nodes that are ready (`forget`); keyed by node id. The oldest revision that the node is known to lack, and since when.
  readonly #missing = new Map<string, { revision: number; since: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Call it for each ready node, several times a minute. `applied` is the revision that the node has in force, `newest` that of the state. */
  note(nodeId: string, applied: number, newest: number): void {
    const missing = this.#missing.get(nodeId);
    if (applied >= newest) this.#missing.delete(nodeId);
    else if (missing === undefined || applied >= missing.revision) {
      this.#missing.set(nodeId, { revision: newest, since: this.#clock.monotonic() });
    }
  }

  /** How long the node has lacked one and the same revision; 0: it has all. */
  ms(nodeId: string): number {
    const missing = this.#missing.get(nodeId);
    return missing === undefined ? 0 : this.#clock.monotonic() - missing.since;
  }

  forget(nodeId: string): void {
    this.#missing.delete(nodeId);
  }
}
