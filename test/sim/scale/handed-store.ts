// A store for a state that another leader had.
import type { ClusterIdentity } from "../../../src/cluster/schema.ts";
import type { LiveState } from "../../../src/cluster/state.ts";
import { type Leadership, type Store, soleLeadership } from "../../../src/leader/store.ts";

/** Gives the state that it was made with, and keeps nothing: a real store keeps it outside of this process's heap. */
export class HandedStore implements Store {
  readonly #state: LiveState;

  constructor(state: LiveState) {
    this.#state = state;
  }

  async campaign(): Promise<Leadership> {
    return soleLeadership();
  }

  async load(): Promise<LiveState> {
    return this.#state;
  }

  async commit(): Promise<void> {}

  async identify(cluster: ClusterIdentity): Promise<void> {
    this.#state.cluster = cluster;
  }

  async fill(): Promise<void> {}

  async close(): Promise<void> {}
}
