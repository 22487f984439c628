// What the leader does not take of nodes, in its log: once a node or session, for nodes say the same again every few seconds.
import type { State } from "../cluster/tables.ts";
import type { Log } from "../lib/log.ts";
import type { NodeSession } from "./sessions.ts";

const MAX_FOREIGN = 1000;

export class Complaints {
  readonly #log: Log;
  readonly #state: () => State;
  // BOUNDED: by MAX_FOREIGN; keyed by node name. Why the node was refused last.
  readonly #foreign = new Map<string, string>();
  #refusedStatuses = 0;

  constructor(log: Log, state: () => State) {
    this.#log = log;
    this.#state = state;
  }

  /** How many statuses of tasks were refused, for they were not their node's own. */
  get refusedStatuses(): number {
    return this.#refusedStatuses;
  }

  /** The node got no session. */
  foreign(node: string, reason: string): void {
    if (this.#foreign.get(node) === reason || this.#foreign.size >= MAX_FOREIGN) return;
    this.#foreign.set(node, reason);
    this.#log.warn("a node does not accept this manager as its leader", { node, reason });
  }

  /** Counts statuses that were refused: of other nodes' tasks, or under an id that the node had before. */
  refused(session: NodeSession, count: number): void {
    if (count === 0) return;
    this.#refusedStatuses += count;
    if (session.isRefusalLogged) return;
    session.isRefusalLogged = true;
    const node = this.#nameOf(session);
    this.#log.warn("a node reports statuses of tasks that are not its own; they are refused", { node, count });
  }

  /** Statuses that were not understood. */
  unread(session: NodeSession, count: number): void {
    if (count === 0 || session.isUnreadLogged) return;
    session.isUnreadLogged = true;
    const words = "a node reports statuses that this version does not know, as of a later one; they are passed over";
    this.#log.warn(words, { node: this.#nameOf(session), count });
  }

  #nameOf({ nodeId }: NodeSession): string {
    return this.#state().nodes.get(nodeId)?.name ?? nodeId;
  }
}
