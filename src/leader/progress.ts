// How far the live nodes are with what they were sent.
import { AppliedRevisions } from "./applied-revisions.ts";
import type { StateWriter } from "./state-writer.ts";

export class Progress {
  readonly #writer: StateWriter;
  /** Those of the nodes that are ready. */
  readonly #ready = new AppliedRevisions();
  /** Those of the nodes that are waited for: a node that is stuck sends to no address that was released since (agent/in-force.ts). */
  readonly #awaited = new AppliedRevisions();

  constructor(writer: StateWriter) {
    this.#writer = writer;
  }

  /** A leader begins: it knows of no node what it has applied. Loops over the nodes. */
  begin(): void {
    for (const id of this.#writer.state.nodes.keys()) this.update(id, 0);
  }

  /** The node's row has changed, or is gone. `applied` is what it has in force. */
  update(nodeId: string, applied: number): void {
    const node = this.#writer.state.nodes.get(nodeId);
    const isReady = node?.state === "ready";
    keep(this.#ready, nodeId, isReady ? applied : undefined);
    keep(this.#awaited, nodeId, isReady && node.health !== "stuck" ? applied : undefined);
  }

  /** The node has `applied` in force. */
  set(nodeId: string, applied: number): void {
    if (this.#ready.get(nodeId) !== undefined) this.#ready.set(nodeId, applied);
    if (this.#awaited.get(nodeId) !== undefined) this.#awaited.set(nodeId, applied);
  }

  /** The newest revision that no awaited node lacks anything of; Infinity: there is no such node. */
  get everywhere(): number {
    return this.#newestWith(this.#awaited.lowest);
  }

  /** The same of all nodes that are ready. */
  get onAllReady(): number {
    return this.#newestWith(this.#ready.lowest);
  }

  /** The names of the ready nodes that have not applied the revision. Loops over the nodes when there is one. */
  behind(revision: number): string[] {
    if (this.onAllReady >= revision) return [];
    const ready = this.#writer.state.nodes.by("state", "ready");
    return ready.filter(({ id }) => this.#newestWith(this.#ready.get(id) ?? 0) < revision).map(({ name }) => name);
  }

  /** A node that has all that it was sent lacks nothing of the revisions since. */
  #newestWith(applied: number): number {
    const { sentRevision, state } = this.#writer;
    return applied === sentRevision ? state.revision : applied;
  }
}

function keep(revisions: AppliedRevisions, nodeId: string, applied: number | undefined): void {
  if (applied === undefined) revisions.delete(nodeId);
  else revisions.set(nodeId, applied);
}
