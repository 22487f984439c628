// The leader's judgement of nodes: which are lost, which do not put in force what they hear, which are silent.
import type { Node } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { Lag } from "./lag.ts";
import { Liveness } from "./liveness.ts";

/** The node is shown as behind, and gets no new tasks. */
const BEHIND_MS = 60_000;
/** After this time the leader waits for the node no longer, see `Leader`. */
const STUCK_MS = 600_000;

export class NodeHealth {
  readonly #liveness: Liveness;
  readonly #lag: Lag;
  #suspended = false;

  /** Silence counts from now. `expected`: the nodes that are to come to a leader that begins. */
  constructor(clock: Clock, livenessMs: () => number, expected: Iterable<string> = []) {
    this.#liveness = new Liveness(clock, livenessMs, expected);
    this.#lag = new Lag(clock);
  }

  heard(nodeId: string): void {
    this.#liveness.heard(nodeId);
  }

  /** Whether the node has been silent for longer than the leader tolerates. */
  silent(nodeId: string): boolean {
    return this.#liveness.silent(nodeId);
  }

  /** To be called for each ready node several times a minute: `applied` is in force there, `newest` is the last revision that it was sent. */
  note(nodeId: string, applied: number, newest: number): void {
    this.#lag.note(nodeId, applied, newest);
  }

  /** The lost ones of the nodes that count as ready, and whether most nodes are silent at once. To be called several times a period. */
  judge(readyNodeIds: readonly string[]): { lost: string[]; isNewlySuspended: boolean } {
    const { lost, suspended } = this.#liveness.judge(readyNodeIds);
    const isNewlySuspended = suspended && !this.#suspended;
    this.#suspended = suspended;
    return { lost, isNewlySuspended };
  }

  /** The health of a ready node. */
  of(nodeId: string): Node["health"] {
    const lagMs = this.#lag.ms(nodeId);
    if (lagMs >= STUCK_MS) return "stuck";
    if (this.#suspended && this.#liveness.silent(nodeId)) return "silent";
    return lagMs >= BEHIND_MS ? "behind" : "well";
  }

  /** The node is down, and gets a fresh start when it is back. */
  down(nodeId: string): void {
    this.#lag.forget(nodeId);
  }

  /** The node is gone. */
  forget(nodeId: string): void {
    this.#liveness.forget(nodeId);
    this.#lag.forget(nodeId);
  }
}
