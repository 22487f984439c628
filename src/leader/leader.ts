// The leader of the cluster: takes commands and nodes that join, and lets the state writer make of them what the cluster is
// next. Nodes, standbys and those who read logs ask its parts.
import { isDeepStrictEqual } from "node:util";
import { Command, type CommandInput, type CommandResult } from "../cluster/commands.ts";
import { Features } from "../cluster/features.ts";
import type { StateVersion } from "../cluster/identity.ts";
import { findByName, settingsOf } from "../cluster/lookup.ts";
import type { Node } from "../cluster/schema.ts";
import type { ClusterSettings } from "../cluster/settings.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { check } from "../lib/check.ts";
import type { Clock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { createSecret } from "../trust/token.ts";
import { AppliedBarrier } from "./applied-barrier.ts";
import { applyCommand } from "./apply-command.ts";
import type { LeaderContext, ReservedPort } from "./context.ts";
import { CopyAnswers } from "./copy-answers.ts";
import { Addresses } from "./ipam.ts";
import { LogRelay } from "./log-relay.ts";
import { NodeHealth } from "./node-health.ts";
import { NodeSessions } from "./node-sessions.ts";
import { NodeWatch } from "./node-watch.ts";
import { admitNode, type Certified, type Joining, renewNode } from "./nodes.ts";
import { Progress } from "./progress.ts";
import { Reconciler } from "./reconciler.ts";
import type { ChangeLines } from "./secrets.ts";
import { Sessions } from "./sessions.ts";
import { StateWriter } from "./state-writer.ts";
import type { Leadership, Store } from "./store.ts";
import { identityOf } from "./store-identity.ts";
import { Term } from "./term.ts";

/** How long a node that joins waits for the address of one that was removed. */
const HELD_VTEP_MS = 8000;
/** How long a command waits for an address that was released a moment ago. */
const HELD_ADDRESS_MS = 2000;

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
  readonly #term: Term;
  readonly #writer: StateWriter;
  readonly #reconciler: Reconciler;
  readonly #progress: Progress;
  readonly #barrier: AppliedBarrier;
  readonly #health: NodeHealth;
  readonly #watch: NodeWatch;
  /** What nodes say and hear. */
  readonly sessions: NodeSessions;
  /** What tasks printed. */
  readonly logs: LogRelay;
  /** What standbys copy. */
  readonly copies: CopyAnswers;

  constructor(options: LeaderOptions) {
    const { store, clock, log, newId, config } = options;
    const { heardOfNewerEpoch } = config;
    this.#options = options;
    this.#features = config.features ?? new Features();
    this.#log = log;
    const term = new Term(log);
    const sessions = new Sessions(clock);
    const writer = new StateWriter({
      store,
      requireLeading: () => term.requireLeading(),
      complete: (draft) => this.#reconciler.complete(draft, this.#context()),
      committed: (changes, lines) => this.#committed(changes, lines),
      lacking: () => sessions.lacking(),
    });
    const livenessMs = () => this.settings.livenessMs;
    const health = new NodeHealth({ clock, log, livenessMs });
    const progress = new Progress(writer);
    const barrier = new AppliedBarrier(clock, progress, (revision) =>
      sessions.await(Math.min(revision, writer.sentRevision)),
    );
    const reconciler = new Reconciler({ clock, writer, sessions, progress });
    const nodeSessions = new NodeSessions({
      ...{ term, writer, reconciler, progress, barrier, sessions, health },
      ...{ clock, log, newId, features: this.#features, livenessMs, heardOfNewerEpoch },
      context: () => this.#context(),
    });
    this.#term = term;
    this.#writer = writer;
    this.#reconciler = reconciler;
    this.#progress = progress;
    this.#barrier = barrier;
    this.#health = health;
    this.#watch = new NodeWatch({ writer, reconciler, sessions, nodeSessions, health, clock, log, livenessMs });
    this.sessions = nodeSessions;
    this.logs = new LogRelay({ clock, newId, term, writer, sessions });
    this.copies = new CopyAnswers({ clock, term, writer, heardOfNewerEpoch });
    term.over.addEventListener("abort", () => this.#end());
  }

  /** It is changed in place. */
  get state(): State {
    return this.#writer.state;
  }

  /** Chosen for the whole cluster. There are some once it leads. */
  get settings(): ClusterSettings {
    return settingsOf(this.state)!;
  }

  /** Aborted, with the reason, when it leads no longer. It never does again: the next leadership is another Leader's. */
  get over(): AbortSignal {
    return this.#term.over;
  }

  /**
   * Resolves when it leads. Throws CannotLeadError when the store has no cluster, or not the one that this manager's node
   * knows; then another process may lead.
   */
  async start(): Promise<void> {
    this.#term.take(await this.#options.store.campaign());
    try {
      await this.#begin();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    const { store, clock, config } = this.#options;
    const loaded = await store.load();
    const { cluster: stored } = loaded;
    const { nodeVersion, newEpoch = false } = config;
    loaded.cluster = identityOf(loaded, { nodeVersion, newEpoch, now: clock.now(), log: this.#log });
    // An identity that the store has already is not written again: a full disk keeps no manager from leading.
    if (!isDeepStrictEqual(loaded.cluster, stored)) await store.identify(loaded.cluster);
    this.#writer.load(loaded);
    this.#progress.begin();
    this.copies.begin();
    this.#term.begin();
    if (!this.#term.isLeading) return;
    this.#log.info("leads the cluster", { revision: this.state.revision, count: this.state.nodes.size });
    this.#watch.begin();
    this.sessions.begin();
  }

  /**
   * Has `move` bring the state to another store, while commands wait, and goes on leading with that. `move` gets the state,
   * and resolves with the other store and its leadership. When it throws, everything stays as it was.
   */
  async changeStore(move: (state: State) => Promise<{ store: Store; leadership: Leadership }>): Promise<void> {
    this.#term.requireLeading();
    await this.#writer.hold(async () => {
      const { store, leadership } = await move(this.state);
      this.#term.take(leadership);
      this.#term.begin();
      return store;
    });
  }

  /** Has `work` done while nothing is written: what is to be written waits for it. */
  async pause(work: () => Promise<void>): Promise<void> {
    await this.#writer.hold(async (store) => {
      await work();
      return store;
    });
  }

  /** Throws UserError 503 when it does not lead. */
  requireLeading(): void {
    this.#term.requireLeading();
  }

  /** Throws UserError 503 when this leader leads another cluster than the request names. */
  requireCluster(id: string): void {
    const own = this.state.cluster?.id;
    if (own !== id) throw new UserError(503, `it leads another cluster (${own}) than that of this node (${id})`);
  }

  /** Ends all sessions, and resolves when nothing is being written any more and another process may lead. The store stays open. */
  async stop(): Promise<void> {
    this.#term.end("this manager is stopping");
    await this.#writer.settled();
    await this.#term.resign();
  }

  /** Throws UserError. */
  async execute(input: CommandInput): Promise<CommandResult> {
    return this.executeChecked(check(Command, input));
  }

  /** Throws UserError. */
  async executeChecked(command: Command): Promise<CommandResult> {
    this.#term.requireLeading();
    if (command.type === "node.demote" || command.type === "node.remove") {
      const node = findByName("node", this.state.nodes, command.name);
      if (node.role === "manager")
        await this.#options.config.requireDispensable?.(node, command.type === "node.remove");
    }
    const { value: id, revision } = await this.#writer.run(
      (draft) => applyCommand(draft, command, this.#context()),
      (id) => {
        if (command.type === "node.remove") this.sessions.forget(id);
        if (command.type === "node.leave") this.sessions.down(id);
      },
      { isCommand: true },
    );
    return { revision, id };
  }

  /** Resolves when all that was released at `revision` is free, or that takes too long. */
  async waitFree(revision: number): Promise<void> {
    this.#term.requireLeading();
    await this.#barrier.wait(revision, HELD_ADDRESS_MS);
    await this.#writer.run(() => {}); // a turn frees it
  }

  /** Resolves when the address is no VTEP of a removed node any more, on no live node, or that takes too long. */
  async waitVtep(address: string): Promise<void> {
    this.#term.requireLeading();
    const held = this.state.allocations.get(address);
    if (held !== undefined) await this.#barrier.wait(held.releasedAt!, HELD_VTEP_MS);
  }

  /** Takes a node into the cluster, and returns its row. Throws UserError 409 when its name or address is another node's. */
  async admit(joining: Joining): Promise<Node> {
    this.#term.requireLeading();
    const { value } = await this.#writer.run((draft) => admitNode(draft, joining, this.#context()));
    this.#log.info("a node joined the cluster", { node: value.name, address: value.address });
    return value;
  }

  /** The node has a new certificate. Throws UserError 404 when the node was removed. */
  async renewed(nodeId: string, certified: Certified): Promise<void> {
    this.#term.requireLeading();
    await this.#writer.run((draft) => renewNode(draft, nodeId, certified));
  }

  /** Resolves with the names of the live nodes that have not applied `revision`: none, or when the time is over. */
  async waitApplied(revision: number, timeoutMs: number): Promise<string[]> {
    this.#term.requireLeading();
    return this.#barrier.wait(revision, timeoutMs);
  }

  #committed(changes: readonly AppliedChange[], lines: ChangeLines): void {
    for (const { kind, key, row } of changes) if (kind === "networks" && row === null) this.#addresses.forget(key);
    this.copies.committed(changes);
    this.#reconciler.completed();
    this.sessions.committed(changes, lines);
    if (!this.#term.isLeading || changes.every(({ kind }) => kind !== "settings")) return;
    this.#watch.paceChanged();
    this.sessions.paceChanged();
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
      silent: (nodeId) => this.#health.silent(nodeId),
    };
  }

  /** The term is over. */
  #end(): void {
    this.#watch.end();
    this.sessions.end();
    this.#barrier.close();
  }
}
