// A node's end of the control plane: follows the leader, one session after another, and has the newest state, which begins
// with what this machine has kept.
import type { StateVersion } from "../cluster/identity.ts";
import type { NodeIdentity } from "../cluster/protocol.ts";
import type { State } from "../cluster/tables.ts";
import { Backoff } from "../lib/backoff.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Random, systemRandom } from "../lib/random.ts";
import { KeptState } from "./kept-state.ts";
import { LeaderlessError, LeaderSearch } from "./leader-search.ts";
import { LeaderSession } from "./leader-session.ts";
import { ManagerList } from "./manager-list.ts";
import { digestsOf } from "./own-digests.ts";
import { OwnLogs } from "./own-logs.ts";
import { type Observations, Reporter, type StatusReports } from "./reporter.ts";
import type { SecretFiles } from "./secret-files.ts";
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

export class Session {
  readonly #options: SessionOptions;
  readonly #feed: StateFeed;
  readonly #kept: KeptState;
  readonly #reporter: Reporter;
  readonly #search: LeaderSearch;
  /** Logs of this node's tasks, which the leader asks for. */
  readonly ownLogs: OwnLogs;
  readonly #retry = new Backoff(MIN_RETRY_MS, MAX_RETRY_MS);
  readonly #stopping = new AbortController();
  // BOUNDED: by the managers; keyed by manager. Why there is no session with it.
  #failures: ReadonlyMap<string, string> = new Map();
  #nodeId: string | undefined;
  /** The manager that the session is with, once it has sent a snapshot. */
  #manager: string | undefined;
  /** Ends the pause between two sessions. */
  #pause = new AbortController();
  /** The session under way, or the last one. */
  #current: LeaderSession | undefined;
  /** No session begins while this is there. */
  #held: Promise<void> | undefined;
  #isDiskRead = false;
  #run: Promise<void> = Promise.resolve();

  constructor(options: SessionOptions) {
    const { identity, snapshotPath, secrets, clock, log, transport } = options;
    this.#options = options;
    this.#feed = new StateFeed(clock);
    const managers = new ManagerList(options.managers, options.keepManagers ?? (() => {}));
    const { live } = this.#feed;
    this.#kept = new KeptState({ ...{ snapshotPath, secrets, managers, clock, log, live }, nodeName: identity.name });
    this.#reporter = new Reporter(clock);
    this.#search = new LeaderSearch({ transport, clock, managers: () => managers.all() });
    this.ownLogs = new OwnLogs(transport, log);
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
    return this.#kept.storedVersion;
  }

  /** Why there is no session, by manager; undefined while there is one, and before the first attempt. */
  get problem(): string | undefined {
    if (this.#manager !== undefined || this.#failures.size === 0) return undefined;
    return [...this.#failures].map(([manager, reason]) => `${manager}: ${reason}`).join("; ");
  }

  /** Resolves when what this machine has kept, if anything, is the newest state. */
  async readDisk(): Promise<void> {
    this.#isDiskRead = true;
    const stored = await this.#kept.read();
    if (stored === undefined) return;
    const { nodeId, state } = stored;
    this.#options.log.info("runs from the snapshot on disk until a leader answers", { revision: state.revision });
    this.#nodeId = nodeId;
    this.#feed.takeStored(state);
  }

  /** Resolves when the snapshot on disk, if any, is in force; the session with the leader follows by itself. */
  async start(): Promise<void> {
    if (!this.#isDiskRead) await this.readDisk();
    this.#run = this.#follow();
  }

  /** Resolves when the newest state is on disk and nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#current?.end(new Error("the agent is stopping"));
    await this.#run;
    await this.#kept.stop();
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
    this.#reporter.setApplied(this.#feed.applied);
  }

  /** HOST:PORT of the manager that leads. Throws LeaderlessError. */
  findLeader(): Promise<string> {
    return this.#search.find(new AbortController().signal);
  }

  /** A leader answers: between two sessions it is not waited for any longer. */
  endPause(): void {
    this.#pause.abort();
  }

  /** Resolves with true when `revision` is here, or with false after `timeoutMs`. */
  arrivalOf(revision: number, timeoutMs: number): Promise<boolean> {
    return this.#feed.arrivalOf(revision, timeoutMs);
  }

  /** Begins no session until `leave` is done, and none any more once it is. When it throws, all goes on as before. */
  async endAfter(leave: () => Promise<unknown>): Promise<void> {
    let resume = () => {};
    this.#held = new Promise((resolve) => {
      resume = resolve;
    });
    try {
      await leave();
      this.#stopping.abort();
    } finally {
      resume();
    }
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
    const { identity, clock, log, transport } = this.#options;
    const { live, hasState } = this.#feed;
    const has = hasState ? await digestsOf(live) : undefined;
    if (this.#stopping.signal.aborted) return "the agent is stopping";
    this.#current = new LeaderSession({
      ...{ identity, manager, has, transport, clock, log, ownLogs: this.ownLogs },
      ...{ feed: this.#feed, kept: this.#kept, reporter: this.#reporter },
      begun: (nodeId) => {
        this.#nodeId = nodeId;
        this.#manager = manager;
        this.#failures = new Map();
      },
      reported: () => this.#retry.succeeded(), // a node that can listen but not report tries again less and less often
    });
    try {
      await this.#current.follow();
      return "the stream ended";
    } catch (error) {
      return messageOf(error);
    } finally {
      if (this.#manager !== undefined) log.warn("the session with the leader is lost", { address: manager });
      this.#manager = undefined;
    }
  }
}
