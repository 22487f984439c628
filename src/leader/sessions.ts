// The sessions of nodes with the leader: one a node.
import type { Lacking } from "../cluster/features.ts";
import { encodeLine, UNAWAITED_GAP_MS } from "../cluster/protocol.ts";
import type { Clock } from "../lib/clock.ts";
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
  /** When it said so, by the leader's monotonic clock. */
  appliedAt: number;
  /** The highest revision that the node was told that clients wait for. */
  awaited: number;
  /** Whether it has reported all its statuses. */
  reported: boolean;
  isRefusalLogged: boolean;
  isUnreadLogged: boolean;
}

export class Sessions {
  readonly #clock: Clock;
  // BOUNDED: by the nodes, one session each.
  readonly #byNode = new Map<string, NodeSession>();
  readonly #byId = new Map<string, NodeSession>();
  // BOUNDED: by the sets of features that nodes lack. How many sessions are of nodes that lack them.
  readonly #lacking = new Map<Lacking, number>();
  /** The highest revision that a client has waited for, and the line that says so. */
  #awaited: { revision: number; line: Buffer } = { revision: 0, line: Buffer.alloc(0) };

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Begins a session. The one that the node had before is to be ended first. */
  add(begun: Pick<NodeSession, "id" | "nodeId" | "sink" | "lacking">): NodeSession {
    const { id, nodeId } = begun;
    const session = {
      ...begun,
      seq: 0,
      pending: 0,
      applied: 0,
      appliedAt: Number.NEGATIVE_INFINITY,
      awaited: 0,
      reported: false,
      isRefusalLogged: false,
      isUnreadLogged: false,
    };
    this.#byNode.set(nodeId, session);
    this.#byId.set(id, session);
    this.#countLacking(session, 1);
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

  /** What is withheld from any node. */
  lacking(): Iterable<Lacking> {
    return this.#lacking.keys();
  }

  /** The node has told that it has the revision in force. */
  told(session: NodeSession, applied: number): void {
    if (applied <= session.applied) return;
    session.applied = applied;
    session.appliedAt = this.#clock.monotonic();
    this.#call(session);
  }

  /**
   * A client waits for the revision: the nodes that have not told that they have it tell at once. Loops over the sessions,
   * once a revision; few get a line while changes are rare, for a node tells by itself when it has told nothing new for a while.
   */
  await(revision: number): void {
    if (revision <= this.#awaited.revision) return;
    this.#awaited = { revision, line: encodeLine({ type: "awaited", revision }) };
    for (const session of this.#byNode.values()) this.#call(session);
  }

  remove(session: NodeSession): void {
    if (!this.#byId.delete(session.id)) return;
    this.#byNode.delete(session.nodeId);
    this.#countLacking(session, -1);
  }

  clear(): void {
    this.#byId.clear();
    this.#byNode.clear();
    this.#lacking.clear();
  }

  /** Tells the node that clients wait, when it would wait itself before it tells what they wait for. */
  #call(session: NodeSession): void {
    const { revision, line } = this.#awaited;
    if (session.applied >= revision || session.awaited >= revision) return;
    if (this.#clock.monotonic() - session.appliedAt >= UNAWAITED_GAP_MS) return;
    session.awaited = revision;
    session.sink.send(line);
  }

  #countLacking({ lacking }: NodeSession, more: 1 | -1): void {
    if (lacking === undefined) return;
    const count = (this.#lacking.get(lacking) ?? 0) + more;
    if (count === 0) this.#lacking.delete(lacking);
    else this.#lacking.set(lacking, count);
  }
}
