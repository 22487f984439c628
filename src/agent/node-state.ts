// The state as this node goes by it, and the one feed of its changes: the leader's rows, with the statuses of this node's
// own tasks as the node sees them, at once, so that no new flow reaches a task that has just ended here. The leader hears
// of those statuses from here.
import { isDeepStrictEqual } from "node:util";
import { type Change, KINDS, type Kind, type TaskStatus } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import { type State, Table } from "../cluster/tables.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { StatusReports } from "../session/reporter.ts";

/** How long one task that the agent cannot look at holds back the statuses of the others. */
const LOOK_MS = 3000;

/** The session's part of it: see Session. */
interface StateSource {
  readonly live: State;
  readonly nodeId: string | undefined;
  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void;
  /**
   * They are complete when the first look at every task is done or has taken too long. A task that the agent has not looked
   * at by then keeps the status that the cluster knows.
   */
  readonly statusReports: StatusReports;
}

export class NodeState {
  readonly #source: StateSource;
  readonly #clock: Clock;
  /** The node's state. It is changed in place: always the same object, and empty until the first state has come. */
  readonly state: State;
  /** The cluster's statuses, and in their place the node's own. */
  readonly #statuses: Table<"statuses">;
  // BOUNDED: by the node's tasks and attached endpoints in the state; keyed by task id.
  readonly #own = new Map<string, TaskStatus>();
  // BOUNDED: by the statuses that came since the last change of the state. Ids of `#own` that the state does not have.
  readonly #unplaced = new Set<string>();
  // BOUNDED: by the node's tasks. Those that were not looked at yet; undefined until they are known.
  #unseen: Set<string> | undefined;
  #isComplete = false;
  #nodeId: string | undefined;
  #timer: Timer | undefined;
  // BOUNDED: by the agent's parts that listen; keyed by nothing.
  readonly #listeners = new Set<(changes: readonly AppliedChange[]) => void>();
  readonly #stopListening: () => void;

  constructor(source: StateSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
    this.#statuses = new Table("statuses", source.live.statuses);
    this.state = withStatuses(source.live, this.#statuses);
    this.#stopListening = source.onChanges((changes) => this.#advance(changes));
    this.#expectFirst();
  }

  /** Calls with the changes of the state after they are in it, until the returned function is called; see Session.onChanges. */
  subscribe(listener: (changes: readonly AppliedChange[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What this node sees of one of its tasks, or of what is attached to it. */
  setStatus(status: TaskStatus): void {
    const { taskId } = status;
    if (isDeepStrictEqual(this.#own.get(taskId), status)) return;
    this.#own.set(taskId, status);
    this.#unseen?.delete(taskId);
    if (!this.#isOwn(taskId)) this.#unplaced.add(taskId);
    this.#source.statusReports.put(status);
    this.#completeWhenSeen();
    const changes = this.#settle([taskId]);
    if (changes.length > 0) this.#notify(changes);
  }

  stop(): void {
    this.#stopListening();
    this.#timer?.cancel();
  }

  /** The tables below have changed. */
  #advance(changes: readonly AppliedChange[]): void {
    const { nodeId } = this.#source;
    const isNewNode = nodeId !== this.#nodeId;
    // A node that was removed and comes back has another id. Then this looks at all of its tasks.
    const touched = new Set([...idsOf(changes), ...this.#unplaced, ...(isNewNode ? this.#own.keys() : [])]);
    for (const id of touched) {
      if (this.#isOwn(id)) continue;
      this.#unseen?.delete(id);
      this.#own.delete(id);
      this.#source.statusReports.remove(id);
    }
    this.#unplaced.clear();
    const others = changes.filter(({ kind }) => kind !== "statuses");
    const statuses = this.#settle(touched);
    this.#expectFirst();
    this.#completeWhenSeen();
    this.#notify([...others, ...statuses]);
  }

  #expectFirst(): void {
    const { live, nodeId } = this.#source;
    this.#nodeId = nodeId;
    if (nodeId === undefined || this.#unseen !== undefined) return;
    this.#timer = this.#clock.after(LOOK_MS, () => this.#complete());
    const ids = [...live.tasks.by("node", nodeId), ...live.endpoints.by("node", nodeId)].map(({ id }) => id);
    this.#unseen = new Set(ids.filter((id) => this.#isOwn(id) && !this.#own.has(id)));
    this.#completeWhenSeen();
  }

  /** Whether the node tells the state of it: a task of its own, or an endpoint that is attached to it. */
  #isOwn(id: string): boolean {
    const { live, nodeId } = this.#source;
    const task = live.tasks.get(id);
    if (task !== undefined) return task.nodeId === nodeId;
    const endpoint = live.endpoints.get(id);
    return endpoint !== undefined && endpoint.attachment !== null && endpoint.nodeId === nodeId;
  }

  /** Makes the statuses of these tasks what they are now; returns the changes. */
  #settle(taskIds: Iterable<string>): AppliedChange[] {
    const { live } = this.#source;
    const changes: AppliedChange[] = [];
    for (const key of taskIds) {
      const row = (this.#isOwn(key) ? this.#own.get(key) : undefined) ?? live.statuses.get(key) ?? null;
      if (isDeepStrictEqual(row, this.#statuses.get(key) ?? null)) continue;
      changes.push({ kind: "statuses", key, row, before: this.#statuses.set(key, row) });
    }
    return changes;
  }

  #notify(changes: readonly AppliedChange[]): void {
    for (const listener of this.#listeners) listener(changes);
  }

  #completeWhenSeen(): void {
    if (this.#unseen?.size === 0) this.#complete();
  }

  #complete(): void {
    if (this.#isComplete) return;
    this.#isComplete = true;
    this.#timer?.cancel();
    const { live, statusReports: reports } = this.#source;
    for (const id of this.#unseen ?? []) {
      const status = live.statuses.get(id);
      if (status !== undefined) reports.put(status);
    }
    reports.complete();
  }
}

/** The state below, as it is at any time, with other statuses. */
function withStatuses(below: State, statuses: Table<"statuses">): State {
  const tables = Object.fromEntries(KINDS.map((kind) => [kind, below[kind]])) as Pick<State, Kind>;
  return {
    get revision() {
      return below.revision;
    },
    get cluster() {
      return below.cluster;
    },
    ...tables,
    statuses,
  };
}

/** Tasks whose status may be another now. */
function idsOf(changes: readonly Change[]): string[] {
  return changes.flatMap(({ kind, key }) =>
    kind === "tasks" || kind === "endpoints" || kind === "statuses" ? [key] : [],
  );
}
