// What follows from the changes of a turn: tasks are reconciled where something was touched, and released addresses are
// freed once every node has heard of it.
import type { Draft } from "../cluster/state.ts";
import type { Clock } from "../lib/clock.ts";
import type { LeaderContext } from "./context.ts";
import { DrainClock } from "./drain-clock.ts";
import { freeReleased } from "./ipam.ts";
import type { Progress } from "./progress.ts";
import { reconcile } from "./scheduler.ts";
import type { Sessions } from "./sessions.ts";
import type { StateWriter } from "./state-writer.ts";
import { allTouched, touchedBy } from "./touched.ts";

interface ReconcilerOptions {
  clock: Clock;
  writer: StateWriter;
  sessions: Sessions;
  progress: Progress;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #drains: DrainClock;
  /** Whether a turn has looked at all services since this leader began. */
  #hasSeenAll = false;
  // BOUNDED: by the nodes. Those whose tasks are to be looked at in the next turn.
  readonly #nodeIds = new Set<string>();
  /** What the turn under way has looked at. */
  #taken: { nodeIds: string[]; applied: number } = { nodeIds: [], applied: 0 };
  /** The revision that was everywhere in the last turn. */
  #applied = 0;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#drains = new DrainClock(options.clock);
  }

  /** The node has reported all its statuses: the next turn looks at its tasks. */
  lookAt(nodeId: string): void {
    this.#nodeIds.add(nodeId);
  }

  /** Whether a turn would find something to do, though nothing is asked for. */
  get isDue(): boolean {
    if (this.#nodeIds.size > 0) return true;
    return this.#options.progress.everywhere > this.#applied && this.#isAwaited;
  }

  /** Whether tasks drain: they stop when their time is over, too. */
  get isDraining(): boolean {
    return this.#options.writer.state.tasks.count("todo", "draining") > 0;
  }

  get #isAwaited(): boolean {
    return this.isDraining || this.#options.writer.state.allocations.count("todo", "free") > 0;
  }

  /** Adds what follows from the draft's changes. It counts when `completed` is called. */
  complete(draft: Draft, context: LeaderContext): void {
    const { writer, sessions, progress } = this.#options;
    const applied = progress.everywhere;
    this.#taken = { nodeIds: [...this.#nodeIds], applied };
    const free = () => {
      if (applied > this.#applied || applied === Number.POSITIVE_INFINITY) freeReleased(draft, applied);
    };
    free();
    const touched = this.#hasSeenAll ? touchedBy(draft, writer.state, this.#taken.nodeIds) : allTouched(draft.state);
    reconcile(draft, touched, {
      ...context,
      applied,
      isReported: (nodeId) => sessions.of(nodeId)?.reported === true,
      drainedMs: (task) => this.#drains.elapsedMs(task),
    });
    free();
  }

  /** The completed draft is in the state. */
  completed(): void {
    this.#hasSeenAll = true;
    for (const nodeId of this.#taken.nodeIds) this.#nodeIds.delete(nodeId);
    this.#applied = this.#taken.applied;
    this.#drains.keep(this.#options.writer.state);
  }
}
