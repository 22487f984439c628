// A node as the leader sees it, without a network: it keeps the state that the stream brings, and reports when told to.

import type { NodeIdentity, StreamMessage } from "../../src/cluster/protocol.ts";
import type { TaskState, TaskStatus } from "../../src/cluster/schema.ts";
import { emptyState, type LiveState, parseRows } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { Leader } from "../../src/leader/leader.ts";
import type { SessionSink } from "../../src/leader/sessions.ts";
import { openSession } from "../fakes/founding.ts";

/** The end of a session that nothing listens to. */
export const deafSink: SessionSink = { send: () => {}, sendSnapshot: () => {}, close: () => {} };

/** A sink that reads each line at once. */
export function readingSink(receive: (message: StreamMessage) => void, close: () => void): SessionSink {
  const send = (lines: Buffer) => {
    for (const line of lines.toString().trimEnd().split("\n")) receive(JSON.parse(line) as StreamMessage);
  };
  const sendSnapshot = (lines: Iterator<Buffer>) => {
    for (let next = lines.next(); next.done !== true; next = lines.next()) send(next.value);
  };
  return { send, sendSnapshot, close };
}

export function identityOf(i: number): NodeIdentity {
  const address = `192.0.2.${10 + i}`;
  const listen = i === 1 ? { address, port: 2377 } : null;
  return {
    name: `node${i}`,
    address,
    vxlanPort: 4789,
    sealed: { port: 4500, keyPort: 4789 },
    manager: i === 1,
    listen,
    advertise: null,
    mesh: true,
  };
}

export class FakeNode {
  readonly identity: NodeIdentity;
  #leader: Leader | undefined;
  #sessionId: string | undefined;
  id: string | undefined;
  /** As the stream brought it. */
  state: LiveState | undefined;
  #loading: LiveState | undefined;
  /** The state that its data path has. */
  applied: State | undefined;
  /** The highest revision that the leader has called awaited. */
  awaited = 0;
  /** What its agent can do. */
  features: string[] = [];

  constructor(identity: NodeIdentity) {
    this.identity = identity;
  }

  /** Throws what the leader throws. */
  async join(leader: Leader): Promise<void> {
    this.#leader = leader;
    this.#sessionId = undefined;
    const close = () => {
      this.#sessionId = undefined;
    };
    const sink = readingSink((message) => this.#receive(message), close);
    this.#sessionId = await openSession(leader, { ...this.identity, features: this.features }, sink);
  }

  /** The session is gone and the node does not know it yet. */
  lose(): void {
    this.#sessionId = undefined;
  }

  get joined(): boolean {
    return this.#sessionId !== undefined;
  }

  /** Has the newest state in force, but has not said so. */
  apply(): void {
    this.applied = this.state;
  }

  /** Tells the leader what it applied, and the state of its tasks as `stateOf` says. */
  async report(stateOf: (taskId: string) => TaskState | undefined = () => undefined): Promise<void> {
    if (this.#sessionId === undefined || this.state === undefined) return;
    await this.#leader!.sessions.report(this.#sessionId, {
      statuses: this.#statuses(stateOf),
      full: true,
      gone: [],
      applied: this.applied?.revision ?? 0,
    });
  }

  /** Runs what it should, stops what it should, and tells. */
  async obey(): Promise<void> {
    this.apply();
    const { tasks } = this.state!;
    await this.report((id) => (tasks.get(id)!.desired === "shutdown" ? "shutdown" : "running"));
  }

  #receive(message: StreamMessage): void {
    if (message.type === "session") this.id = message.nodeId;
    if (message.type === "snapshot") {
      this.#loading = emptyState();
      this.#loading.revision = message.revision;
      this.#loading.cluster = message.cluster;
    }
    if (message.type === "rows") this.#loading!.apply(parseRows(message.kind, message.rows), this.#loading!.revision);
    if (message.type === "snapshot-end") this.state = this.#loading;
    if (message.type === "awaited") this.awaited = Math.max(this.awaited, message.revision);
    if (message.type !== "changes") return;
    if (message.after !== this.state!.revision) throw new Error(`changes after ${message.after} have a gap`);
    const next = this.state!.copy();
    next.apply([...message.changes], message.revision);
    this.state = next;
  }

  #statuses(stateOf: (taskId: string) => TaskState | undefined): TaskStatus[] {
    const own = [...this.state!.tasks.values()].filter(({ nodeId }) => nodeId === this.id);
    return own.flatMap(({ id }) => {
      const state = stateOf(id);
      const rest = { since: 0, error: null, exitCode: null, message: null, restarts: 0 };
      return state === undefined ? [] : [{ taskId: id, nodeId: this.id!, state, ...rest }];
    });
  }
}
