// The sessions of nodes with the leader: one a node.
import type { Lacking } from "../cluster/features.ts";
import { encodeLine } from "../cluster/protocol.ts";
import { UserError } from "../lib/errors.ts";

/** The leader's way down to one node. No call throws, and none waits for the node. */
export interface SessionSink {
  send(line: Buffer): void;
  /** Takes pieces of whole lines, one by one as the node's link takes them; what is sent meanwhile follows the last one. */
  sendSnapshot(pieces: Iterator<Buffer>): void;
  close(): void;
}

/** The node at the other end, as its certificate says. */
export interface SessionPeer {
  readonly id: string;
  /** The address that its connection comes from; left out: this process. */
  readonly from?: string | null;
}

export interface NodeSession {
  readonly id: string;
  readonly nodeId: string;
  readonly sink: SessionSink;
  /** What is withheld from the node; undefined: nothing. */
  readonly lacking: Lacking | undefined;
  /** The number of the newest report. */
  seq: number;
  /** How many of its reports are being committed. */
  pending: number;
  /** The highest revision in force in the node's data path; 0 until it has said so in this session. */
  applied: number;
  /** Whether it has reported all its statuses. */
  reported: boolean;
  isRefusalLogged: boolean;
  isUnreadLogged: boolean;
}

export class Sessions {
  // BOUNDED: by the nodes, one session each.
  readonly #byNode = new Map<string, NodeSession>();
  readonly #byId = new Map<string, NodeSession>();

  /** Begins a session. The one that the node had before is to be ended first. */
  add(begun: Pick<NodeSession, "id" | "nodeId" | "sink" | "lacking">): NodeSession {
    const { id, nodeId } = begun;
    const session = {
      ...begun,
      seq: 0,
      pending: 0,
      applied: 0,
      reported: false,
      isRefusalLogged: false,
      isUnreadLogged: false,
    };
    this.#byNode.set(nodeId, session);
    this.#byId.set(id, session);
    return session;
  }

  get(id: string): NodeSession | undefined {
    return this.#byId.get(id);
  }

  /** Throws UserError 404. */
  require(id: string): NodeSession {
    const session = this.#byId.get(id);
    if (session === undefined) throw new UserError(404, "this session is over; begin a new one");
    return session;
  }

  of(nodeId: string): NodeSession | undefined {
    return this.#byNode.get(nodeId);
  }

  all(): Iterable<NodeSession> {
    return this.#byNode.values();
  }

  /** What is withheld from any node. Loops over the sessions, once a revision. */
  lacking(): ReadonlySet<Lacking> {
    const all = new Set<Lacking>();
    for (const { lacking } of this.#byNode.values()) if (lacking !== undefined) all.add(lacking);
    return all;
  }

  /** A client waits for the revision: the nodes that have not told that they have it tell at once. Loops over the sessions. */
  await(revision: number): void {
    const line = encodeLine({ type: "awaited", revision });
    for (const { applied, sink } of this.#byNode.values()) if (applied < revision) sink.send(line);
  }

  remove({ id, nodeId }: NodeSession): void {
    this.#byId.delete(id);
    this.#byNode.delete(nodeId);
  }

  clear(): void {
    this.#byId.clear();
    this.#byNode.clear();
  }
}
