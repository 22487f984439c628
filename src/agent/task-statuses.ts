// What this node observes of its tasks. The leader hears of it, and tells everybody; this node itself goes by what it
// sees, at once, so that no new flow reaches a task that has just ended here.
import type { State, TaskStatus } from "../cluster/schema.ts";
import { applyChanges } from "../cluster/state.ts";
import type { Clock, Timer } from "../lib/clock.ts";

/** How long one task that the agent cannot look at holds back the statuses of the others. */
const LOOK_MS = 3000;

export interface TaskStatusesParts {
  clock: Clock;
  /**
   * Reports all statuses when the first look at every task is done or has taken too long, and then at each change. A task
   * that the agent has not looked at yet keeps the status that the cluster knows.
   */
  report(statuses: readonly TaskStatus[]): void;
  /** A status changed. */
  changed(): void;
}

export class TaskStatuses {
  readonly #parts: TaskStatusesParts;
  // BOUNDED: by the node's tasks in the state; keyed by task id.
  readonly #statuses = new Map<string, TaskStatus>();
  /** Tasks that were not looked at yet; undefined until they are known. Until then the leader is told nothing: it would take what is missing for gone. */
  #unseen: Set<string> | undefined;
  /** The statuses that the cluster knows. */
  #known: ReadonlyMap<string, TaskStatus> = new Map();
  #isLate = false;
  #timer: Timer | undefined;

  constructor(parts: TaskStatusesParts) {
    this.#parts = parts;
  }

  /** The node's tasks and attached endpoints, at every new state. */
  expect(taskIds: ReadonlySet<string>, known: ReadonlyMap<string, TaskStatus>): void {
    const isFirst = this.#unseen === undefined;
    this.#known = known;
    this.#timer ??= this.#parts.clock.after(LOOK_MS, () => {
      this.#isLate = true;
      this.#report();
    });
    this.#unseen ??= new Set([...taskIds].filter((id) => !this.#statuses.has(id)));
    for (const id of this.#unseen) if (!taskIds.has(id)) this.#unseen.delete(id);
    let isLess = false;
    for (const id of this.#statuses.keys()) if (!taskIds.has(id)) isLess = this.#statuses.delete(id) || isLess;
    if (isFirst || isLess) this.#report();
  }

  set(status: TaskStatus): void {
    if (JSON.stringify(this.#statuses.get(status.taskId)) === JSON.stringify(status)) return;
    this.#statuses.set(status.taskId, status);
    this.#unseen?.delete(status.taskId);
    this.#report();
    this.#parts.changed();
  }

  /** The state, with this node's tasks as it sees them. */
  overlay(state: State): State {
    const own = [...this.#statuses.values()].filter(
      ({ taskId }) => state.tasks.has(taskId) || state.endpoints.has(taskId),
    );
    const changes = own.map((row) => ({ kind: "statuses" as const, key: row.taskId, row }));
    return applyChanges(state, changes, state.revision);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #report(): void {
    if (this.#unseen === undefined || (this.#unseen.size > 0 && !this.#isLate)) return;
    const unseen = [...this.#unseen].flatMap((id) => this.#known.get(id) ?? []);
    this.#parts.report([...this.#statuses.values(), ...unseen]);
  }
}
