// The leader of the cluster: takes commands and nodes' sessions and reports, and lets the state writer make of them what
// the cluster is next.
import type { Readable } from "node:stream";
import { isDeepStrictEqual } from "node:util";
import { Command, type CommandInput, type CommandResult } from "../cluster/commands.ts";
import { Features } from "../cluster/features.ts";
import type { StateVersion } from "../cluster/identity.ts";
import { findByName, settingsOf } from "../cluster/lookup.ts";
import { LogQuery, LogRefusal, type ReportInput, SessionRequest } from "../cluster/protocol.ts";
import type { Change, ClusterIdentity, Node } from "../cluster/schema.ts";
import type { ClusterSettings } from "../cluster/settings.ts";
import { type AppliedChange, stateToJson } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { createSecret } from "../trust/token.ts";
import { AppliedBarrier } from "./applied-barrier.ts";
import { applyCommand } from "./apply-command.ts";
import { type Commit, CommitLog } from "./commit-log.ts";
import type { LeaderContext, ReservedPort } from "./context.ts";
import { Addresses } from "./ipam.ts";
import { LogRelay } from "./log-relay.ts";
import { NodeSessions } from "./node-sessions.ts";
import { admitNode, type Certified, type Joining, renewNode } from "./nodes.ts";
import { Progress } from "./progress.ts";
import { Reconciler } from "./reconciler.ts";
import type { ChangeLines } from "./secrets.ts";
import { type SessionPeer, type SessionSink, Sessions } from "./sessions.ts";
import { type CopyAnswer, CopyRequest } from "./state-copy.ts";
import { StateWriter } from "./state-writer.ts";
import type { Leadership, Store } from "./store.ts";
import { identityOf } from "./store-identity.ts";

/** How long a node that joins waits for the address of one that was removed. */
const HELD_VTEP_MS = 8000;
/** How long a command waits for an address that was released a moment ago. */
const HELD_ADDRESS_MS = 2000;
/** How long a standby waits for the next commit. */
const COPY_WAIT_MS = 20_000;

export interface LeaderConfig {
  /** Ports that no service may publish. */
  reservedPorts: readonly ReservedPort[];
  /** The version of the state that is on this manager's node's disk; left out: there is none. */
  nodeVersion?: StateVersion | undefined;
  /** The store is a backup that was put back: nodes are to take it though it is older than what they have. */
  newEpoch?: boolean;
  /** Called when a node or standby says that it follows a newer epoch than this leader's. It proves nothing. */
  heardOfNewerEpoch?: () => void;
  /** Throws UserError 409 when the managers cannot do without this one; left out: they can without any. `isRemoved`: the node goes, too. */
  requireDispensable?: (manager: Node, isRemoved: boolean) => Promise<void>;
  /** Left out: those of this version. */
  features?: Features;
}

interface LeaderOptions {
  store: Store;
  clock: Clock;
  log: Log;
  newId: () => string;
  /** Left out: the system's. */
  newSecret?: () => string;
  config: LeaderConfig;
}

export class Leader {
  readonly #options: LeaderOptions;
  readonly #log: Log;
  readonly #addresses = new Addresses();
  readonly #features: Features;
  readonly #sessions: Sessions;
  readonly #writer: StateWriter;
  readonly #reconciler: Reconciler;
  readonly #progress: Progress;
  readonly #barrier: AppliedBarrier;
  readonly #nodes: NodeSessions;
  readonly #logs: LogRelay;
  readonly #over = new AbortController();
  #leadership: Leadership | undefined;
  /** Aborted when it leads by another leadership than before. */
  #untilChanged = new AbortController();
  /** For standbys; undefined until it leads. */
  #commits: CommitLog | undefined;
  /** Why nothing can be asked of it; undefined while it leads. */
  #notLeading: string | undefined = "this manager has not started to lead";

  constructor(options: LeaderOptions) {
    const { store, clock, log, newId } = options;
    this.#options = options;
    this.#features = options.config.features ?? new Features();
    this.#log = log;
    const sessions = new Sessions(clock);
    this.#sessions = sessions;
    const writer = new StateWriter({
      store,
      requireLeading: () => this.requireLeading(),
      complete: (draft) => this.#reconciler.complete(draft, this.#context()),
      committed: (changes, lines) => this.#committed(changes, lines),
      lacking: () => sessions.lacking(),
    });
    const progress = new Progress(writer);
    const barrier = new AppliedBarrier(clock, progress, (revision) =>
      sessions.await(Math.min(revision, writer.sentRevision)),
    );
    const reconciler = new Reconciler({ clock, writer, sessions, progress });
    const context = () => this.#context();
    this.#nodes = new NodeSessions({
      ...{ writer, reconciler, progress, barrier, sessions },
      ...{ clock, log, newId, context, features: this.#features },
      livenessMs: () => this.settings.livenessMs,
    });
    this.#writer = writer;
    this.#reconciler = reconciler;
    this.#progress = progress;
    this.#barrier = barrier;
    this.#logs = new LogRelay(clock, newId);
  }

  /** It is changed in place. */
  get state(): State {
    return this.#writer.state;
  }

  /** Chosen for the whole cluster. There are some once it leads. */
  get settings(): ClusterSettings {
    return settingsOf(this.state)!;
  }

  /** How many statuses of tasks it has not taken over, for they were not their node's own. */
  get refusedStatuses(): number {
    return this.#nodes.refusedStatuses;
  }

  /** Aborted, with the reason, when it leads no longer. It never does again: the next leadership is another Leader's. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /**
   * Resolves when it leads. Throws CannotLeadError when the store has no cluster, or not the one that this manager's node
   * knows; then another process may lead.
   */
  async start(): Promise<void> {
    const leadership = await this.#options.store.campaign();
    this.#leadership = leadership;
    try {
      await this.#begin(leadership);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async #begin(leadership: Leadership): Promise<void> {
    const { store, clock, config } = this.#options;
    const loaded = await store.load();
    const { cluster: stored } = loaded;
    const { nodeVersion, newEpoch = false } = config;
    loaded.cluster = identityOf(loaded, { nodeVersion, newEpoch, now: clock.now(), log: this.#log });
    // An identity that the store has already is not written again: a full disk keeps no manager from leading.
    if (!isDeepStrictEqual(loaded.cluster, stored)) await store.identify(loaded.cluster);
    this.#writer.load(loaded);
    this.#commits = new CommitLog(clock, loaded.revision);
    this.#notLeading = undefined;
    this.#leadBy(leadership);
    if (this.#notLeading !== undefined) return;
    this.#log.info("leads the cluster", { revision: this.state.revision, count: this.state.nodes.size });
    if (this.#notLeading === undefined) this.#nodes.begin();
  }

  /**
   * Has `move` bring the state to another store, while commands wait, and goes on leading with that. `move` gets the state,
   * and resolves with the other store and its leadership. When it throws, everything stays as it was.
   */
  async changeStore(move: (state: State) => Promise<{ store: Store; leadership: Leadership }>): Promise<void> {
    this.requireLeading();
    await this.#writer.hold(async () => {
      const { store, leadership } = await move(this.state);
      this.#leadBy(leadership);
      return store;
    });
  }

  /**
   * What the standby's copy of the state lacks, secrets among it: once there is something, or after a while nothing. Throws
   * UserError 503.
   */
  async copyFor(input: CopyRequest): Promise<CopyAnswer> {
    this.requireLeading();
    const { cluster, revision } = check(CopyRequest, input);
    if (cluster !== null) this.#hears(cluster);
    const isOurs = isDeepStrictEqual(cluster, this.state.cluster);
    if (isOurs) await this.#commits!.wait(revision, COPY_WAIT_MS);
    this.requireLeading();
    const own = this.state.cluster!;
    const commits = isOurs ? this.#commits!.after(revision) : undefined;
    return commits === undefined
      ? { cluster: own, state: stateToJson(this.state) }
      : { cluster: own, commits: [...commits] };
  }

  /** The commits after `revision`, as far as they are known: what a manager that took over has not copied. */
  commitsAfter(revision: number): readonly Commit[] | undefined {
    return this.#commits?.after(revision);
  }

  /** Throws UserError 503 when it does not lead. */
  requireLeading(): void {
    if (this.#notLeading !== undefined) throw new UserError(503, this.#notLeading);
    if (this.#leadership?.isCertain() !== true) throw new UserError(503, "this manager may lead no longer");
  }

  /** Throws UserError 503 when this leader leads another cluster than the request names. */
  requireCluster(id: string): void {
    const own = this.state.cluster?.id;
    if (own !== id) throw new UserError(503, `it leads another cluster (${own}) than that of this node (${id})`);
  }

  /** Ends all sessions, and resolves when nothing is being written any more and another process may lead. The store stays open. */
  async stop(): Promise<void> {
    this.#stepDown("this manager is stopping");
    await this.#writer.settled();
    await this.#leadership?.resign();
  }

  /** Throws UserError. */
  async execute(input: CommandInput): Promise<CommandResult> {
    return this.executeChecked(check(Command, input));
  }

  /** Throws UserError. */
  async executeChecked(command: Command): Promise<CommandResult> {
    this.requireLeading();
    if (command.type === "node.demote" || command.type === "node.remove") {
      const node = findByName("node", this.state.nodes, command.name);
      if (node.role === "manager")
        await this.#options.config.requireDispensable?.(node, command.type === "node.remove");
    }
    const { value: id, revision } = await this.#writer.run(
      (draft) => applyCommand(draft, command, this.#context()),
      (id) => {
        if (command.type === "node.remove") this.#nodes.forget(id);
        if (command.type === "node.leave") this.#nodes.left(id);
      },
    );
    return { revision, id };
  }

  /** Resolves when all that was released at `revision` is free, or that takes too long. */
  async waitFree(revision: number): Promise<void> {
    this.requireLeading();
    await this.#barrier.wait(revision, HELD_ADDRESS_MS);
    await this.#writer.run(() => {}); // a turn frees it
  }

  /** Resolves when the address is no VTEP of a removed node any more, on no live node, or that takes too long. */
  async waitVtep(address: string): Promise<void> {
    this.requireLeading();
    const held = this.state.allocations.get(address);
    if (held !== undefined) await this.#barrier.wait(held.releasedAt!, HELD_VTEP_MS);
  }

  /** Takes a node into the cluster, and returns its row. Throws UserError 409 when its name or address is another node's. */
  async admit(joining: Joining): Promise<Node> {
    this.requireLeading();
    const { value } = await this.#writer.run((draft) => admitNode(draft, joining, this.#context()));
    this.#log.info("a node joined the cluster", { node: value.name, address: value.address });
    return value;
  }

  /** The node has a new certificate. Throws UserError 404 when the node was removed. */
  async renewed(nodeId: string, certified: Certified): Promise<void> {
    this.requireLeading();
    await this.#writer.run((draft) => renewNode(draft, nodeId, certified));
  }

  /** Begins a node's session, and returns its id: the sink gets the snapshot, then each change. Throws UserError. */
  async openSession(peer: SessionPeer, input: SessionRequest, sink: SessionSink): Promise<string> {
    this.requireLeading();
    const request = check(SessionRequest, input);
    if (request.known !== null) this.#hears(request.known);
    return this.#nodes.open(peer, request, sink);
  }

  /** The id of the node whose session it is; undefined: it is over. */
  nodeOfSession(sessionId: string): string | undefined {
    return this.#sessions.get(sessionId)?.nodeId;
  }

  /** The stream of the session is gone. */
  closeSession(sessionId: string): void {
    this.#nodes.close(sessionId);
  }

  /** Throws UserError 404 when the session is over: the node begins a new one then. */
  report(sessionId: string, input: ReportInput): Promise<void> {
    return this.#nodes.report(sessionId, input);
  }

  /** What most reports would say: that the node lives, and which revision it has in force. Throws UserError 404 as `report`. */
  beat(sessionId: string, applied: number): void {
    this.#nodes.beat(sessionId, applied);
  }

  /** Resolves with the names of the live nodes that have not applied `revision`: none, or when the time is over. */
  async waitApplied(revision: number, timeoutMs: number): Promise<string[]> {
    this.requireLeading();
    return this.#barrier.wait(revision, timeoutMs);
  }

  /** What a task printed, from its node. Throws UserError. */
  async readLog(taskId: string, input: LogQuery): Promise<Readable> {
    this.requireLeading();
    const query = check(LogQuery, input);
    const task = this.state.tasks.get(taskId);
    const node = this.state.nodes.get(task?.nodeId ?? "");
    if (task === undefined) throw new UserError(404, `there is no task ${taskId}`);
    if (node === undefined) throw new UserError(404, "the task is on no node yet");
    const session = this.#sessions.of(node.id);
    if (session === undefined) throw new UserError(409, `node '${node.name}' cannot be asked: it has no session`);
    return this.#logs.ask(session, node.name, taskId, query);
  }

  /** Takes a log that the leader asked the session's node for. Throws UserError 404 when no client waits for it. */
  bringLog(sessionId: string, requestId: string, log: Readable): void {
    this.#logs.bring(sessionId, requestId, log);
  }

  /** Takes the node's reason why it brings no log. Throws UserError 404 when no client waits for it. */
  refuseLog(sessionId: string, requestId: string, input: LogRefusal): void {
    const { code, message } = check(LogRefusal, input);
    this.#logs.refuse(sessionId, requestId, new UserError(code, message));
  }

  /** What another machine says that it follows. */
  #hears({ id, epoch }: ClusterIdentity): void {
    const own = this.state.cluster!;
    if (id === own.id && epoch > own.epoch) this.#options.config.heardOfNewerEpoch?.();
  }

  #committed(changes: readonly AppliedChange[], lines: ChangeLines): void {
    for (const { kind, key, row } of changes) if (kind === "networks" && row === null) this.#addresses.forget(key);
    if (changes.length > 0) {
      const commit = changes.map(({ kind, key, row }) => ({ kind, key, row }) as Change);
      this.#commits?.add({ revision: this.state.revision, changes: commit });
    }
    this.#reconciler.completed();
    this.#nodes.committed(changes, lines);
  }

  #context(): LeaderContext {
    const { clock, newId, newSecret = createSecret, config } = this.#options;
    return {
      now: clock.now(),
      newId,
      newSecret,
      pool: cidr(this.settings.pool),
      addresses: this.#addresses,
      features: this.#features,
      reservedPorts: config.reservedPorts,
      domain: this.settings.domain,
      everywhere: this.#progress.everywhere,
      silent: (nodeId) => this.#nodes.isSilent(nodeId),
    };
  }

  /** It leads until this leadership is lost; what ended the one before ends it no longer. */
  #leadBy(leadership: Leadership): void {
    const { lost } = leadership;
    this.#leadership = leadership;
    this.#untilChanged.abort();
    this.#untilChanged = new AbortController();
    const stepDown = () => this.#stepDown(`this manager leads no longer: ${messageOf(lost.reason)}`);
    if (lost.aborted) stepDown();
    else lost.addEventListener("abort", stepDown, { signal: this.#untilChanged.signal });
  }

  #stepDown(reason: string): void {
    if (this.#over.signal.aborted) return;
    const hasLed = this.#notLeading === undefined;
    this.#notLeading = reason;
    this.#nodes.end();
    this.#barrier.close();
    if (hasLed) this.#log.info("leads no longer", { reason });
    this.#over.abort(new Error(reason));
  }
}
