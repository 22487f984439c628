// The ends of many nodes, faked: they know which revision they have and what their own tasks are, and report it. A line
// that the leader sends to all of them is read once.
import { PROTOCOL } from "../../../src/cluster/features.ts";
import { type NodeIdentity, type StreamMessage, UNAWAITED_GAP_MS } from "../../../src/cluster/protocol.ts";
import type { BucketDigests } from "../../../src/cluster/row-buckets.ts";
import type { Task, TaskStatus } from "../../../src/cluster/schema.ts";
import type { Leader } from "../../../src/leader/leader.ts";
import type { SessionSink } from "../../../src/leader/sessions.ts";
import { APPLIED_GAP_MS } from "../../../src/session/reporter.ts";
import { openSession } from "../../fakes/founding.ts";

/** Rows are not read: a faked end keeps no state. */
const ROWS = '{"type":"rows"';
const SESSION = '{"type":"session"';

/** One node's end. It is the sink of its session. */
export class CrowdNode implements SessionSink {
  readonly identity: NodeIdentity;
  readonly #crowd: Crowd;
  nodeId: string | undefined;
  sessionId: string | undefined;
  /** The revision of the last line. */
  revision = 0;
  /** A client waits until the node has told this one. */
  awaited = 0;
  /** The revision that it told last, and when it told another one than before. */
  #told = { revision: 0, at: Number.NEGATIVE_INFINITY };
  /** Bytes of changes, and of the snapshot with what comes before it. */
  changesBytes = 0;
  snapshotBytes = 0;
  /** The lines of the newest session since they were kept last; undefined: they are not kept. */
  lines: Buffer[] | undefined;
  /** The rest of a snapshot, and the lines that follow it; undefined: all of it has come. */
  #snapshot: { rest: Iterator<Buffer>; later: Buffer[] } | undefined;
  // BOUNDED: by the node's tasks; keyed by task id. Whether the task is to end.
  readonly tasks = new Map<string, boolean>();
  // BOUNDED: as #tasks. Tasks of which the leader has to hear.
  readonly #news = new Set<string>();
  #seq = 0;
  #isFull = true;

  constructor(identity: NodeIdentity, crowd: Crowd) {
    this.identity = identity;
    this.#crowd = crowd;
  }

  /** `has`: what it has of the state; left out: nothing. */
  async join(leader: Leader, has?: BucketDigests): Promise<void> {
    this.#seq = 0;
    this.#isFull = true;
    this.awaited = 0;
    this.#told = { revision: 0, at: Number.NEGATIVE_INFINITY };
    this.snapshotBytes = 0;
    const request = { ...this.identity, has };
    this.sessionId =
      this.nodeId === undefined
        ? await openSession(leader, request, this)
        : await leader.sessions.open({ id: this.nodeId }, { protocol: PROTOCOL, ...request }, this);
  }

  send(line: Buffer): void {
    if (this.#snapshot === undefined) this.#receive(line);
    else this.#snapshot.later.push(line);
  }

  sendSnapshot(rest: Iterator<Buffer>): void {
    if (this.#crowd.isPassedOver(this)) {
      rest.return?.();
      return;
    }
    this.#snapshot = { rest, later: [] };
    this.#crowd.loading.add(this);
  }

  /** Takes the next lines of the snapshot, as a link does when it has room; whether there are more. */
  takeLines(): boolean {
    if (this.#snapshot === undefined) return false;
    const { rest, later } = this.#snapshot;
    const { value, done } = rest.next();
    if (done === true) {
      this.#snapshot = undefined;
      for (const line of later) this.#receive(line);
      return false;
    }
    this.snapshotBytes += value.length;
    this.#receive(value);
    return true;
  }

  close(): void {
    this.sessionId = undefined;
    this.#snapshot?.rest.return?.();
    this.#snapshot = undefined;
  }

  #receive(line: Buffer): void {
    if (startsWith(line, SESSION)) this.lines?.splice(0);
    this.lines?.push(line);
    this.#crowd.received(this, line);
  }

  /** The task is new, to end, or (undefined) gone. */
  changeTask(id: string, isToEnd: boolean | undefined): void {
    if (isToEnd === undefined) this.tasks.delete(id);
    else this.tasks.set(id, isToEnd);
    this.#news.add(id);
  }

  /** Whether a report has to say more than a beat does. */
  get hasNews(): boolean {
    return this.#isFull || this.#news.size > 0;
  }

  /** When it tells its revision, as src/session/reporter.ts has it. */
  get tellsAt(): number {
    const { revision, at } = this.#told;
    const isAwaited = revision < this.awaited || this.#crowd.isDraining;
    return at + (isAwaited ? APPLIED_GAP_MS : UNAWAITED_GAP_MS);
  }

  /** It tells its revision now. */
  tells(now: number): void {
    if (this.revision !== this.#told.revision) this.#told = { revision: this.revision, at: now };
  }

  /** Whether the leader has its revision, or will have it soon. */
  get hasTold(): boolean {
    return this.revision === this.#told.revision;
  }

  /** The body of a report of what is new, as it goes over the wire. */
  report(): string {
    const ids = this.#isFull ? [...this.tasks.keys()] : [...this.#news];
    const report = {
      seq: ++this.#seq,
      statuses: ids.flatMap((id) => this.#statusOf(id)),
      full: this.#isFull,
      gone: ids.filter((id) => !this.tasks.has(id)),
      heldPorts: [],
      addresses: [this.identity.address],
      docker: null,
      applied: this.revision,
    };
    this.#isFull = false;
    this.#news.clear();
    return JSON.stringify(report);
  }

  #statusOf(taskId: string): TaskStatus[] {
    const isToEnd = this.tasks.get(taskId);
    if (isToEnd === undefined) return [];
    const state = isToEnd ? "shutdown" : "running";
    const rest = { since: 0, error: null, exitCode: null, message: null, restarts: 0 };
    return [{ taskId, nodeId: this.nodeId!, state, ...rest }];
  }
}

export class Crowd {
  // BOUNDED: by the nodes. Those whose snapshot has not come as a whole.
  readonly loading = new Set<CrowdNode>();
  readonly nodes: readonly CrowdNode[];
  // BOUNDED: by the nodes; keyed by node id.
  readonly #nodesById = new Map<string, CrowdNode>();
  // BOUNDED: by the tasks; keyed by task id.
  readonly #nodesByTask = new Map<string, CrowdNode>();
  readonly #read = new WeakMap<Buffer, readonly StreamMessage[]>();
  // BOUNDED: by the tasks. Those that drain.
  readonly #draining = new Set<string>();
  /** While it gathers, only the first node reads changes: else each node that comes would be read of by all before it. */
  #isGathering = false;
  // BOUNDED: by the lines of one step.
  #inbox: [node: CrowdNode, line: Buffer][] = [];

  constructor(count: number) {
    this.nodes = Array.from({ length: count }, (_, i) => {
      const address = `172.${16 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
      const rest = { vxlanPort: 4789, sealed: null, manager: false, listen: null, advertise: null, mesh: true };
      return new CrowdNode({ name: `node${i}`, address, ...rest }, this);
    });
  }

  /** How many lines the leader has sent that are not read yet. */
  get unread(): number {
    return this.#inbox.length;
  }

  /** Whether tasks drain: nodes tell at once then. */
  get isDraining(): boolean {
    return this.#draining.size > 0;
  }

  /** Gives all snapshots to the nodes, in turn, as slow links would take them. The leader encodes them meanwhile. */
  takeSnapshots(): void {
    while (this.loading.size > 0) for (const node of this.loading) if (!node.takeLines()) this.loading.delete(node);
  }

  /** Whether the node reads nothing yet. */
  isPassedOver(node: CrowdNode): boolean {
    return this.#isGathering && node !== this.nodes[0];
  }

  /** Only keeps it: the work of reading is not the leader's. */
  received(node: CrowdNode, line: Buffer): void {
    if (this.isPassedOver(node) && !startsWith(line, SESSION)) return;
    this.#inbox.push([node, line]);
  }

  /** `join` opens a session of some nodes at once. All nodes are then at the revision of the first. */
  async gather(atOnce: number, join: (nodes: readonly CrowdNode[]) => Promise<void>): Promise<void> {
    this.#isGathering = true;
    for (let i = 0; i < this.nodes.length; i += atOnce) await join(this.nodes.slice(i, i + atOnce));
    this.#isGathering = false;
    for (const node of this.nodes) node.revision = this.nodes[0]!.revision;
  }

  /** Reads what came, and returns the nodes that have something to tell. */
  readAll(): Set<CrowdNode> {
    const changed = new Set<CrowdNode>();
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const [node, line] of inbox) {
      for (const message of this.#messagesOf(line)) {
        if (message.type === "session") {
          node.nodeId = message.nodeId;
          this.#nodesById.set(message.nodeId, node);
        } else if (message.type === "snapshot") {
          node.revision = message.revision;
          changed.add(node);
        } else if (message.type === "changes") {
          if (message.after !== node.revision) throw new Error(`${node.identity.name}: a gap after ${node.revision}`);
          node.revision = message.revision;
          node.changesBytes += line.length;
          changed.add(node);
        } else if (message.type === "awaited") {
          node.awaited = Math.max(node.awaited, message.revision);
          if (!node.hasTold) changed.add(node);
        }
      }
    }
    return changed;
  }

  #messagesOf(line: Buffer): readonly StreamMessage[] {
    let messages = this.#read.get(line);
    if (messages !== undefined) return messages;
    messages = startsWith(line, ROWS)
      ? []
      : line
          .toString()
          .trimEnd()
          .split("\n")
          .map((text) => JSON.parse(text) as StreamMessage);
    this.#read.set(line, messages);
    for (const message of messages) if (message.type === "changes") this.#assign(message.changes);
    return messages;
  }

  #assign(changes: Extract<StreamMessage, { type: "changes" }>["changes"]): void {
    for (const { kind, key, row } of changes) {
      if (kind !== "tasks") continue;
      const task = row as Task | null;
      if (task?.desired === "draining") this.#draining.add(key);
      else this.#draining.delete(key);
      const node = task === null ? this.#nodesByTask.get(key) : this.#nodesById.get(task.nodeId ?? "");
      if (node === undefined) continue;
      if (task === null) this.#nodesByTask.delete(key);
      else this.#nodesByTask.set(key, node);
      node.changeTask(key, task === null ? undefined : task.desired === "shutdown");
    }
  }
}

function startsWith(line: Buffer, text: string): boolean {
  return line.toString("latin1", 0, text.length) === text;
}
