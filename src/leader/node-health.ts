// The leader's judgement of nodes: which are lost, which do not put in force what they hear, which are silent.
import type { Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { Lag } from "./lag.ts";
import { Liveness } from "./liveness.ts";

/** The node is shown as behind, and gets no new tasks. */
const BEHIND_MS = 60_000;
/** After this time the leader waits for the node no longer, see `Leader`. */
const STUCK_MS = 600_000;

interface NodeHealthOptions {
  clock: Clock;
  log: Log;
  /** A node whose session is silent for longer is lost. */
  livenessMs(): number;
}

export class NodeHealth {
  readonly #options: NodeHealthOptions;
  readonly #lag: Lag;
  #liveness: Liveness;
  #suspended = false;

  constructor(options: NodeHealthOptions) {
    const { clock, livenessMs } = options;
    this.#options = options;
    this.#lag = new Lag(clock);
    this.#liveness = new Liveness(clock, livenessMs);
  }

  /** The leader begins: silence counts from now. `expected`: the nodes that are to come to it. */
  begin(expected: Iterable<string>): void {
    const { clock, livenessMs } = this.#options;
    this.#liveness = new Liveness(clock, livenessMs, expected);
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

  /** The lost ones of the nodes that count as ready: none while most of them are silent at once. To be called several times a period. */
  lostOf(readyNodeIds: readonly string[]): string[] {
    const { lost, suspended } = this.#liveness.judge(readyNodeIds);
    if (suspended && !this.#suspended) this.#options.log.warn("most nodes are silent at once; none is judged");
    this.#suspended = suspended;
    return lost;
  }

  /** The health of a ready node. */
  of(nodeId: string): Node["health"] {
    const lagMs = this.#lag.ms(nodeId);
    if (lagMs >= STUCK_MS) return "stuck";
    if (this.#suspended && this.#liveness.silent(nodeId)) return "silent";
    return lagMs >= BEHIND_MS ? "behind" : "well";
  }

  /** Has the rows of those of the nodes that are ready say how they are. */
  record(draft: Draft, nodeIds: readonly string[]): void {
    for (const nodeId of nodeIds) {
      const node = draft.state.nodes.get(nodeId);
      const health = this.of(nodeId);
      if (node?.state !== "ready" || health === node.health) continue;
      draft.put("nodes", { ...node, health });
      if (health === "behind" || health === "stuck") {
        const words = "a node does not put the newest state in force";
        this.#options.log.warn(words, { node: node.name, reason: health });
      }
    }
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
