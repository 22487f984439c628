// The one writer of the cluster's state. Everything that changes it goes through `#transact`: one at a time, drafted,
// reconciled, committed, and only then seen by anybody.
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import { Command, type CommandInput, type CommandResult } from "../cluster/commands.ts";
import { type KnownState, knownOf, whyNotNext } from "../cluster/identity.ts";
import {
  BEATS_PER_PERIOD,
  encodeLine,
  LogQuery,
  LogRefusal,
  Report,
  type ReportInput,
  SessionRequest,
} from "../cluster/protocol.ts";
import type { ClusterIdentity, Node, State } from "../cluster/schema.ts";
import { Draft, emptyState, type LiveState } from "../cluster/state.ts";
import { check } from "../lib/check.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { ConfigError, messageOf, PlatformError, UserError } from "../lib/errors.ts";
import { cidr, contains } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { AppliedBarrier } from "./applied-barrier.ts";
import { type CommandContext, carryOut } from "./apply-command.ts";
import { DrainClock } from "./drain-clock.ts";
import { freeReleased } from "./ipam.ts";
import { BEHIND_MS, Lag, STUCK_MS } from "./lag.ts";
import { Liveness } from "./liveness.ts";
import { LogRelay } from "./log-relay.ts";
import { createFirstNetworks } from "./networks.ts";
import { applyReport, registerNode } from "./nodes.ts";
import type { ReservedPort } from "./publishing.ts";
import { reconcile } from "./scheduler.ts";
import { ChangeLines, secretRowsFor } from "./secrets.ts";
import { SharedSnapshots } from "./snapshot-lines.ts";
import { CannotLeadError, type Store } from "./store.ts";

export interface LeaderConfig {
  /** What the networks' subnets are cut from. */
  pool: string;
  /** A node whose session is silent for longer is down. */
  livenessMs: number;
  /** Ports that no service may publish. */
  reservedPorts: readonly ReservedPort[];
  /** What names are found under in DNS: nothing else can be named so. */
  domain: string;
  /** What this manager's node has seen of a cluster; left out: nothing. */
  known?: KnownState | undefined;
  /** The store is a backup that was put back: nodes are to take it though it is older than what they have. */
  newEpoch?: boolean;
}

export interface LeaderOptions {
  store: Store;
  clock: Clock;
  log: Log;
  newId: () => string;
  config: LeaderConfig;
}

/** The leader's way down to one node. No call throws, and none waits for the node. */
export interface SessionSink {
  send(line: Buffer): void;
  /** Takes the lines one by one as the node's link takes them; what is sent meanwhile follows the last one. */
  sendSnapshot(lines: Iterator<Buffer>): void;
  close(): void;
}

interface NodeSession {
  id: string;
  nodeId: string;
  sink: SessionSink;
  /** The number of the newest report. */
  seq: number;
  isRefusalLogged: boolean;
  /** The highest revision in force in the node's data path; 0 until it has told this session. */
  applied: number;
  /** Whether it has told all its statuses. */
  reported: boolean;
}

/** News of one session, which counts within the transaction and is kept when it commits. */
interface News extends Pick<NodeSession, "seq" | "applied" | "reported"> {
  sessionId: string | undefined;
}

const MAX_QUEUED = 10_000;
const MAX_FOREIGN = 1000;
/** What a person may do about a store that is not the node's. */
const RESTORE =
  "put a backup of the store back and start once with 'overlayd --new-epoch', or run 'overlayctl leave --force' to forget the node's cluster";

export class Leader {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #newId: () => string;
  readonly #config: LeaderConfig;
  readonly #drains: DrainClock;
  readonly #lag: Lag;
  /** Silence counts from when this manager began to lead. */
  #liveness: Liveness;
  readonly #barrier: AppliedBarrier;
  readonly #logs: LogRelay;
  // BOUNDED: by the nodes, one session each; keyed by session id.
  readonly #sessions = new Map<string, NodeSession>();
  // BOUNDED: by MAX_FOREIGN; keyed by node name. Why the node was refused last.
  readonly #foreign = new Map<string, string>();
  readonly #snapshots = new SharedSnapshots();
  #state: LiveState = emptyState();
  /** The revision that nodes heard of last: those after it hold nothing for nodes. */
  #told = 0;
  /** Why nothing can be asked of it; undefined while it leads. */
  #refusal: string | undefined = "this manager has not started to lead";
  #turn: Promise<unknown> = Promise.resolve();
  #queued = 0;
  #suspended = false;
  #refusedStatuses = 0;
  #beat: Timer | undefined;

  constructor({ store, clock, log, newId, config }: LeaderOptions) {
    this.#store = store;
    this.#clock = clock;
    this.#log = log;
    this.#newId = newId;
    this.#config = config;
    this.#liveness = new Liveness(clock, config.livenessMs);
    this.#drains = new DrainClock(clock);
    this.#lag = new Lag(clock);
    this.#logs = new LogRelay(clock, newId);
    this.#barrier = new AppliedBarrier(clock, (revision) => this.#behind(revision));
  }

  get state(): State {
    return this.#state;
  }

  /** How many statuses of tasks it has not taken over, for they were not their node's own. */
  get refusedStatuses(): number {
    return this.#refusedStatuses;
  }

  /**
   * Resolves when it leads. Throws ConfigError when the pool no longer holds the networks that there are, and
   * CannotLeadError when the store is not the one that this manager's node knows.
   */
  async start(): Promise<void> {
    const { lost } = await this.#store.campaign();
    const loaded = await this.#store.load();
    const known = loaded.cluster;
    loaded.cluster = this.#identityOf(loaded);
    this.#state = loaded;
    this.#told = loaded.revision;
    this.#checkPool();
    // An identity that the store has already is not written again: a full disk keeps no manager from leading.
    if (!isDeepStrictEqual(this.#state.cluster, known)) await this.#store.identify(this.#state.cluster!);
    this.#liveness = new Liveness(this.#clock, this.#config.livenessMs);
    this.#refusal = undefined;
    const stepDown = () => this.#stepDown(`this manager leads no longer: ${messageOf(lost.reason)}`);
    if (lost.aborted) return stepDown();
    lost.addEventListener("abort", stepDown);
    if (this.#state.networks.size === 0) {
      const { pool, now, newId } = this.#context();
      await this.#transact((draft) => createFirstNetworks(draft, pool, now, newId));
    }
    this.#log.info("leads the cluster", { revision: this.#state.revision, count: this.#state.nodes.size });
    this.#scheduleBeat();
  }

  /** Throws UserError 503 when this leader leads another cluster than the request names. */
  requireCluster(id: string): void {
    const own = this.#state.cluster?.id;
    if (own !== id) throw new UserError(503, `it leads another cluster (${own}) than that of this node (${id})`);
  }

  /** Ends all sessions, and resolves when nothing is being written any more. The store stays open. */
  async stop(): Promise<void> {
    this.#stepDown("this manager is stopping");
    await this.#turn;
  }

  /** Throws UserError. */
  async execute(input: CommandInput): Promise<CommandResult> {
    const command = check(Command, input);
    const { value, revision } = await this.#transact(
      (draft) => carryOut(draft, command, this.#context()),
      (id) => {
        if (command.type === "node.remove") this.#forget(id);
      },
    );
    return { revision, id: value };
  }

  /** Begins a node's session: the sink gets the snapshot, then each change. Throws UserError. */
  async openSession(input: SessionRequest, sink: SessionSink): Promise<string> {
    const { known, ...identity } = check(SessionRequest, input);
    this.#requireLeading();
    const refusal = known === null ? undefined : whyNotNext(known, this.#known());
    if (refusal !== undefined) {
      this.#logForeign(identity.name, refusal);
      throw new UserError(409, refusal);
    }
    const id = this.#newId();
    await this.#transact(
      (draft) => registerNode(draft, identity, this.#context()).id,
      (nodeId) => {
        this.#endSessionOf(nodeId);
        this.#liveness.heard(nodeId);
        const known = { seq: 0, applied: 0, reported: false, isRefusalLogged: false };
        this.#sessions.set(id, { id, nodeId, sink, ...known });
        const { livenessMs } = this.#config;
        sink.send(encodeLine({ type: "session", sessionId: id, nodeId, livenessMs, state: this.#known() }));
        const own = secretRowsFor(nodeId, this.#state);
        // A node that loads shows that it lives, though it reports nothing yet.
        const heard = () => this.#liveness.heard(nodeId);
        sink.sendSnapshot(this.#snapshots.linesFor(this.#state, this.#told, own, heard));
      },
    );
    this.#log.info("a node's session began", { node: identity.name, address: identity.address });
    return id;
  }

  /** The stream is gone. The node is judged by its silence, not by this. */
  closeSession(sessionId: string): void {
    this.#sessions.delete(sessionId);
  }

  /** Throws UserError 404 when the session is over: the node begins a new one then. */
  async report(sessionId: string, input: ReportInput): Promise<void> {
    const session = this.#sessions.get(sessionId);
    // A report that the leader does not understand counts too: the node lives.
    if (session !== undefined) this.#liveness.heard(session.nodeId);
    const report = check(Report, input);
    this.#requireSession(sessionId);
    await this.#transact(
      (draft, news) => {
        const { seq, applied, reported, nodeId } = this.#requireSession(sessionId);
        // An earlier report that was held up on its way knows less than the ones after it.
        if (report.seq !== 0 && report.seq <= seq) return 0;
        news.sessionId = sessionId;
        news.seq = report.seq;
        news.applied = Math.max(applied, Math.min(report.applied, this.#told));
        news.reported = reported || report.full;
        return applyReport(draft, nodeId, report);
      },
      (refused, { sessionId: isNews, seq, applied, reported }) => {
        const session = this.#sessions.get(sessionId); // it may have ended during the commit
        if (session === undefined || isNews === undefined) return;
        Object.assign(session, { seq, applied, reported });
        this.#countRefused(session, refused);
      },
    );
  }

  /** Resolves with the names of the live nodes that have not applied `revision`: none, or when the time is over. */
  async waitApplied(revision: number, timeoutMs: number): Promise<string[]> {
    this.#requireLeading();
    return this.#barrier.wait(revision, timeoutMs);
  }

  /** What a task printed, from its node. Throws UserError. */
  async readLog(taskId: string, input: LogQuery): Promise<Readable> {
    this.#requireLeading();
    const query = check(LogQuery, input);
    const task = this.#state.tasks.get(taskId);
    const node = this.#state.nodes.get(task?.nodeId ?? "");
    if (task === undefined) throw new UserError(404, `there is no task ${taskId}`);
    if (node === undefined) throw new UserError(404, "the task is on no node yet");
    const session = this.#sessionOf(node.id);
    if (session === undefined) throw new UserError(409, `node '${node.name}' cannot be asked: it has no session`);
    return this.#logs.ask(session, node.name, taskId, query);
  }

  /** Takes a log that the leader asked the session's node for. Throws UserError 404 when no client waits for it. */
  bringLog(sessionId: string, requestId: string, log: Readable): void {
    this.#logs.bring(sessionId, requestId, log);
  }

  /** Likewise. */
  refuseLog(sessionId: string, requestId: string, input: LogRefusal): void {
    const { code, message } = check(LogRefusal, input);
    this.#logs.refuse(sessionId, requestId, new UserError(code, message));
  }

  /** Counts statuses that were refused: of other nodes' tasks, or under an id that the node had before. */
  #countRefused(session: NodeSession, count: number): void {
    if (count === 0) return;
    this.#refusedStatuses += count;
    if (session.isRefusalLogged) return;
    session.isRefusalLogged = true;
    const node = this.#state.nodes.get(session.nodeId)?.name ?? session.nodeId;
    this.#log.warn("a node reports statuses of tasks that are not its own; they are refused", { node, count });
  }

  /**
   * `news`: what `work` knows of one session that counts now, and is kept when all is committed. The revision is one that
   * every node hears of, with all that was changed.
   */
  async #transact<T>(
    work: (draft: Draft, news: News) => T,
    whenCommitted?: (value: T, news: News) => void,
  ): Promise<{ value: T; revision: number }> {
    if (this.#queued >= MAX_QUEUED) throw new UserError(503, "the leader is busy; try again");
    this.#queued++;
    const turn = this.#turn.then(async () => {
      this.#requireLeading();
      const draft = new Draft(this.#state);
      const news: News = { sessionId: undefined, seq: 0, applied: 0, reported: false };
      const value = work(draft, news);
      this.#judgeHealth(draft, news);
      reconcile(draft, {
        ...this.#context(),
        reported: this.#reportedNodes(news),
        applied: this.#appliedEverywhere(draft.state, news),
        drainedMs: (task) => this.#drains.elapsedMs(task),
      });
      freeReleased(draft, this.#appliedEverywhere(draft.state, news));
      await this.#commit(draft);
      this.#drains.keep(this.#state);
      whenCommitted?.(value, news);
      this.#barrier.check();
      return { value, revision: this.#told };
    });
    this.#turn = turn.catch(() => undefined).finally(() => this.#queued--);
    return turn;
  }

  async #commit(draft: Draft): Promise<void> {
    const { changes, revision } = draft;
    if (changes.length === 0) return;
    await this.#store.commit(changes, revision);
    const lines = new ChangeLines(this.#state, draft.state, changes, this.#told);
    const next = this.#state.copy();
    next.apply(changes, revision);
    this.#state = next;
    if (lines.isEmpty) return;
    this.#told = revision;
    for (const { nodeId, sink } of this.#sessions.values()) sink.send(lines.of(nodeId)!);
  }

  #context(): CommandContext {
    return {
      now: this.#clock.now(),
      newId: this.#newId,
      pool: cidr(this.#config.pool),
      reservedPorts: this.#config.reservedPorts,
      domain: this.#config.domain,
      silent: (nodeId) => this.#liveness.silent(nodeId),
    };
  }

  #reportedNodes(news: News): ReadonlySet<string> {
    const sessions = [...this.#sessions.values()];
    const reported = sessions.filter((session) => session.reported || (session.id === news.sessionId && news.reported));
    return new Set(reported.map(({ nodeId }) => nodeId));
  }

  /** Nodes that are stuck are not waited for: they send to no address that was released since (agent/in-force.ts). */
  #appliedEverywhere(state: State, news: News): number {
    const nodes = readyNodes(state).filter(({ health }) => health !== "stuck");
    return Math.min(...nodes.map(({ id }) => this.#appliedBy(id, news)));
  }

  /** The newest revision that the node lacks nothing of. */
  #appliedBy(nodeId: string, news?: News): number {
    const session = this.#sessionOf(nodeId);
    if (session === undefined) return 0;
    const applied = session.id === news?.sessionId ? news.applied : session.applied;
    return applied === this.#told ? this.#state.revision : applied;
  }

  /** Finds nodes that have not put in force what they were told, and those that are silent while the leader judges no node. */
  #judgeHealth(draft: Draft, news?: News): void {
    for (const node of readyNodes(draft.state)) {
      this.#lag.note(node.id, this.#appliedBy(node.id, news), this.#state.revision);
      const health = this.#healthOf(node.id);
      if (health === node.health) continue;
      draft.put("nodes", { ...node, health });
      if (health === "behind" || health === "stuck") {
        this.#log.warn("a node does not put the newest state in force", { node: node.name, reason: health });
      }
    }
  }

  #healthOf(nodeId: string): Node["health"] {
    const lagMs = this.#lag.ms(nodeId);
    if (lagMs >= STUCK_MS) return "stuck";
    if (this.#suspended && this.#liveness.silent(nodeId)) return "silent";
    return lagMs >= BEHIND_MS ? "behind" : "well";
  }

  #behind(revision: number): string[] {
    return readyNodes(this.#state)
      .filter(({ id }) => this.#appliedBy(id) < revision)
      .map(({ name }) => name);
  }

  #sessionOf(nodeId: string): NodeSession | undefined {
    return [...this.#sessions.values()].find((session) => session.nodeId === nodeId);
  }

  #requireSession(sessionId: string): NodeSession {
    const session = this.#sessions.get(sessionId);
    if (session === undefined) throw new UserError(404, "this session is over; begin a new one");
    return session;
  }

  #requireLeading(): void {
    if (this.#refusal !== undefined) throw new UserError(503, this.#refusal);
  }

  /** Once: the node asks again every few seconds. */
  #logForeign(node: string, reason: string): void {
    if (this.#foreign.get(node) === reason || this.#foreign.size >= MAX_FOREIGN) return;
    this.#foreign.set(node, reason);
    this.#log.warn("a node does not accept this manager as its leader", { node, reason });
  }

  #known(): KnownState {
    return { ...this.#state.cluster!, revision: this.#told };
  }

  /** The identity of the state that was loaded, or of a new cluster when there is no state. */
  #identityOf(state: State): ClusterIdentity {
    const { known, newEpoch = false } = this.#config;
    const stored = knownOf(state);
    if (stored === undefined) {
      if (newEpoch) throw new PlatformError("the store is empty: a new epoch is for one that was restored", RESTORE);
      if (known === undefined) return { id: this.#newId(), epoch: 1 };
      throw new CannotLeadError(`the store is empty, but this node is of cluster ${known.id}`, RESTORE);
    }
    if (known !== undefined && known.id !== stored.id) {
      const which = `the store is of cluster ${stored.id}, but this node is of cluster ${known.id}`;
      throw new CannotLeadError(which, RESTORE);
    }
    if (newEpoch) {
      // Higher than that of an earlier restore, which the backup and this node may know nothing of.
      const seconds = Math.floor(this.#clock.now() / 1000);
      const epoch = Math.max(stored.epoch, known?.epoch ?? 0, seconds) + 1;
      this.#log.warn("this manager begins a new epoch: nodes take its state even if theirs is newer", { count: epoch });
      return { id: stored.id, epoch };
    }
    const refusal = known === undefined ? undefined : whyNotNext(known, stored);
    if (refusal !== undefined) throw new CannotLeadError(`the store cannot be used: ${refusal}`, RESTORE);
    return { id: stored.id, epoch: stored.epoch };
  }

  #checkPool(): void {
    const pool = cidr(this.#config.pool);
    const outside = [...this.#state.networks.values()].find(({ subnet }) => !contains(pool, cidr(subnet).base));
    if (outside === undefined) return;
    throw new ConfigError(
      "pool",
      `'${this.#config.pool}' does not hold ${outside.subnet} of network '${outside.name}', which exists already`,
    );
  }

  #forget(nodeId: string): void {
    this.#liveness.forget(nodeId);
    this.#lag.forget(nodeId);
    this.#endSessionOf(nodeId);
  }

  #endSessionOf(nodeId: string): void {
    const session = this.#sessionOf(nodeId);
    if (session === undefined) return;
    this.#sessions.delete(session.id);
    session.sink.close();
  }

  #stepDown(reason: string): void {
    this.#refusal = reason;
    this.#beat?.cancel();
    for (const { sink } of this.#sessions.values()) sink.close();
    this.#sessions.clear();
    this.#barrier.close();
    this.#log.info("leads no longer", { reason });
  }

  #scheduleBeat(): void {
    if (this.#refusal !== undefined) return;
    this.#beat = this.#clock.after(this.#config.livenessMs / BEATS_PER_PERIOD, () => {
      this.#scheduleBeat();
      const alive = encodeLine({ type: "alive" });
      for (const { sink } of this.#sessions.values()) sink.send(alive);
      this.#judge().catch((error: unknown) => this.#log.error("cannot record lost nodes", { err: error }));
    });
  }

  async #judge(): Promise<void> {
    const ready = readyNodes(this.#state);
    const { lost, suspended } = this.#liveness.judge(ready.map(({ id }) => id));
    if (suspended && !this.#suspended) this.#log.warn("most nodes are silent at once; none is judged");
    this.#suspended = suspended;
    for (const { id } of ready) this.#lag.note(id, this.#appliedBy(id), this.#state.revision);
    const isChanged = ready.some(({ id, health }) => health !== this.#healthOf(id));
    if (lost.length === 0 && !isChanged) return;
    await this.#transact(
      (draft) => {
        const nodes = lost.filter((id) => this.#liveness.silent(id)).map((id) => draft.state.nodes.get(id));
        const down = nodes.filter((node) => node !== undefined);
        for (const node of down) draft.put("nodes", { ...node, state: "down", health: "well" });
        return down;
      },
      (down) => {
        for (const { id, name, address } of down) {
          this.#log.warn("a node is down: its session is lost", { node: name, address });
          this.#endSessionOf(id);
          this.#lag.forget(id);
        }
      },
    );
  }
}

function readyNodes(state: State) {
  return [...state.nodes.values()].filter((node) => node.state === "ready");
}
