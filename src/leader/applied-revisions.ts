// How far nodes are: the revision that each has in force, and the lowest of all without a loop over the nodes.

export class AppliedRevisions {
  // BOUNDED: by the nodes that are ready; keyed by node id.
  readonly #byNode = new Map<string, number>();
  // BOUNDED: by the nodes too; how many are at each revision.
  readonly #counts = new Map<number, number>();
  #lowest = Number.POSITIVE_INFINITY;

  /** The lowest revision of all; Infinity: there is no node. */
  get lowest(): number {
    return this.#lowest;
  }

  set(nodeId: string, revision: number): void {
    const before = this.#byNode.get(nodeId);
    if (before === revision) return;
    this.#byNode.set(nodeId, revision);
    this.#counts.set(revision, (this.#counts.get(revision) ?? 0) + 1);
    this.#lowest = Math.min(this.#lowest, revision);
    if (before !== undefined) this.#leave(before);
  }

  delete(nodeId: string): void {
    const before = this.#byNode.get(nodeId);
    if (before === undefined) return;
    this.#byNode.delete(nodeId);
    this.#leave(before);
  }

  get(nodeId: string): number | undefined {
    return this.#byNode.get(nodeId);
  }

  /** Loops over the revisions at which nodes are, which are few, when the last node leaves the lowest. */
  #leave(revision: number): void {
    const left = this.#counts.get(revision)! - 1;
    if (left > 0) this.#counts.set(revision, left);
    else {
      this.#counts.delete(revision);
      if (revision !== this.#lowest) return;
      this.#lowest = Number.POSITIVE_INFINITY;
      for (const other of this.#counts.keys()) this.#lowest = Math.min(this.#lowest, other);
    }
  }
}
