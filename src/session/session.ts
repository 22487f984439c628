// A node's end of the control plane: one session with the leader, the newest state, and a copy of it on disk that the
// node starts from when no leader answers.
import { Readable } from "node:stream";
import type { CommandInput, CommandResult } from "../cluster/commands.ts";
import { derivedIdentity, type KnownState, knownOf, whyNotNext } from "../cluster/identity.ts";
import { sameName } from "../cluster/lookup.ts";
import { BEATS_PER_PERIOD, type LogQuery, type NodeIdentity, StreamLine } from "../cluster/protocol.ts";
import type { State, TaskStatus } from "../cluster/schema.ts";
import { type AppliedChange, emptyState, type LiveState, parseChanges, parseRows } from "../cluster/state.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { UnreachableError } from "../lib/http.ts";
import type { Log } from "../lib/log.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import { type NodeFacts, Reporter } from "./reporter.ts";
import { readSnapshot, type Snapshot, SnapshotWriter } from "./snapshot-file.ts";
import { httpTransport, type Transport } from "./transport.ts";

export interface SessionOptions {
  identity: NodeIdentity;
  /** HOST:PORT of each. */
  managers: readonly string[];
  snapshotPath: string;
  clock: Clock;
  log: Log;
  random?: Random;
  transport?: Transport;
}

/** Until the leader has said how long it tolerates silence. */
const FIRST_SILENCE_MS = 10_000;
const MIN_RETRY_MS = 250;
const MAX_RETRY_MS = 5000;
/** How long a command waits for its own change to arrive here. */
const CATCH_UP_MS = 5000;
/** One request for the barrier; longer waits are several. */
const BARRIER_SLICE_MS = 30_000;

export class Session {
  readonly #options: SessionOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #random: Random;
  readonly #transport: Transport;
  readonly #reporter: Reporter;
  readonly #writer: SnapshotWriter;
  readonly #stopping = new AbortController();
  // BOUNDED: by the agent's parts that listen; keyed by nothing.
  readonly #listeners = new Set<(changes: readonly AppliedChange[]) => void>();
  // BOUNDED: by the commands that wait for their change to arrive.
  readonly #arrivals = new Set<() => void>();
  // BOUNDED: by the managers configured; keyed by manager. Why the last attempt with it ended.
  readonly #failures = new Map<string, string>();
  /** The newest state, changed in place. */
  readonly #live = emptyState();
  #hasState = false;
  /** The revision since which no row has changed. */
  #sameSince = 0;
  /** The highest revision that is in force here. */
  #inForce = 0;
  #nodeId: string | undefined;
  /** The manager that the session is with, once it has sent a snapshot. */
  #manager: string | undefined;
  #stream: AbortController | undefined;
  #isDiskRead = false;
  #isHeard = false;
  #attempts = 0;
  #readOwnLog = async (_taskId: string, _query: LogQuery): Promise<Readable> => {
    throw new UserError(409, "this node does not show logs yet");
  };
  #run: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#random = options.random ?? systemRandom;
    this.#transport = options.transport ?? httpTransport;
    this.#reporter = new Reporter(options.clock);
    this.#writer = new SnapshotWriter(options.snapshotPath, options.log);
  }

  /** The newest state; undefined until the first one, from disk or from the leader. */
  get state(): State | undefined {
    return this.#hasState ? this.#live : undefined;
  }

  /** The newest state, which is changed in place: always the same object, and empty until the first one. */
  get live(): State {
    return this.#live;
  }

  /** The newest state. Throws UserError 503 when there is none. */
  requireState(): State {
    if (this.#hasState) return this.#live;
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
    return this.#isHeard;
  }

  /** HOST:PORT of the leader; undefined when not connected. */
  get manager(): string | undefined {
    return this.#manager;
  }

  /** Why there is no session, by manager; undefined while there is one, and before the first attempt. */
  get problem(): string | undefined {
    if (this.#manager !== undefined || this.#failures.size === 0) return undefined;
    return [...this.#failures].map(([manager, reason]) => `${manager}: ${reason}`).join("; ");
  }

  /** Resolves when the snapshot on disk, if any, is the newest state. */
  async readDisk(): Promise<void> {
    this.#isDiskRead = true;
    const { snapshotPath, identity } = this.#options;
    const snapshot = await readSnapshot(snapshotPath, this.#log);
    if (snapshot !== undefined) this.#adopt(snapshot, identity.name);
  }

  /** Resolves when the snapshot on disk, if any, is in force; the session with the leader follows by itself. */
  async start(): Promise<void> {
    if (!this.#isDiskRead) await this.readDisk();
    this.#run = this.#follow();
  }

  /** Resolves when the snapshot on disk is the newest state and nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#stream?.abort(new Error("the agent is stopping"));
    await this.#run;
    await this.#writer.settled();
  }

  /**
   * Calls after rows have changed, until the returned function is called. The list is empty when a leader is heard for the
   * first time, or the cluster has a new epoch, and no row has changed. A session that begins anew with what is there calls
   * nothing.
   */
  onChanges(listener: (changes: readonly AppliedChange[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All statuses of this node's tasks; the leader is told what changed. */
  reportStatuses(statuses: readonly TaskStatus[]): void {
    this.#reporter.setStatuses(statuses);
  }

  /** What this node observes of itself; what is left out is as it was. */
  reportFacts(facts: Partial<NodeFacts>): void {
    this.#reporter.setFacts(facts);
  }

  /** `revision` is in force in all of this node's data path. Called after every notice of changes. */
  reportApplied(revision: number): void {
    if (revision > this.#live.revision) return; // of an epoch that is over
    this.#inForce = revision;
    this.#tellApplied();
  }

  /**
   * Has the leader carry the command out, and waits a moment for the change to arrive here, so that the caller reads what it
   * wrote. Throws UserError, 503 when no leader answers.
   */
  async execute(command: CommandInput): Promise<CommandResult> {
    const result = await this.#ask((manager) => this.#transport.execute(manager, this.#clusterId, command));
    await this.#arrivalOf(result.revision);
    return result;
  }

  /** Resolves when every live node has `revision` in force. Throws UserError 503 that names those that have not. */
  async waitApplied(revision: number, timeoutMs: number): Promise<void> {
    const deadline = this.#clock.monotonic() + timeoutMs;
    for (;;) {
      const leftMs = Math.max(0, Math.ceil(deadline - this.#clock.monotonic()));
      const sliceMs = Math.min(leftMs, BARRIER_SLICE_MS);
      const behind = await this.#ask((manager) =>
        this.#transport.waitApplied(manager, this.#clusterId, revision, sliceMs),
      );
      if (behind.length === 0) return;
      if (sliceMs === leftMs) {
        throw new UserError(503, `revision ${revision} is not in force on ${behind.join(", ")} after ${timeoutMs} ms`);
      }
    }
  }

  /** What a task printed, from whatever node it is on. Throws UserError. */
  readLog(taskId: string, query: LogQuery): Promise<Readable> {
    return this.#ask((manager) => this.#transport.readLog(manager, this.#clusterId, taskId, query));
  }

  /** Has this node's logs brought to whoever asks the leader for them. `read` throws UserError. */
  serveLogs(read: (taskId: string, query: LogQuery) => Promise<Readable>): void {
    this.#readOwnLog = read;
  }

  #adopt({ nodeId, state }: Snapshot, name: string): void {
    const taken = state.nodes.get(nodeId)?.name;
    if (!sameName(taken ?? null, name)) {
      this.#log.warn("the snapshot on disk is another node's and is not used", { node: taken ?? nodeId });
      return;
    }
    this.#log.info("runs from the snapshot on disk until a leader answers", { revision: state.revision });
    this.#nodeId = nodeId;
    this.#replaceState(state);
  }

  async #follow(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      for (const manager of this.#options.managers) {
        const reason = await this.#followOne(manager);
        if (this.#stopping.signal.aborted) return;
        if (this.#failures.get(manager) !== reason)
          this.#log.warn("no session with a manager", { address: manager, reason });
        this.#failures.set(manager, reason);
      }
      const ceiling = Math.min(MAX_RETRY_MS, MIN_RETRY_MS * 2 ** Math.min(this.#attempts++, 10));
      await this.#pause(ceiling * (0.5 + this.#random() / 2));
    }
  }

  /** Why the session ended. */
  async #followOne(manager: string): Promise<string> {
    const abort = new AbortController();
    const { signal } = abort;
    this.#stream = abort;
    let silenceMs = FIRST_SILENCE_MS;
    let watchdog: Timer | undefined;
    const rearm = () => {
      watchdog?.cancel();
      watchdog = this.#clock.after(silenceMs, () => abort.abort(new Error(`no word for ${silenceMs} ms`)));
    };
    rearm();
    let opening: Extract<StreamLine, { type: "session" }> | undefined;
    let loading: { state: LiveState; revision: number; rows: number } | undefined;
    try {
      const known = this.#known;
      const request = { ...this.#options.identity, known: known ?? null };
      for await (const json of this.#transport.open(manager, request, signal)) {
        const line = StreamLine.parse(json);
        if (line.type === "session") {
          // The leader refuses too, where it knows how; this node does not rely on it.
          const refusal = known && line.state && whyNotNext(known, line.state);
          if (refusal !== undefined) throw new Error(refusal);
          opening = line;
          silenceMs = line.livenessMs;
        } else if (line.type === "snapshot") {
          loading = { state: emptyState(), revision: line.revision, rows: line.rows };
          loading.state.cluster = line.cluster;
        } else if (line.type === "rows") {
          if (loading === undefined) throw new Error("the stream has rows before its snapshot");
          loading.rows -= line.rows.length;
          loading.state.apply(parseRows(line.kind, line.rows), loading.revision);
        } else if (line.type === "snapshot-end") {
          if (opening === undefined || loading === undefined) throw new Error("the stream has no snapshot to end");
          if (loading.rows !== 0) throw new Error(`the snapshot has ${loading.rows} rows less than it should`);
          const { state, revision } = loading;
          loading = undefined;
          state.revision = revision;
          state.cluster ??= derivedIdentity(state);
          this.#begin(manager, opening, state, (error) => abort.abort(error));
        } else if (line.type === "changes") {
          this.#advance(line.after, line.revision, line.changes);
        } else if (line.type === "log") {
          if (opening !== undefined) void this.#bringLog(manager, opening.sessionId, line);
        }
        rearm();
      }
      return "the stream ended";
    } catch (error) {
      return messageOf(signal.aborted ? signal.reason : error);
    } finally {
      watchdog?.cancel();
      this.#reporter.detach();
      if (this.#manager !== undefined) this.#log.warn("the session with the leader is lost", { address: manager });
      this.#manager = undefined;
    }
  }

  #begin(
    manager: string,
    { sessionId, nodeId, livenessMs }: Extract<StreamLine, { type: "session" }>,
    state: State,
    end: (error: unknown) => void,
  ): void {
    const [known, offered] = [this.#known, knownOf(state)];
    const refusal = known && (offered === undefined ? "its state belongs to no cluster" : whyNotNext(known, offered));
    if (refusal !== undefined) throw new Error(refusal);
    this.#log.info("has a session with the leader", { address: manager, revision: state.revision });
    this.#nodeId = nodeId;
    this.#manager = manager;
    this.#failures.clear();
    this.#reporter.attach({
      send: async (report) => {
        await this.#transport.report(manager, sessionId, report);
        this.#attempts = 0; // a node that can listen but not report tries again less and less often
      },
      beatMs: livenessMs / BEATS_PER_PERIOD,
      failed: (error) => {
        this.#log.warn("the leader did not take a report", { address: manager, reason: messageOf(error) });
        if (error instanceof UserError && error.code === 404) end(error);
      },
    });
    const isNews = !this.#isHeard || known?.epoch !== offered?.epoch;
    this.#isHeard = true;
    this.#replaceState(state, isNews);
    this.#writer.write({ nodeId, state: this.#live });
  }

  #advance(after: number, revision: number, changes: unknown): void {
    const { revision: before } = this.#live;
    if (this.#manager === undefined || after !== before || revision <= after) {
      throw new Error(`the stream goes from revision ${before} to ${revision}, after ${after}`);
    }
    this.#notify(this.#live.apply(parseChanges(changes), revision));
    this.#writer.write({ nodeId: this.#nodeId!, state: this.#live });
  }

  async #bringLog(
    manager: string,
    sessionId: string,
    { requestId, taskId, query }: Extract<StreamLine, { type: "log" }>,
  ): Promise<void> {
    try {
      const log = await this.#readOwnLog(taskId, query).catch((error: unknown) => {
        const code = error instanceof UserError && (error.code === 400 || error.code === 404) ? error.code : 409;
        return { code, message: messageOf(error) } as const;
      });
      if (log instanceof Readable) await this.#transport.bringLog(manager, sessionId, requestId, log);
      else await this.#transport.refuseLog(manager, sessionId, requestId, log);
    } catch (error) {
      this.#log.debug("a log that another node asked for was not brought to its end", { reason: messageOf(error) });
    }
  }

  get #clusterId(): string | undefined {
    return this.#live.cluster?.id;
  }

  get #known(): KnownState | undefined {
    return this.#hasState ? knownOf(this.#live) : undefined;
  }

  /** `isNews`: listeners are called even if no row has changed. */
  #replaceState(state: State, isNews = false): void {
    const changes = this.#live.replaceBy(state);
    this.#hasState = true;
    this.#notify(changes, isNews);
  }

  #notify(changes: readonly AppliedChange[], isNews = false): void {
    if (changes.length > 0 || isNews) {
      this.#sameSince = this.#live.revision;
      if (isNews) this.#inForce = 0;
      for (const listener of this.#listeners) listener(changes);
    } else {
      this.#tellApplied();
    }
    for (const arrived of this.#arrivals) arrived();
  }

  /** What is in force of a revision is so of those after it that changed no row. */
  #tellApplied(): void {
    if (this.#manager === undefined) return;
    this.#reporter.setApplied(this.#inForce >= this.#sameSince ? this.#live.revision : this.#inForce);
  }

  /** Asks the session's leader, or each manager in turn until one answers. */
  async #ask<T>(request: (manager: string) => Promise<T>): Promise<T> {
    const managers = this.#manager === undefined ? this.#options.managers : [this.#manager];
    const reasons: string[] = [];
    for (const manager of managers) {
      try {
        return await request(manager);
      } catch (error) {
        if (error instanceof UserError && error.code !== 503) throw error;
        const isAmbiguous = !(error instanceof UserError) && !(error instanceof UnreachableError);
        reasons.push(`${manager}: ${messageOf(error)}`);
        if (isAmbiguous) reasons.push("whether it was carried out is not known");
        if (isAmbiguous) break;
      }
    }
    throw new UserError(503, `no leader answers (${reasons.join("; ")})`);
  }

  #arrivalOf(revision: number): Promise<void> {
    if (this.#manager === undefined || this.#live.revision >= revision) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = () => {
        timer.cancel();
        this.#arrivals.delete(check);
        resolve();
      };
      const check = () => {
        if (this.#live.revision >= revision) finish();
      };
      const timer = this.#clock.after(CATCH_UP_MS, finish);
      this.#arrivals.add(check);
    });
  }

  #pause(ms: number): Promise<void> {
    const { signal } = this.#stopping;
    return new Promise((resolve) => {
      const finish = () => {
        timer.cancel();
        signal.removeEventListener("abort", finish);
        resolve();
      };
      const timer = this.#clock.after(ms, finish);
      signal.addEventListener("abort", finish);
    });
  }
}
