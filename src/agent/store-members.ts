// What the leader does about the store besides writing to it: at the third manager it moves the state to etcd, and from then
// on it keeps the members of etcd what the managers are.

import { managerAddressOf } from "../cluster/managers.ts";
import type { Node } from "../cluster/schema.ts";
import type { EmbeddedStore } from "../leader/embedded-store.ts";
import { whyNoEtcd } from "../leader/etcd-checks.ts";
import { peerUrlOf } from "../leader/etcd-command.ts";
import { EtcdMembers, type ManagerRow, type MemberAgent, quorumOf } from "../leader/etcd-members.ts";
import type { EtcdStore } from "../leader/etcd-store.ts";
import type { Leader } from "../leader/leader.ts";
import { type MoveTarget, moveStore } from "../leader/move-store.ts";
import { requireOtherManager } from "../leader/nodes.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { type EtcdAccess, etcdStore, externalEtcd, mendSpace, ownEtcd, untilReady } from "./etcd-access.ts";
import type { ManagerOptions, StoreKind } from "./manager-options.ts";
import { type MemberHost, ownMember } from "./own-member.ts";

/** So many managers can lose one. */
const ENOUGH = 3;
const PERIOD_MS = 1000;
/** How long after a move that failed the next one begins. */
const AGAIN_MS = 60_000;
/** The same where a manager did not answer: one that was just made a manager is about to. */
const SOON_MS = 2000;
const READY_MS = 60_000;
const ALARMS_MS = 10_000;
const LOOK_MS = 200;

/** The manager that leads. */
interface StoreHost extends MemberHost {
  readonly kind: StoreKind;
  /** The way to etcd; undefined: there is none. */
  readonly access: EtcdAccess | undefined;
  /** The state is in etcd from now on. */
  movedToEtcd(): void;
}

interface StoreMembersOptions {
  options: ManagerOptions;
  manager: StoreHost;
  leader: Leader;
  /** The store that it leads from, if that is its own file. */
  file: EmbeddedStore | undefined;
}

/** A manager did not answer; it may soon. */
class UnansweredError extends UserError {
  override name = "UnansweredError";
}

export class StoreMembers {
  readonly #all: StoreMembersOptions;
  readonly #stopping = new AbortController();
  readonly #run: Promise<void>;
  /** What the move opened. */
  #opened: { access: EtcdAccess; store: EtcdStore } | undefined;
  #members: EtcdMembers | undefined;
  #problem: string | undefined;
  /** No move begins before this time of the monotonic clock. */
  #notBefore = Number.NEGATIVE_INFINITY;
  #lookedForAlarmsAt = Number.NEGATIVE_INFINITY;

  constructor(all: StoreMembersOptions) {
    this.#all = all;
    this.#run = this.#keep();
  }

  /** The way to the etcd that the move opened; undefined: it opened none. */
  get openedAccess(): EtcdAccess | undefined {
    return this.#opened?.access;
  }

  /** Why the state has not moved to etcd, or why members are missing; undefined: all is as it should be. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Why a manager is no member, or not a whole one, by node id. */
  get problems(): ReadonlyMap<string, string> {
    return this.#members?.problems ?? new Map();
  }

  /** Throws UserError 409 when the managers cannot do without this one, or its node is removed with a member that both of two must remove. */
  async requireDispensable(node: Node, isRemoved: boolean): Promise<void> {
    const { id, name } = node;
    const { manager, leader } = this.#all;
    requireOtherManager(leader.state, node);
    const { kind } = manager;
    if (kind === "file" && id === manager.member.name) {
      throw new UserError(
        409,
        `node '${name}' leads, and the cluster's state is on its disk: 'overlayctl cluster takeover' on another manager first`,
      );
    }
    if (kind !== "etcd") return;
    const access = manager.access;
    const members = (await access?.client.members()) ?? [];
    const others = members.filter((member) => member.name !== id && !member.isLearner);
    const conditions = await Promise.all(
      others.map(async (member) => {
        const condition = await this.#agentOf(member.name)
          .condition()
          .catch(() => "ended");
        return { member: leader.state.nodes.get(member.name)?.name ?? member.name, condition };
      }),
    );
    const well = conditions.filter(({ condition }) => condition === "well");
    if (isRemoved && others.length < quorumOf(others.length + 1)) {
      throw new UserError(
        409,
        `node '${name}' is one of two managers, and its etcd is needed until it is removed: 'overlayctl node demote ${name}' first, and 'overlayctl node rm ${name}' when 'overlayctl cluster status' shows it no more`,
      );
    }
    if (others.length > 0 && well.length >= quorumOf(others.length)) return;
    const bad = conditions.filter(({ condition }) => condition !== "well").map(({ member }) => member);
    throw new UserError(
      409,
      `without node '${name}' the managers would have no majority: ${well.length} of ${others.length} are well, not so ${bad.join(", ")}; start those first, or remove them first`,
    );
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#run;
    await this.#opened?.store.close();
    this.#opened?.access.close();
  }

  async #keep(): Promise<void> {
    const { log } = this.#all.options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      let goesOn = false;
      try {
        goesOn = await this.#step();
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
    if (file !== undefined && file.moved === undefined) return this.#moveIfDue(file);
    if (manager.kind !== "etcd") return false;
    const access = manager.access;
    if (access === undefined) return false;
    this.#members ??= new EtcdMembers({
      client: access.client,
      managers: () => this.#managers(),
      agentOf: (id) => this.#agentOf(id),
      beforeChange: async () => void (await options.exports.write("before-change", this.#all.leader.state)),
      clock: systemClock,
      log: options.log,
    });
    await this.#mendSpace(access);
    const goesOn = await this.#members.step();
    this.#problem = undefined;
    return goesOn;
  }

  async #mendSpace(access: EtcdAccess): Promise<void> {
    const now = systemClock.monotonic();
    if (now - this.#lookedForAlarmsAt < ALARMS_MS) return;
    this.#lookedForAlarmsAt = now;
    if (await mendSpace(access)) this.#all.options.log.warn("etcd had used up its quota, and was made smaller");
  }

  async #moveIfDue(file: EmbeddedStore): Promise<boolean> {
    const { options, manager, leader } = this.#all;
    const { endpoints } = options.config.cluster.etcd;
    const ready = this.#managers().filter(({ isReady }) => isReady);
    if (endpoints === undefined && ready.length < ENOUGH) return false;
    if (systemClock.monotonic() < this.#notBefore) return false;
    const target = endpoints === undefined ? this.#ownTarget(ready) : this.#externalTarget(endpoints);
    try {
      await options.exports.write("before-change", leader.state);
      await moveStore({ from: file, target, leader, clock: systemClock, log: options.log });
    } catch (error) {
      this.#notBefore = systemClock.monotonic() + (error instanceof UnansweredError ? SOON_MS : AGAIN_MS);
      throw error;
    }
    manager.movedToEtcd();
    this.#problem = undefined;
    return true;
  }

  /** An etcd that the managers run. */
  #ownTarget(managers: readonly ManagerRow[]): MoveTarget {
    const { options, manager } = this.#all;
    const { member } = manager;
    const others = managers.filter(({ id }) => id !== member.name);
    return {
      check: () => this.#check(managers),
      begin: async () => {
        await member.begin({ state: "new", members: [{ name: member.name, peerUrl: member.peerUrl }] });
        const { access, store } = await this.#open(await ownEtcd(member));
        await untilReady(access, READY_MS, this.#stopping.signal);
        return { store, id: options.identity.clusterId };
      },
      join: async () => {
        const joining = new EtcdMembers({
          client: this.#opened!.access.client,
          managers: () => managers,
          agentOf: (id) => this.#agentOf(id),
          beforeChange: async () => {},
          clock: systemClock,
          log: options.log,
        });
        await this.#untilAllVote(joining, managers);
      },
      discard: async () => {
        await this.#opened?.store.close();
        this.#opened?.access.close();
        this.#opened = undefined;
        await member.remove();
        for (const { id, name } of others) {
          await this.#agentOf(id)
            .remove()
            .catch((error: unknown) =>
              options.log.warn("what was begun of etcd stays on a manager for now", {
                node: name,
                reason: messageOf(error),
              }),
            );
        }
      },
    };
  }

  #externalTarget(endpoints: string[]): MoveTarget {
    const { config, identity } = this.#all.options;
    return {
      check: async () => {},
      begin: async () => {
        const { access, store } = await this.#open(await externalEtcd({ ...config.cluster.etcd, endpoints }));
        await access.client.status();
        return { store, id: identity.clusterId };
      },
      join: async () => {},
      discard: async () => {
        await this.#opened?.store.close();
        this.#opened?.access.close();
        this.#opened = undefined;
      },
    };
  }

  async #open(access: EtcdAccess): Promise<{ access: EtcdAccess; store: EtcdStore }> {
    const { identity, ring, self, log } = this.#all.options;
    const store = etcdStore(access, {
      clusterId: identity.clusterId,
      sealKey: ring.keys.sealKey,
      self,
      clock: systemClock,
      log,
    });
    this.#opened = { access, store };
    return this.#opened;
  }

  /** Throws UserError with all reasons of all managers, and UnansweredError where one did not answer. */
  async #check(managers: readonly ManagerRow[]): Promise<void> {
    let areAllAnswered = true;
    const reasons = await Promise.all(
      managers.map(async ({ id, name }) => {
        try {
          const reason = whyNoEtcd(await this.#agentOf(id).check());
          return reason === undefined ? [] : [`${name}: ${reason}`];
        } catch (error) {
          areAllAnswered = false;
          return [`${name}: ${messageOf(error)}`];
        }
      }),
    );
    const all = reasons.flat();
    if (all.length === 0) return;
    const reason = `the state does not move to etcd yet: ${all.join("; ")}`;
    throw areAllAnswered ? new UserError(409, reason) : new UnansweredError(503, reason);
  }

  async #untilAllVote(joining: EtcdMembers, managers: readonly ManagerRow[]): Promise<void> {
    const deadline = systemClock.monotonic() + READY_MS * managers.length;
    for (;;) {
      if (await joining.step()) continue;
      const members = await this.#opened!.access.client.members();
      if (managers.every(({ id }) => members.some(({ name, isLearner }) => name === id && !isLearner))) return;
      const problems = [...joining.problems].map(
        ([id, why]) => `${managers.find((one) => one.id === id)?.name}: ${why}`,
      );
      if (systemClock.monotonic() > deadline) throw new Error(problems.join("; ") || "members do not come to vote");
      await delay(systemClock, LOOK_MS, this.#stopping.signal);
      if (this.#stopping.signal.aborted) throw new Error("this manager stops");
    }
  }

  #managers(): ManagerRow[] {
    const { options, manager, leader } = this.#all;
    return leader.state.nodes.by("role", "manager").map((node) => {
      const { id, name, address, state } = node;
      const isReachable = state === "ready" && managerAddressOf(node) !== undefined && options.state() !== undefined;
      return {
        id,
        name,
        peerUrl: peerUrlOf(address, STORE_PEER_PORT),
        isReady: id === manager.member.name || isReachable,
      };
    });
  }

  #agentOf(id: string): MemberAgent {
    const { options, manager, leader } = this.#all;
    if (id === manager.member.name) return ownMember(options, manager);
    const row = leader.state.nodes.get(id);
    return options.calls.member(row === undefined ? undefined : managerAddressOf(row));
  }
}
