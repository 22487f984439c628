// The managers that a node may ask: those it was given, and those of the cluster's state, which it keeps for its next start.
import { isDeepStrictEqual } from "node:util";
import { managersOf } from "../cluster/managers.ts";
import type { State } from "../cluster/tables.ts";

export class ManagerList {
  readonly #given: readonly string[];
  readonly #keep: (managers: readonly string[]) => void;
  #ofState: readonly string[] = [];

  /** `given`: HOST:PORT of each. `keep` gets those of the state when they are others. */
  constructor(given: readonly string[], keep: (managers: readonly string[]) => void) {
    this.#given = given;
    this.#keep = keep;
  }

  /** HOST:PORT of each, those first that the node was given. */
  all(): string[] {
    return [...new Set([...this.#given, ...this.#ofState])];
  }

  /** Nodes' rows have changed. Loops over the managers. */
  update(state: Pick<State, "nodes">): void {
    const managers = managersOf(state);
    if (isDeepStrictEqual(managers, this.#ofState)) return;
    this.#ofState = managers;
    this.#keep(managers);
  }
}
