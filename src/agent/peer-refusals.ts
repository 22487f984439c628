// Whom a node does not take for a manager although the cluster's CA signed its certificate: it was demoted, or removed.
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import type { Subject } from "../trust/certificates.ts";

/** A certificate and its row are made within this time. */
const SAME_MS = 60_000;
const MOST_REMOVED = 10_000;

export class PeerRefusals {
  readonly #state: Pick<State, "nodes">;
  // BOUNDED: by MOST_REMOVED; the ids of nodes that were removed while this agent ran. Ids are never used twice.
  readonly #removed = new Set<string>();

  constructor(state: Pick<State, "nodes">) {
    this.#state = state;
  }

  changed(changes: readonly AppliedChange[]): void {
    for (const { kind, key, row } of changes) {
      if (kind !== "nodes" || row !== null) continue;
      this.#removed.add(key);
      const [oldest] = this.#removed;
      if (this.#removed.size > MOST_REMOVED) this.#removed.delete(oldest!);
    }
  }

  /**
   * undefined: it may be one. `expires`: when the certificate ends. A manager that this node's state does not have may be one that
   * came while the node was cut off.
   */
  whyNoManager({ id, name }: Subject, expires: number): string | undefined {
    if (this.#removed.has(id)) return `node '${name}' was removed from the cluster`;
    const row = this.#state.nodes.get(id);
    // A certificate that is newer than the row says is one of a node promoted since.
    if (row === undefined || row.role === "manager" || expires > (row.certificateExpires ?? 0) + SAME_MS)
      return undefined;
    return `node '${name}' is a manager no longer`;
  }
}
