// The move of the state from the leader's file to etcd, with the managers that there are: the leader begins it by itself at
// the third manager, or when a person says so.
import type { EmbeddedStore } from "../leader/embedded-store.ts";
import { type EtcdCheck, whyNoEtcd } from "../leader/etcd-checks.ts";
import { EtcdMembers, type ManagerRow } from "../leader/etcd-members.ts";
import type { EtcdStore } from "../leader/etcd-store.ts";
import { type MoveTarget, moveStore } from "../leader/move-store.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { type EtcdAccess, etcdStore, externalEtcd, ownEtcd, untilReady } from "./etcd-access.ts";
import { type LeadingManager, memberAgent } from "./member-agents.ts";

const READY_MS = 60_000;
const LOOK_MS = 200;

interface StoreMoveOptions extends LeadingManager {
  file: EmbeddedStore;
  /** Aborted when this manager leads no longer. */
  signal: AbortSignal;
}

export class StoreMove {
  readonly #all: StoreMoveOptions;
  #opened: { access: EtcdAccess; store: EtcdStore } | undefined;

  constructor(all: StoreMoveOptions) {
    this.#all = all;
  }

  /** The way to the etcd that was opened; undefined: none was. */
  get openedAccess(): EtcdAccess | undefined {
    return this.#opened?.access;
  }

  /**
   * Resolves, when the leader leads from etcd, with what a person should know. `force`: disks that are too slow are taken.
   * Throws UserError with what keeps it from that; then all is as it was.
   */
  async run(managers: readonly ManagerRow[], { force = false } = {}): Promise<string[]> {
    const { options, manager, leader, file } = this.#all;
    const { endpoints } = options.config.cluster.etcd;
    const warnings: string[] = [];
    await moveStore({
      ...{ from: file, leader, clock: systemClock, log: options.log },
      target: endpoints === undefined ? this.#ownTarget(managers, force, warnings) : this.#externalTarget(endpoints),
      step: async (step) => {
        if (step === "begin") await options.exports.write("before-change", leader.state);
      },
    });
    manager.movedToEtcd();
    return warnings;
  }

  async close(): Promise<void> {
    await this.#opened?.store.close();
    this.#opened?.access.close();
    this.#opened = undefined;
  }

  /** An etcd that the managers run. */
  #ownTarget(managers: readonly ManagerRow[], force: boolean, warnings: string[]): MoveTarget {
    const { options, manager, signal } = this.#all;
    const { member } = manager;
    const others = managers.filter(({ id }) => id !== member.name);
    return {
      check: async () => void warnings.push(...(await this.#check(managers, force))),
      begin: async () => {
        await member.begin({ state: "new", members: [{ name: member.name, peerUrl: member.peerUrl }] });
        const { access, store } = this.#open(await ownEtcd(member));
        await untilReady(access, READY_MS, signal);
        return { store, id: (await access.client.status()).clusterId };
      },
      join: async () => {
        const joining = new EtcdMembers({
          client: this.#opened!.access.client,
          managers: () => managers,
          agentOf: (id) => memberAgent(this.#all, id),
          beforeChange: async () => {},
          takesSlowDisks: force,
          clock: systemClock,
          log: options.log,
        });
        await this.#untilAllVote(joining, managers);
      },
      discard: async () => {
        await this.close();
        await member.remove();
        for (const { id, name } of others) {
          await memberAgent(this.#all, id)
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
    const { config } = this.#all.options;
    return {
      check: async () => {},
      begin: async () => {
        const { access, store } = this.#open(await externalEtcd({ ...config.cluster.etcd, endpoints }));
        return { store, id: (await access.client.status()).clusterId };
      },
      join: async () => {},
      discard: () => this.close(),
    };
  }

  #open(access: EtcdAccess): { access: EtcdAccess; store: EtcdStore } {
    const store = etcdStore(access, this.#all.options);
    this.#opened = { access, store };
    return this.#opened;
  }

  /** Resolves with what the managers' machines warn of. Throws UserError with the reasons of all of them. */
  async #check(managers: readonly ManagerRow[], force: boolean): Promise<string[]> {
    const checks = await Promise.all(
      managers.map(async (manager) => ({ name: manager.name, ...(await this.#checkOne(manager)) })),
    );
    const reasons = checks.flatMap(({ name, failure, found }) => {
      const reason = failure ?? whyNoEtcd(found, force);
      return reason === undefined ? [] : [`${name}: ${reason}`];
    });
    if (reasons.length > 0) {
      const isForceEnough = checks.every(({ failure, found }) => (failure ?? whyNoEtcd(found, true)) === undefined);
      const mend = isForceEnough ? "; 'overlayctl cluster move --force' moves it all the same" : "";
      throw new UserError(409, `the state does not move to etcd yet: ${reasons.join("; ")}${mend}`);
    }
    return checks.flatMap(({ name, found }) =>
      found.filter(({ verdict }) => verdict !== "well").map(({ text }) => `${name}: ${text}`),
    );
  }

  async #checkOne({ id }: ManagerRow): Promise<{ found: EtcdCheck[]; failure?: string }> {
    try {
      return { found: await memberAgent(this.#all, id).check() };
    } catch (error) {
      return { found: [], failure: messageOf(error) };
    }
  }

  async #untilAllVote(joining: EtcdMembers, managers: readonly ManagerRow[]): Promise<void> {
    const { signal } = this.#all;
    const deadline = systemClock.monotonic() + READY_MS * managers.length;
    for (;;) {
      if (await joining.step()) continue;
      const members = await this.#opened!.access.client.members();
      if (managers.every(({ id }) => members.some(({ name, isLearner }) => name === id && !isLearner))) return;
      const problems = [...joining.problems].map(
        ([id, why]) => `${managers.find((one) => one.id === id)?.name}: ${why}`,
      );
      if (systemClock.monotonic() > deadline) throw new Error(problems.join("; ") || "members do not come to vote");
      await delay(systemClock, LOOK_MS, signal);
      if (signal.aborted) throw new Error("this manager stops");
    }
  }
}
