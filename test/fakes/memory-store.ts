// A store in memory: what a Leader left in it, the next Leader finds.

import type { Change, ClusterIdentity } from "../../src/cluster/schema.ts";
import { emptyState, type LiveState, stateFromJson, stateToJson } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { Leadership, Store } from "../../src/leader/store.ts";
import { UserError } from "../../src/lib/errors.ts";

export class MemoryStore implements Store {
  #state = emptyState();
  #leader = new AbortController();
  /** While set, a leader cannot be certain that it leads, as one that was frozen. */
  isUncertain = false;
  /** Refuses commits while set. */
  full = false;

  /** Makes a backup of what the store has now. */
  copy(): MemoryStore {
    const copy = new MemoryStore();
    copy.#state = this.#state.copy();
    return copy;
  }

  /** Makes the store as it was before clusters had ids. */
  forgetIdentity(): void {
    this.#state.cluster = null;
  }

  /** Takes leadership from whoever has it. */
  async campaign(): Promise<Leadership> {
    this.#leader.abort(new Error("another manager leads"));
    const leader = new AbortController();
    this.#leader = leader;
    return {
      lost: leader.signal,
      isCertain: () => !leader.signal.aborted && !this.isUncertain,
      resign: async () => leader.abort(new Error("it has given the leadership back")),
    };
  }

  async load(): Promise<LiveState> {
    return stateFromJson(JSON.parse(JSON.stringify(stateToJson(this.#state))));
  }

  async commit(changes: readonly Change[], revision: number): Promise<void> {
    if (this.full) throw new UserError(507, "the store is full");
    this.#state.apply(JSON.parse(JSON.stringify(changes)) as Change[], revision);
  }

  async identify(cluster: ClusterIdentity): Promise<void> {
    if (this.full) throw new UserError(507, "the store is full");
    this.#state.cluster = cluster;
  }

  async fill(state: State): Promise<void> {
    if (this.full) throw new UserError(507, "the store is full");
    this.#state = emptyState();
    this.#state.replaceBy(state);
  }

  async close(): Promise<void> {}
}
