// A node's end of the control plane: one session with the leader, the newest state, and a copy of it on disk that the
// node starts from when no leader answers.
import { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { FEATURES, PROTOCOL } from "../cluster/features.ts";
import { type StateVersion, versionOf } from "../cluster/identity.ts";
import { sameName, settingsOf } from "../cluster/lookup.ts";
import { BEATS_PER_PERIOD, type LogQuery, type NodeIdentity } from "../cluster/protocol.ts";
import type { Change } from "../cluster/schema.ts";
import type { AppliedChange, LiveState } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { Backoff } from "../lib/backoff.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { withDeadline } from "../lib/deadline.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import { LeaderCalls } from "./leader-calls.ts";
import { LeaderlessError, LeaderSearch } from "./leader-search.ts";
import { LeaderStream, type LogLine, type Opening } from "./leader-stream.ts";
import { ManagerList } from "./manager-list.ts";
import { digestsOf } from "./own-digests.ts";
import { type Observations, Reporter, type StatusReports } from "./reporter.ts";
import type { SecretFiles } from "./secret-files.ts";
import { readSnapshot, type StoredSnapshot } from "./snapshot-file.ts";
import { SnapshotWriter } from "./snapshot-writer.ts";
import { type ChangesListener, StateFeed } from "./state-feed.ts";
import type { Transport } from "./transport.ts";

interface SessionOptions {
  identity: NodeIdentity;
  /** HOST:PORT of each manager in the file. The state may name more. */
  managers: readonly string[];
  /** Keeps those of the state, which have changed, for the next start. */
  keepManagers?: (managers: readonly string[]) => void;
  snapshotPath: string;
  /** Left out: secrets are kept in this process alone. */
  secrets?: SecretFiles;
  clock: Clock;
  log: Log;
  random?: Random;
  transport: Transport;
}

const MIN_RETRY_MS = 250;
const MAX_RETRY_MS = 5000;
/** How long a command waits for its own change to arrive here. */
const CATCH_UP_MS = 5000;
/** The same for a person's command, which may come while managers choose a leader. */
const HEAR_MS = 20_000;

export class Session {
  readonly #options: SessionOptions;
  readonly #transport: Transport;
  readonly #feed: StateFeed;
  readonly #reporter: Reporter;
  readonly #writer: SnapshotWriter;
  readonly #managers: ManagerList;
  readonly #search: LeaderSearch;
  readonly #calls: LeaderCalls;
  readonly #retry = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS);
  readonly #stopping = new AbortController();
  // BOUNDED: by the managers; keyed by manager. Why there is no session with it.
  #failures: ReadonlyMap<string, string> = new Map();
  #nodeId: string | undefined;
  /** The manager that the session is with, once it has sent a snapshot. */
  #manager: string | undefined;
  /** Ends the pause between two sessions. */
  #pause = new AbortController();
  #stream: LeaderStream | undefined;
  /** Clients wait for revisions up to this one, as the leader says; Infinity: it does not say. */
  #awaited = Number.POSITIVE_INFINITY;
  /** No session begins while this is there. */
  #held: Promise<void> | undefined;
  #isDiskRead = false;
  #storedVersion: StateVersion | undefined;
  #readOwnLog = async (_taskId: string, _query: LogQuery): Promise<Readable> => {
    throw new UserError(409, "this node does not show logs yet");
  };
  #run: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    const { clock, log, snapshotPath, transport } = options;
    this.#options = options;
    this.#transport = transport;
    this.#feed = new StateFeed(clock);
    this.#reporter = new Reporter(clock);
    this.#writer = new SnapshotWriter({ path: snapshotPath, clock, log, state: this.#feed.live });
    this.#managers = new ManagerList(options.managers, options.keepManagers ?? (() => {}));
    this.#search = new LeaderSearch({ transport, clock, managers: () => this.#managers.all() });
    this.#calls = new LeaderCalls({
      transport,
      clock,
      search: this.#search,
      manager: () => this.#manager,
      clusterId: () => this.#feed.live.cluster?.id,
    });
  }

  /** The newest state, from disk or from the leader; undefined until the first one. */
  get state(): State | undefined {
    return this.#feed.hasState ? this.#feed.live : undefined;
  }

  /** The newest state, which is changed in place: always the same object, and empty until the first one. */
  get live(): State {
    return this.#feed.live;
  }

  /** The newest state. Throws UserError 503 when there is none. */
  requireState(): State {
    if (this.#feed.hasState) return this.#feed.live;
    throw new UserError(
      503,
      "this node has no state of the cluster yet: no manager has answered (see the agent's log)",
    );
  }

  get nodeId(): string | undefined {
    return this.#nodeId;
  }

  get connected(): boolean {
    return this.#manager !== undefined;
  }

  /** Whether a leader has said what the cluster wants since this agent started: the snapshot on disk may be older. */
  get isHeard(): boolean {
    return this.#feed.isHeard;
  }

  /** HOST:PORT of the leader; undefined when not connected. */
  get manager(): string | undefined {
    return this.#manager;
  }

  /** The version of the state that was on this node's disk, also of another node's copy; undefined: there was none. */
  get storedVersion(): StateVersion | undefined {
    return this.#storedVersion;
  }

  /** Why there is no session, by manager; undefined while there is one, and before the first attempt. */
  get problem(): string | undefined {
    if (this.#manager !== undefined || this.#failures.size === 0) return undefined;
    return [...this.#failures].map(([manager, reason]) => `${manager}: ${reason}`).join("; ");
  }

  /** Resolves when the snapshot on disk, if any, is the newest state. */
  async readDisk(): Promise<void> {
    this.#isDiskRead = true;
    const { snapshotPath, log } = this.#options;
    const stored = await readSnapshot(snapshotPath, log);
    if (stored === undefined) return;
    stored.state.apply((await this.#options.secrets?.restore(stored.state)) ?? [], stored.state.revision);
    this.#takeStored(stored);
  }

  /** Resolves when the snapshot on disk, if any, is in force; the session with the leader follows by itself. */
  async start(): Promise<void> {
    if (!this.#isDiskRead) await this.readDisk();
    this.#run = this.#follow();
  }

  /** Resolves when the newest state is on disk and nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#stream?.end(new Error("the agent is stopping"));
    await this.#run;
    await this.#writer.stop();
    await this.#options.secrets?.settled();
  }

  /**
   * Calls after rows have changed, until the returned function is called. The list is empty when a leader is heard for the
   * first time, or the cluster has a new epoch, and no row has changed. A session that begins anew with what is there calls
   * nothing.
   */
  onChanges(listener: ChangesListener): () => void {
    return this.#feed.onChanges(listener);
  }

  /** Where the statuses of this node's tasks are told to the leader. */
  get statusReports(): StatusReports {
    return this.#reporter;
  }

  /** What this node observes of itself; what is left out is as it was. */
  reportObservations(observations: Partial<Observations>): void {
    this.#reporter.setObservations(observations);
  }

  /** `revision` is in force in all of this node's data path. Called after every notice of changes. */
  reportApplied(revision: number): void {
    this.#feed.setApplied(revision);
    this.#tellApplied();
  }

  /**
   * Has the leader carry the command out, and waits a moment for the change to arrive here, so that the caller reads what it
   * wrote. Throws UserError, 503 when no leader answers.
   */
  async execute(command: CommandInput): Promise<CommandResult> {
    const result = await this.#calls.execute(command);
    // A leader answers: between two sessions it is not waited for any longer.
    if (this.#manager === undefined) this.#pause.abort();
    await this.#feed.arrivalOf(result.revision, CATCH_UP_MS);
    return result;
  }

  /**
   * As `execute`, for a person, who must not read older state here afterwards: throws UserError 504 when the change was made
   * and has not arrived.
   */
  async executeAndHear(command: CommandInput): Promise<CommandResult> {
    const result = await this.#calls.execute(command);
    if (await this.#feed.arrivalOf(result.revision, HEAR_MS)) return result;
    throw new UserError(
      504,
      `the change was made, but this node has not heard of it yet: ${this.problem ?? "its manager has not sent it"}`,
    );
  }

  /**
   * Has the leader take this node for down, and begins no session any more. Throws when no leader says within the time that it
   * has; then all goes on as before.
   */
  async leave(timeoutMs: number): Promise<void> {
    let resume = () => {};
    this.#held = new Promise((resolve) => {
      resume = resolve;
    });
    try {
      const node = this.#nodeId;
      if (node === undefined) throw new UserError(503, "this node has never had a session with a leader");
      await withDeadline(timeoutMs, () => this.#calls.execute({ type: "node.leave", node }));
      this.#stopping.abort();
    } finally {
      resume();
    }
  }

  /** Resolves when every live node has `revision` in force. Throws UserError 503 that names those that have not. */
  waitApplied(revision: number, timeoutMs: number): Promise<void> {
    return this.#calls.waitApplied(revision, timeoutMs);
  }

  /** What a task printed, from whatever node it is on. Throws UserError. */
  readLog(taskId: string, query: LogQuery): Promise<Readable> {
    return this.#calls.readLog(taskId, query);
  }

  /** Has this node's logs brought to the clients that ask the leader for them. `read` throws UserError. */
  serveLogs(read: (taskId: string, query: LogQuery) => Promise<Readable>): void {
    this.#readOwnLog = read;
  }

  #takeStored(stored: StoredSnapshot): void {
    const { identity, log } = this.#options;
    const { nodeId, state } = stored;
    this.#storedVersion = versionOf(state);
    const name = state.nodes.get(nodeId)?.name;
    if (!sameName(name ?? null, identity.name)) {
      log.warn("the snapshot on disk is another node's and is not used", { node: name ?? nodeId });
      return;
    }
    log.info("runs from the snapshot on disk until a leader answers", { revision: state.revision });
    this.#nodeId = nodeId;
    this.#feed.takeStored(state);
    this.#managers.update(this.#feed.live);
    this.#writer.continue(stored);
  }

  async #follow(): Promise<void> {
    const { clock, random = systemRandom } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#held;
      if (signal.aborted) return;
      const failures = await this.#followLeader(signal);
      if (signal.aborted) return;
      this.#logFailures(failures);
      this.#failures = failures;
      this.#pause = new AbortController();
      await delay(clock, this.#retry.failed() * (0.5 + random() / 2), AbortSignal.any([signal, this.#pause.signal]));
    }
  }

  /** Resolves with the reasons, by manager, when there is no session or it has ended. */
  async #followLeader(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    try {
      const manager = await this.#search.find(signal);
      return new Map([[manager, await this.#followOne(manager)]]);
    } catch (error) {
      return error instanceof LeaderlessError ? error.reasons : new Map();
    }
  }

  #logFailures(failures: ReadonlyMap<string, string>): void {
    for (const [manager, reason] of failures) {
      if (this.#failures.get(manager) === reason) continue;
      this.#options.log.warn("no session with a manager", { address: manager, reason });
    }
  }

  /** Resolves with the reason when the session has ended. */
  async #followOne(manager: string): Promise<string> {
    const { identity, clock, log } = this.#options;
    const { live, hasState } = this.#feed;
    const has = hasState ? await digestsOf(live) : undefined;
    if (this.#stopping.signal.aborted) return "the agent is stopping";
    const stream = new LeaderStream({
      transport: this.#transport,
      clock,
      log,
      manager,
      request: { ...identity, protocol: PROTOCOL, features: [...FEATURES], ...(has && { has }) },
      state: live,
      stateVersion: hasState ? versionOf(live) : undefined,
      listener: {
        begins: (opening, snapshot) => this.#begin(manager, opening, snapshot),
        changes: (changes, revision) => this.#advance(changes, revision),
        awaits: (revision) => this.#await(revision),
        asksForLog: (sessionId, line) => void this.#bringLog(manager, sessionId, line),
      },
    });
    this.#stream = stream;
    try {
      await stream.follow();
      return "the stream ended";
    } catch (error) {
      return messageOf(error);
    } finally {
      this.#reporter.detach();
      if (this.#manager !== undefined) log.warn("the session with the leader is lost", { address: manager });
      this.#manager = undefined;
    }
  }

  #begin(manager: string, opening: Opening, snapshot: LiveState): void {
    const { sessionId, nodeId, livenessMs, beats, awaits } = opening;
    const { log } = this.#options;
    const stream = this.#stream!;
    // Clients that wait already wait for no later revision than that of the snapshot.
    this.#awaited = awaits === true ? snapshot.revision : Number.POSITIVE_INFINITY;
    log.info("has a session with the leader", { address: manager, revision: snapshot.revision });
    this.#nodeId = nodeId;
    this.#manager = manager;
    this.#failures = new Map();
    this.#reporter.attach({
      send: async (report, signal) => {
        await this.#transport.report(manager, sessionId, report, signal);
        this.#retry.succeeded(); // a node that can listen but not report tries again less and less often
      },
      beats: beats === true ? this.#transport.beats(manager, sessionId, () => this.#reporter.retell()) : undefined,
      beatMs: () => (settingsOf(this.#feed.live)?.livenessMs ?? livenessMs) / BEATS_PER_PERIOD,
      awaited: () => (this.#isDraining ? Number.POSITIVE_INFINITY : this.#awaited),
      failed: (error) => {
        log.warn("the leader did not take a report", { address: manager, reason: messageOf(error) });
        if (error instanceof UserError && error.code === 404) stream.end(error);
      },
    });
    this.#feed.takeSnapshot(snapshot, (changes) => this.#keep(nodeId, changes));
    this.#options.secrets?.keepOnly(this.#feed.live);
    this.#managers.update(this.#feed.live);
    this.#tellApplied();
  }

  #advance(changes: readonly Change[], revision: number): void {
    this.#feed.advance(changes, revision, (applied) => this.#keep(this.#nodeId!, applied));
    if (changes.some(({ kind }) => kind === "nodes")) this.#managers.update(this.#feed.live);
    this.#tellApplied();
  }

  /** Keeps on this machine what has changed: for the next agent, and for times without a leader. */
  #keep(nodeId: string, changes: readonly AppliedChange[]): void {
    this.#options.secrets?.changed(changes);
    this.#writer.changed(nodeId, changes);
  }

  #tellApplied(): void {
    if (this.#manager !== undefined) this.#reporter.setApplied(this.#feed.applied);
  }

  #await(revision: number): void {
    this.#awaited = Math.max(this.#awaited, revision);
    this.#reporter.awaitedChanged();
  }

  /** Whether tasks wait for every node to send nothing new to them. */
  get #isDraining(): boolean {
    return this.#feed.live.tasks.count("todo", "draining") > 0;
  }

  async #bringLog(manager: string, sessionId: string, { requestId, taskId, query }: LogLine): Promise<void> {
    try {
      const log = await this.#readOwnLog(taskId, query).catch((error: unknown) => {
        const code = error instanceof UserError && (error.code === 400 || error.code === 404) ? error.code : 409;
        return { code, message: messageOf(error) } as const;
      });
      if (log instanceof Readable) await this.#transport.bringLog(manager, sessionId, requestId, log);
      else await this.#transport.refuseLog(manager, sessionId, requestId, log);
    } catch (error) {
      const fields = { reason: messageOf(error) };
      this.#options.log.debug("a log that another node asked for was not brought to its end", fields);
    }
  }
}
