// A leader and the ends of its nodes in one process, on a virtual clock on which the leader's measured processor time
// passes: while it works, what arrives waits for it.
import type { CommandInput } from "../../../src/cluster/commands.ts";
import { settingsOf } from "../../../src/cluster/lookup.ts";
import { RowBuckets } from "../../../src/cluster/row-buckets.ts";
import { emptyState, LiveState } from "../../../src/cluster/state.ts";
import { Leader } from "../../../src/leader/leader.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { VirtualClock } from "../../fakes/virtual-clock.ts";
import { countingIds } from "../../leader/ids.ts";
import { Crowd, type CrowdNode } from "./crowd.ts";
import { EventQueue } from "./event-queue.ts";
import { foundedState } from "./founded-state.ts";
import { HandedStore } from "./handed-store.ts";
import type { HttpCosts } from "./http-costs.ts";
import { settle, threadMilliseconds } from "./thread-time.ts";
import {
  BEAT_MS,
  COMING_AT_ONCE,
  CONNECTIONS_A_NODE,
  FIRST_WAIT_MS,
  JOINS_AT_ONCE,
  LINK_MS,
  WAIT_MS,
} from "./timing.ts";

export class Simulation {
  readonly crowd: Crowd;
  readonly #clock = new VirtualClock(0);
  readonly #newId = countingIds();
  readonly #events = new EventQueue();
  leader: Leader;
  /** Processor milliseconds of the leader. */
  busyMs = 0;
  /** Processor milliseconds from a line's arrival at a node to its rows in force. */
  nodeMs = 0;
  readonly #http: HttpCosts;
  readonly #first: LiveState;
  /** Reports and beats that came in the work that is measured. */
  #reports = 0;
  #beats = 0;
  /** Connections that came in it. */
  #connections = 0;
  /** Whether nodes report and beat. */
  isLive = false;
  /** Milliseconds in which nodes wrote their reports while the leader's work was measured. */
  #notLeadersMs = 0;
  /** The processor's milliseconds at which the work began that is measured. */
  #workBegan = 0;
  /** When the leader is done with what it has begun. */
  #freeAt = 0;
  // BOUNDED: by the nodes. When the report of each arrives that is to report.
  readonly #reporting = new Map<CrowdNode, number>();

  /** `http` is added for each report, beat and line. */
  constructor(nodes: number, http: HttpCosts, state: LiveState = emptyState()) {
    this.#http = http;
    this.crowd = new Crowd(nodes);
    this.#first = state;
    this.leader = this.#newLeader(state);
  }

  /** Virtual milliseconds, when the leader is done. */
  get now(): number {
    return this.#freeAt;
  }

  /** Starts the leader, and opens a session of every node. No virtual time passes. */
  async start(): Promise<void> {
    const { now } = this;
    if (settingsOf(this.#first) === undefined) {
      const { identity } = this.crowd.nodes[0]!;
      this.leader = this.#newLeader(await foundedState(this.#first, { identity, newId: this.#newId }));
    }
    await this.#work([() => this.leader.start()]);
    await this.crowd.gather(JOINS_AT_ONCE, (nodes) => this.#work(nodes.map((node) => () => node.join(this.leader))));
    this.#freeAt = now;
  }

  /**
   * Another leader takes the state over, and all nodes, which have that state, come to it at once; virtual milliseconds until
   * all is in force.
   */
  async replaceLeader(): Promise<number> {
    const { state } = this.leader;
    if (!(state instanceof LiveState)) throw new Error("the leader's state cannot be handed over");
    await this.leader.stop();
    const began = this.now;
    this.leader = this.#newLeader(state);
    await this.#work([() => this.leader.start()]);
    const before = threadMilliseconds();
    const has = RowBuckets.of(state).digests();
    const at = began + threadMilliseconds() - before;
    const join = (node: CrowdNode): Promise<void> => {
      this.#connections += CONNECTIONS_A_NODE;
      return node.join(this.leader, has);
    };
    const { nodes } = this.crowd;
    const joinFrom = (first: number): void => {
      const some = nodes.slice(first, first + COMING_AT_ONCE);
      for (const node of some) this.#events.add({ at, happen: () => join(node) });
      if (some.length > 0) this.#events.add({ at, happen: async () => joinFrom(first + some.length) });
    };
    joinFrom(0);
    await this.#run(() => nodes.every(({ sessionId }) => sessionId !== undefined));
    await this.untilApplied();
    const lost = nodes.length - this.leader.state.nodes.count("state", "ready");
    if (lost > 0) throw new Error(`${lost} nodes count as lost while they come to the new leader`);
    return this.now - began;
  }

  /** The node comes anew, and is sent the whole state. */
  async reload(node: CrowdNode): Promise<void> {
    await this.#work([() => node.join(this.leader)]);
    await this.untilApplied();
  }

  /** Has commands carried out, several at once. No virtual time passes, and no node reports. */
  async load(commands: Iterable<CommandInput>, atOnce: number): Promise<void> {
    const { now } = this;
    let some: (() => Promise<unknown>)[] = [];
    for (const command of commands) {
      some.push(() => this.leader.execute(command));
      if (some.length < atOnce) continue;
      await this.#work(some);
      some = [];
    }
    await this.#work(some);
    this.#freeAt = now;
  }

  /** From now on nodes report what they have not reported, and beat. */
  goLive(): void {
    this.isLive = true;
    for (const [i, node] of this.crowd.nodes.entries()) {
      this.#reportSoon(node);
      this.#beat(node, this.now + (BEAT_MS * i) / this.crowd.nodes.length);
    }
  }

  /** Virtual milliseconds from the command's arrival at the leader until every node has told that it is in force. */
  async change(command: CommandInput): Promise<number> {
    const at = this.now;
    let everywhereAt: number | undefined;
    this.#events.add({
      at,
      happen: async () => {
        const { revision } = await this.leader.execute(command);
        this.leader.waitApplied(revision, WAIT_MS).then((behind) => {
          if (behind.length > 0) throw new Error(`${behind.length} nodes are behind`);
          everywhereAt = this.#amidWork();
        });
      },
    });
    await this.#run(() => everywhereAt !== undefined);
    return everywhereAt! - at;
  }

  /** Lets virtual time pass. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    await this.#run(() => Math.max(this.now, this.#events.nextAt) > end);
    await this.#advance(Math.max(end, this.now));
  }

  /** Lets time pass until all nodes have told that they have all in force. */
  async untilApplied(waitMs = FIRST_WAIT_MS): Promise<void> {
    let isEverywhere = false;
    this.leader.waitApplied(this.leader.state.revision, waitMs).then((behind) => {
      if (behind.length > 0) throw new Error(`${behind.length} nodes are behind`);
      isEverywhere = true;
    });
    await this.#run(() => isEverywhere);
  }

  async stop(): Promise<void> {
    await this.leader.stop();
  }

  #newLeader(state: LiveState): Leader {
    const config = { reservedPorts: [] };
    const store = new HandedStore(state);
    return new Leader({ store, clock: this.#clock, log: silentLog, newId: this.#newId, config });
  }

  async #run(isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      const at = Math.max(this.#events.nextAt, this.#freeAt);
      if (at === Infinity) throw new Error("nothing more is to happen");
      await this.#advance(at);
      await this.#work(this.#events.takeUntil(this.#freeAt).map(({ happen }) => happen));
    }
  }

  /** Moves the clock on; the leader's timers are its work too. */
  async #advance(at: number): Promise<void> {
    this.#freeAt = Math.max(this.#freeAt, at);
    const before = threadMilliseconds();
    this.#workBegan = before;
    await this.#clock.advance(this.#freeAt - this.#clock.monotonic());
    await this.#rest();
    this.#spend(threadMilliseconds() - before);
    this.#deliver();
  }

  /** The leader works on requests that are there at once. */
  async #work(requests: readonly (() => Promise<unknown>)[]): Promise<void> {
    if (requests.length === 0) return;
    const before = threadMilliseconds();
    this.#workBegan = before;
    await Promise.all(requests.map((request) => request()));
    await this.#rest(); // those that wait are told
    this.crowd.takeSnapshots();
    this.#spend(Math.max(0, threadMilliseconds() - before - this.#notLeadersMs));
    this.#notLeadersMs = 0;
    this.#deliver();
  }

  /** Until the leader has done what is queued in it. */
  async #rest(): Promise<void> {
    for (let revision = -1; revision !== this.leader.state.revision; await settle())
      revision = this.leader.state.revision;
  }

  /** The leader has worked for so long, besides what HTTP takes. */
  #spend(ms: number): void {
    const allMs = ms + this.#httpMs;
    this.#reports = 0;
    this.#beats = 0;
    this.#connections = 0;
    this.busyMs += allMs;
    this.#freeAt += allMs;
  }

  /** What HTTP takes of the reports that came and the lines that were sent in the work under way. */
  get #httpMs(): number {
    const { reportMs, beatMs, connectMs, lineMs } = this.#http;
    const connectionsMs = this.#connections * connectMs;
    return this.#reports * reportMs + this.#beats * beatMs + connectionsMs + this.crowd.unread * lineMs;
  }

  /** Virtual milliseconds at this point of the leader's work: what it answers here does not wait for the rest. */
  #amidWork(): number {
    const ms = threadMilliseconds() - this.#workBegan - this.#notLeadersMs;
    return this.#freeAt + Math.max(0, ms) + this.#httpMs;
  }

  /** What the leader sent is on its way to the nodes, which will answer it. */
  #deliver(): void {
    for (const node of this.crowd.readAll()) if (this.isLive) this.#reportSoon(node);
  }

  /** Once the node has in force what came, and tells it. */
  #reportSoon(node: CrowdNode): void {
    const inForce = this.now + LINK_MS + this.nodeMs;
    const at = (node.hasNews ? inForce : Math.max(inForce, node.tellsAt)) + LINK_MS;
    if ((this.#reporting.get(node) ?? Number.POSITIVE_INFINITY) <= at) return;
    this.#reporting.set(node, at);
    this.#events.add({
      at,
      happen: () => {
        if (this.#reporting.get(node) !== at) return Promise.resolve();
        this.#reporting.delete(node);
        return this.#report(node);
      },
    });
  }

  #beat(node: CrowdNode, at: number): void {
    this.#events.add({
      at,
      happen: () => {
        if (this.isLive) this.#beat(node, at + BEAT_MS);
        return this.#reporting.has(node) ? Promise.resolve() : this.#report(node);
      },
    });
  }

  async #report(node: CrowdNode): Promise<void> {
    if (node.sessionId === undefined) return;
    node.tells(this.now);
    if (!node.hasNews) {
      this.#beats++;
      this.leader.sessions.beat(node.sessionId, node.revision);
      return;
    }
    this.#reports++;
    const before = threadMilliseconds();
    const body = node.report();
    this.#notLeadersMs += threadMilliseconds() - before;
    await this.leader.sessions.report(node.sessionId, JSON.parse(body));
  }
}
