// Whose packets reach this manager's part of the store. A manager that was demoted stays among them for a while: of two members of
// etcd both are needed to remove one, and that is done after the row says that its node is no manager.
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";

/** The leader removes the member within seconds. */
const DEMOTED_MS = 60_000;

export class StorePeers {
  readonly #clock: Clock;
  // BOUNDED: by the nodes that were managers within that time; keyed by node id. When each was one last.
  readonly #managers = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Their addresses; null: this node is no manager, and has no part. A node that was removed is in none. Loops over the managers. */
  addresses({ nodes }: State, nodeId: string): string[] | null {
    const now = this.#clock.monotonic();
    for (const { id } of nodes.by("role", "manager")) this.#managers.set(id, now);
    for (const [id, at] of this.#managers) if (now - at > DEMOTED_MS || !nodes.has(id)) this.#managers.delete(id);
    if (nodes.get(nodeId)?.role !== "manager") return null;
    const peers = [...this.#managers.keys()].map((id) => nodes.get(id)!);
    return [...new Set(peers.flatMap(({ address, addresses }) => [address, ...addresses]))].toSorted();
  }
}
