// The names that DNS answers with on this node: the newest snapshot's, without what is on nodes that do not answer probes.
import type { State } from "../cluster/schema.ts";
import { compileNames } from "../dns/compile-names.ts";
import type { Names, NamesOptions } from "../dns/names.ts";
import type { Ipv4 } from "../lib/ip.ts";

export class NamesInForce {
  readonly #options: Partial<NamesOptions>;
  readonly #put: (names: Names) => void;
  #state: State | undefined;
  #unreachable: ReadonlySet<Ipv4> = new Set(); // BOUNDED: by the peers

  constructor(options: Partial<NamesOptions>, put: (names: Names) => void) {
    this.#options = options;
    this.#put = put;
  }

  update(state: State): void {
    this.#state = state;
    this.#compile();
  }

  /** By their VTEPs, as the data path reports them. */
  setUnreachable(vteps: readonly Ipv4[]): void {
    const isSame = vteps.length === this.#unreachable.size && vteps.every((vtep) => this.#unreachable.has(vtep));
    if (isSame) return;
    this.#unreachable = new Set(vteps);
    this.#compile();
  }

  #compile(): void {
    if (this.#state !== undefined) this.#put(compileNames(this.#state, this.#options, this.#unreachable));
  }
}
