// What the leader does about the store besides writing to it: at the third manager it moves the state to etcd, and from then
// on it keeps the members of etcd what the managers are.
import type { MoveView } from "../api/cluster-schema.ts";
import type { Node } from "../cluster/schema.ts";
import type { EmbeddedStore } from "../leader/embedded-store.ts";
import { EtcdLead } from "../leader/etcd-lead.ts";
import { EtcdMembers, type ManagerRow } from "../leader/etcd-members.ts";
import type { StoreAuthority } from "../leader/store-authority.ts";
import { Backoff } from "../lib/backoff.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { withDeadline } from "../lib/deadline.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { Turns } from "../lib/turns.ts";
import { requireDispensable } from "./dispensable.ts";
import { type EtcdAccess, mendSpace } from "./etcd-access.ts";
import { type LeadingManager, managerRows, memberAgent } from "./member-agents.ts";
import { StoreMove } from "./store-move.ts";
import { storeAuthorityOf } from "./store-trust.ts";

/** So many managers can lose one. */
const ENOUGH = 3;
const PERIOD_MS = 1000;
/** How long after a move that failed the next one begins: a manager that was just made one is about to answer. */
const FIRST_PAUSE_MS = 2000;
const LONGEST_PAUSE_MS = 60_000;
const ALARMS_MS = 10_000;
/** How long a manager that stops has for that. Nothing is written meanwhile. */
const HAND_OVER_MS = 1000;

interface StoreMembersOptions extends LeadingManager {
  /** The store that it leads from, if that is its own file. */
  file: EmbeddedStore | undefined;
}

export class StoreMembers {
  /** Has the members take the store's CA as the state says. */
  readonly authority: StoreAuthority;
  readonly #all: StoreMembersOptions;
  readonly #stopping = new AbortController();
  readonly #move: StoreMove | undefined;
  /** Steps, and the move that a person asks for. */
  readonly #turns = new Turns();
  readonly #run: Promise<void>;
  readonly #pause = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  #members: EtcdMembers | undefined;
  #lead: EtcdLead | undefined;
  #problem: string | undefined;
  /** No move begins by itself before this time of the monotonic clock. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #lookedForAlarmsAt = Number.NEGATIVE_INFINITY;

  constructor(all: StoreMembersOptions) {
    const { file } = all;
    this.#all = all;
    this.#move = file && new StoreMove({ ...all, file, signal: this.#stopping.signal });
    this.authority = storeAuthorityOf(all.options, all.manager, all.leader);
    this.#run = this.#keep();
  }

  /** The way to the etcd that the move opened; undefined: it opened none. */
  get openedAccess(): EtcdAccess | undefined {
    return this.#move?.openedAccess;
  }

  /** Why the state has not moved to etcd, or why members are missing; undefined: all is as it should be. */
  get problem(): string | undefined {
    return this.#problem ?? this.authority.problem;
  }

  /** Why a manager is no member, or not a whole one, by node id. */
  get problems(): ReadonlyMap<string, string> {
    return this.#members?.problems ?? new Map();
  }

  /** See dispensable.ts. Throws UserError 409. */
  requireDispensable(node: Node, isRemoved: boolean): Promise<void> {
    return requireDispensable(this.#all, node, isRemoved);
  }

  /** Moves the state to etcd with the managers that are ready, as a person asks. Throws UserError. */
  moveNow({ force }: { force: boolean }): Promise<MoveView> {
    return this.#turns.run(async () => {
      const { file, manager, leader } = this.#all;
      leader.requireLeading();
      if (this.#move === undefined || file?.moved !== undefined) {
        const where = manager.kind === "etcd" ? "an etcd that the managers run" : "the external etcd";
        throw new UserError(409, `the cluster's state is in ${where} already: 'overlayctl cluster status' shows it`);
      }
      const rows = managerRows(this.#all);
      const ready = rows.filter(({ isReady }) => isReady);
      const warnings = await this.#moveWith(ready, force);
      const isExternal = manager.kind === "external etcd";
      return {
        store: isExternal ? "external etcd" : "etcd",
        revision: leader.state.revision,
        members: isExternal ? [] : ready.map(({ name }) => name),
        missing: isExternal ? [] : rows.filter(({ isReady }) => !isReady).map(({ name }) => name),
        warnings,
      };
    });
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#run;
    await this.#turns.settled();
    await this.#move?.close();
  }

  async #keep(): Promise<void> {
    const { log } = this.#all.options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let goesOn = false;
      try {
        goesOn = await this.#turns.run(() => this.#step());
      } catch (error) {
        const problem = messageOf(error);
        if (problem !== this.#problem) log.warn("the managers' store is not as it should be", { reason: problem });
        this.#problem = problem;
      }
      if (!goesOn) await delay(systemClock, PERIOD_MS, signal);
    }
  }

  async #step(): Promise<boolean> {
    const { manager, file, options } = this.#all;
    if (file !== undefined && file.moved === undefined) return this.#moveIfDue();
    if (manager.kind !== "etcd") return false;
    const access = manager.access;
    if (access === undefined) return false;
    this.#members ??= new EtcdMembers({
      client: access.client,
      managers: () => managerRows(this.#all),
      agentOf: (id) => memberAgent(this.#all, id),
      beforeChange: async () => void (await options.exports.write("before-change", this.#all.leader.state)),
      clock: systemClock,
      log: options.log,
    });
    this.#lead ??= new EtcdLead({
      client: access.client,
      agentOf: (id) => memberAgent(this.#all, id),
      pause: (work) => this.#all.leader.pause(work),
      isChanging: () => this.problem !== undefined || this.problems.size > 0 || this.#changesAuthority(),
      clock: systemClock,
      log: options.log,
    });
    await this.#mendSpace(access);
    const goesOn = (await this.#members.step()) || (await this.authority.step());
    this.#problem = undefined;
    if (!goesOn) await this.#lead.step();
    return goesOn;
  }

  /** Whether the store's CA is being changed: members are started again then. */
  #changesAuthority(): boolean {
    return (this.#all.leader.state.trust.get("store")?.bundle.length ?? 1) > 1;
  }

  /**
   * Has another manager's member lead etcd: the machine of one that stops may stop, too, and this manager is not there to be asked
   * for it. To be called before another manager may lead, for etcd drops what is asked of it meanwhile.
   */
  async handOver(): Promise<void> {
    const lead = this.#lead;
    if (lead === undefined) return;
    await withDeadline(HAND_OVER_MS, (signal) => this.#turns.run(() => lead.giveAway(signal))).catch(
      (error: unknown) => {
        const reason = messageOf(error);
        this.#all.options.log.info("etcd is led by the member of this manager on, which stops", { reason });
      },
    );
  }

  async #mendSpace(access: EtcdAccess): Promise<void> {
    const now = systemClock.monotonic();
    if (now - this.#lookedForAlarmsAt < ALARMS_MS) return;
    this.#lookedForAlarmsAt = now;
    if (await mendSpace(access, this.#stopping.signal))
      this.#all.options.log.warn("etcd had used up its quota, and was made smaller");
  }

  async #moveIfDue(): Promise<boolean> {
    const { endpoints } = this.#all.options.config.cluster.etcd;
    const ready = managerRows(this.#all).filter(({ isReady }) => isReady);
    if (endpoints === undefined && ready.length < ENOUGH) return false;
    if (systemClock.monotonic() < this.#notBefore) return false;
    try {
      await this.#moveWith(ready, false);
    } catch (error) {
      this.#notBefore = systemClock.monotonic() + this.#pause.failed();
      throw error;
    }
    return true;
  }

  async #moveWith(managers: readonly ManagerRow[], force: boolean): Promise<string[]> {
    const warnings = await this.#move!.run(managers, { force });
    for (const reason of warnings) this.#all.options.log.warn("a manager's machine is weak for etcd", { reason });
    this.#problem = undefined;
    return warnings;
  }
}
