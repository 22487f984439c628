// `overlayctl cluster`: what an operator asks of a manager about the store and the other managers.
import type {
  ClusterStatusView,
  ManagerStatusView,
  MoveView,
  RecoverView,
  TakeoverView,
} from "../api/cluster-schema.ts";
import { warningOfCount } from "../api/manager-count.ts";
import { managerAddressOf } from "../cluster/managers.ts";
import type { State } from "../cluster/tables.ts";
import { quorumOf } from "../leader/etcd-members.ts";
import type { ManagerReport, MemberTrust } from "../leader/manager-protocol.ts";
import { type CopyRequest, stateOfCopy } from "../leader/state-copy.ts";
import { delay, systemClock } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { currentAsker } from "../lib/on-behalf.ts";
import { authorityProgress } from "./authority-progress.ts";
import type { Manager } from "./manager.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { reportOf } from "./manager-report.ts";

const ASK_MS = 3000;
const EXPORT_MS = 30_000;
const LEADS_MS = 60_000;
const LOOK_MS = 100;

export class ClusterOperations {
  readonly #options: ManagerOptions;
  readonly #manager: Manager;

  constructor(options: ManagerOptions, manager: Manager) {
    this.#options = options;
    this.#manager = manager;
  }

  /** Asks all managers, those that do not answer among them. */
  async status(): Promise<ClusterStatusView> {
    const { calls, self, identity } = this.#options;
    const own = await reportOf(this.#options, this.#manager);
    const state = this.#manager.leader?.state ?? this.#options.state();
    const rows = state?.nodes.by("role", "manager") ?? [];
    const problems = this.#manager.members?.problems ?? new Map<string, string>();
    // BOUNDED: by the managers; by the name of the node.
    const trusts = new Map<string, MemberTrust>();
    const managers = await Promise.all(
      rows.map(async (row): Promise<ManagerStatusView> => {
        const address = managerAddressOf(row) ?? null;
        const place = { node: row.name, address, self: address === self };
        try {
          const report = address === self ? own : await this.#ask(address, (manager) => calls.report(manager, ASK_MS));
          if (report.member !== null) trusts.set(row.name, report.member.trust);
          return { ...place, ...viewOf(report, problems.get(row.id)) };
        } catch (error) {
          if (own.store === "etcd") trusts.set(row.name, { trusts: [], signer: null }); // a change waits for it
          return { ...place, ...UNREACHED, problem: messageOf(error), mend: MEND_UNREACHED };
        }
      }),
    );
    return {
      cluster: identity.clusterId,
      epoch: own.cluster?.epoch ?? null,
      revision: own.revision,
      store: own.store === "copy" ? "file" : own.store,
      leader: managers.find(({ role }) => role === "leader")?.node ?? null,
      managers: managers.toSorted((a, b) => a.node.localeCompare(b.node)),
      warnings: [
        ...warningsOf(managers, own.store),
        ...listOf(this.#manager.members?.problem),
        ...(state === undefined ? [] : authorityProgress(state, trusts, systemClock.now())),
      ],
    };
  }

  /** Writes an export to this manager's disk. Returns its revision. */
  async export(path: string): Promise<{ path: string; revision: number }> {
    const state = await this.wholeState();
    await this.#options.exports.writeTo(path, state);
    return { path, revision: state.revision };
  }

  /** The cluster's whole state: the leader's, or what this manager has of it. Throws UserError 503 when it has none. */
  async wholeState(): Promise<State> {
    const { leader, copy } = this.#manager;
    if (leader !== undefined) return leader.state;
    const { calls } = this.#options;
    const address = this.#manager.leaderAddress;
    if (address !== undefined) {
      const nothing: CopyRequest = { cluster: null, revision: 0 };
      try {
        return stateOfCopy(await calls.copy(address, nothing, AbortSignal.timeout(EXPORT_MS)));
      } catch (error) {
        if (copy === undefined) throw error;
      }
    }
    const copied = await this.#manager.copiedState();
    if (copied === undefined) throw new UserError(503, "this manager has no whole state, and no manager leads");
    return copied;
  }

  /** Has the leader move the state from its file to etcd: this manager, or the one that it follows. Throws UserError. */
  async move(force: boolean): Promise<MoveView> {
    const { calls, log } = this.#options;
    const { members } = this.#manager;
    if (members !== undefined) {
      const asker = currentAsker() ?? "this manager";
      log.warn("an operator has the state move to etcd", { reason: force ? `${asker}, by force` : asker });
      return members.moveNow({ force });
    }
    const address = this.#manager.leaderAddress;
    if (address === undefined) this.#manager.requireLeader();
    return calls.move(address!, { force });
  }

  /** This standby leads from its copy. Throws UserError 409 while the leader answers, unless it is forced. */
  async takeOver(force: boolean): Promise<TakeoverView> {
    const { calls, tookOver, log, config } = this.#options;
    if (this.#manager.leader !== undefined) throw new UserError(409, "this manager leads already");
    if (this.#manager.kind !== "copy") {
      throw new UserError(
        409,
        "the managers' etcd chooses the leader; if a majority of them is gone for good: 'overlayctl cluster recover'",
      );
    }
    const address = this.#manager.leaderAddress;
    const report = address === undefined ? undefined : await calls.report(address, ASK_MS).catch(() => undefined);
    if (report?.role === "leader" && !force) {
      throw new UserError(
        409,
        `${report.node} leads, and answers at ${address}: stop its agent first; '--force' takes over all the same, and what is not copied is lost`,
      );
    }
    const behind = report === undefined ? null : report.revision - (this.#manager.copy?.revision ?? 0);
    const { revision, epoch } = await this.#manager.takeOver(this.#newEpoch());
    await tookOver.write({ epoch, revision });
    await this.#untilLeading();
    log.warn("this standby took over the cluster by hand", { node: config.node.name, revision });
    return { epoch, revision, notCopied: behind === null ? null : Math.max(0, behind) };
  }

  /** The last living manager leads alone. Throws UserError 409 while a majority of members is there, unless it is forced. */
  async recover(force: boolean): Promise<RecoverView> {
    const { log, config } = this.#options;
    const { kind, member } = this.#manager;
    if (this.#manager.leader !== undefined) throw new UserError(409, "this manager leads: there is nothing to recover");
    if (kind !== "etcd") {
      throw new UserError(
        409,
        "this manager has no etcd of its own: a standby takes over with 'overlayctl cluster takeover', and an export is imported with 'overlayctl cluster import FILE'",
      );
    }
    const { managers } = await this.status();
    const alive = managers.filter(({ etcd }) => etcd?.process === "running");
    if (alive.length >= quorumOf(managers.length) && !force) {
      throw new UserError(
        409,
        `the etcd of ${alive.map(({ node }) => node).join(", ")} runs, a majority of ${managers.length}: they choose a leader by themselves; '--force' recovers from this one all the same`,
      );
    }
    const complaint = await member.complaint();
    if (complaint?.kind === "damaged") {
      throw new UserError(
        409,
        `the data of this manager's etcd is damaged (${complaint.text}): recover on another one, or 'overlayctl cluster import FILE' from an export`,
      );
    }
    log.warn("this manager's etcd forgets the other members, as the operator asked", { node: config.node.name });
    const { revision, epoch } = await this.#manager.recover(this.#newEpoch());
    await this.#untilLeading();
    return { epoch, revision };
  }

  /** Higher than that of another manager that took over, which this one may know nothing of. */
  #newEpoch(): number {
    return Math.floor(systemClock.now() / 1000);
  }

  async #untilLeading(): Promise<void> {
    const deadline = systemClock.monotonic() + LEADS_MS;
    while (this.#manager.leader === undefined) {
      if (systemClock.monotonic() > deadline) {
        throw new UserError(
          503,
          `this manager does not lead yet: ${this.#manager.whyNot ?? "it goes on trying"}; 'overlayctl cluster status' says when it does`,
        );
      }
      await delay(systemClock, LOOK_MS);
    }
  }

  #ask<T>(address: string | null, ask: (address: string) => Promise<T>): Promise<T> {
    if (address === null) throw new UserError(503, "it has not said where it answers");
    return ask(address);
  }
}

const UNREACHED = { role: "unreachable", revision: null, etcd: null, newestExport: null } as const;
const MEND_UNREACHED =
  "start its agent or machine; if it is gone for good, 'overlayctl node demote NAME' and then 'overlayctl node rm NAME'";

function viewOf(report: ManagerReport, problem: string | undefined) {
  const { role, revision, member, newestExport } = report;
  const etcd =
    member === null
      ? null
      : {
          process: member.process,
          pid: member.pid,
          version: member.version,
          learner: member.isLearner,
          bytes: member.bytes,
        };
  return {
    ...{ role, revision, etcd, newestExport },
    // Why its etcd does not run says more than that it cannot be reached.
    problem: member?.problem ?? report.problem ?? problem ?? null,
    mend: member?.mend ?? null,
  };
}

/** What the number of managers means for what may fail. */
function warningsOf(managers: readonly ManagerStatusView[], store: ManagerReport["store"]): string[] {
  const count = managers.length;
  const warnings = store === "external etcd" ? [] : listOf(warningOfCount(count, store !== "etcd"));
  const well = managers.filter(({ role, problem }) => role !== "unreachable" && problem === null).length;
  if (store === "etcd" && well < quorumOf(count)) {
    warnings.push(
      `only ${counted(well, `of ${count} managers is`, `of ${count} managers are`)} well, fewer than the majority of ${quorumOf(count)}: writes are refused; nodes, names and containers go on`,
    );
  }
  return warnings;
}

function listOf<T>(value: T | undefined): T[] {
  return value === undefined ? [] : [value];
}
