// Which managers are members of etcd: the leader compares what should be with what there is, and takes one step at a time.
//   a member whose node is no manager any more          -> it is removed, then its data
//   a member with damaged data, while the others can do without it -> it is removed, and added again as a new one
//   a learner that has caught up                        -> it votes
//   a learner that does not begin in time, or is damaged -> it is removed
//   a manager that is ready and no member               -> it is checked, and added as a learner
import type { Clock } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type EtcdCheck, whyNoEtcd } from "./etcd-checks.ts";
import type { EtcdClient, EtcdMember } from "./etcd-client.ts";
import type { MemberStart } from "./etcd-command.ts";

/** A manager, by its node's row. */
export interface ManagerRow {
  id: string;
  name: string;
  peerUrl: string;
  isReady: boolean;
}

/** What the leader asks of a manager's agent. All throw UserError, also when it does not answer. */
export interface MemberAgent {
  check(): Promise<EtcdCheck[]>;
  begin(start: MemberStart): Promise<void>;
  /** Ends the member and deletes its data. */
  remove(): Promise<void>;
  /** Whether its process runs, and whether its data can be used. */
  condition(): Promise<MemberCondition>;
  /** Its member, which leads etcd, has the member with this id lead it. */
  giveLead(memberId: string): Promise<void>;
}

/** `damaged`: or gone. */
export type MemberCondition = "well" | "damaged" | "ended";

interface EtcdMembersOptions {
  client: Pick<EtcdClient, "members" | "addLearner" | "promoteMember" | "removeMember">;
  managers(): readonly ManagerRow[];
  agentOf(nodeId: string): Omit<MemberAgent, "giveLead">;
  /** Called before a member is added or removed: writes an export. */
  beforeChange(): Promise<void>;
  /** Machines whose disk is too slow for etcd are taken, too: an operator wants it so. */
  takesSlowDisks?: boolean;
  clock: Clock;
  log: Log;
}

/** A learner that has not begun to follow by then is given up. */
const LEARNER_MS = 120_000;
/** The same for one whose data is damaged or gone: its agent has started it again several times by then. */
const DAMAGED_LEARNER_MS = 10_000;

export class EtcdMembers {
  readonly #options: EtcdMembersOptions;
  // BOUNDED: by the managers; keyed by node id. Why the last step with it failed.
  readonly #problems = new Map<string, string>();
  /** The learner that is being added: one at a time, or etcd refuses. */
  #learner: { id: string; since: number } | undefined;

  constructor(options: EtcdMembersOptions) {
    this.#options = options;
  }

  /** Why a manager is no member, or not a whole one, by node id. */
  get problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  /** Takes one step. Resolves with whether another one may follow at once. Throws what etcd answers to a list of members. */
  async step(): Promise<boolean> {
    const members = await this.#options.client.members();
    const managers = this.#options.managers();
    for (const id of this.#problems.keys()) if (!managers.some((one) => one.id === id)) this.#problems.delete(id);
    const removed = await this.#removeStranger(members, managers);
    if (removed !== undefined) return removed;
    // The last member is never removed, whatever its node is.
    if (members.some((member) => managerOf(member, managers) === undefined)) return false;
    return (
      (await this.#raiseLearner(members, managers)) ??
      (await this.#renewDamaged(members, managers)) ??
      (await this.#add(members, managers)) ??
      false
    );
  }

  async #removeStranger(members: readonly EtcdMember[], managers: readonly ManagerRow[]): Promise<boolean | undefined> {
    const stranger = members.find((member) => managerOf(member, managers) === undefined);
    if (stranger === undefined || members.length === 1) return undefined;
    const { client, agentOf, beforeChange, log } = this.#options;
    await beforeChange();
    await client.removeMember(stranger.id);
    log.warn("a node is no manager any more: its etcd is removed", { node: stranger.name || stranger.peerUrls.join() });
    if (stranger.name !== "") {
      // One that does not answer deletes its data when it hears that it was removed.
      await agentOf(stranger.name)
        .remove()
        .catch((error: unknown) => log.warn("its data stays for now", { reason: messageOf(error) }));
    }
    return true;
  }

  async #raiseLearner(members: readonly EtcdMember[], managers: readonly ManagerRow[]): Promise<boolean | undefined> {
    const learner = members.find(({ isLearner }) => isLearner);
    if (learner === undefined) {
      this.#learner = undefined;
      return undefined;
    }
    const { client, clock, log } = this.#options;
    const row = managerOf(learner, managers)!;
    if (this.#learner?.id !== learner.id) this.#learner = { id: learner.id, since: clock.monotonic() };
    const { since } = this.#learner;
    try {
      await client.promoteMember(learner.id);
      this.#problems.delete(row.id);
      log.info("a manager's etcd votes from now", { node: row.name });
      return true;
    } catch (error) {
      const waitedMs = clock.monotonic() - since;
      this.#problems.set(row.id, `its etcd is being added: ${messageOf(error)}`);
      if (waitedMs < DAMAGED_LEARNER_MS) return false;
      if (waitedMs < LEARNER_MS && (await this.#conditionOf(row)) !== "damaged") return false;
      await this.#remove(learner, row);
      this.#problems.set(
        row.id,
        `its etcd was not in step after ${Math.round(waitedMs / 1000)} s: ${messageOf(error)}`,
      );
      return false;
    }
  }

  async #renewDamaged(members: readonly EtcdMember[], managers: readonly ManagerRow[]): Promise<boolean | undefined> {
    const { log } = this.#options;
    const conditions = await Promise.all(
      members.map(async (member) => {
        const row = managerOf(member, managers)!;
        return { member, row, condition: await this.#conditionOf(row) };
      }),
    );
    const damaged = conditions.find(({ condition }) => condition === "damaged");
    if (damaged === undefined) return undefined;
    const others = conditions.filter(({ member }) => member !== damaged.member);
    const well = others.filter(({ condition, member }) => condition === "well" && !member.isLearner).length;
    if (well < quorumOf(members.length) || others.length === 0) {
      const why = `its etcd's data is damaged, and only ${counted(well, `of ${members.length} members is`, `of ${members.length} members are`)} well: too few to do without it`;
      this.#problems.set(damaged.row.id, why);
      return undefined;
    }
    log.warn("the data of a manager's etcd is damaged: it is removed, and added again", { node: damaged.row.name });
    await this.#remove(damaged.member, damaged.row);
    return true;
  }

  async #add(members: readonly EtcdMember[], managers: readonly ManagerRow[]): Promise<boolean | undefined> {
    const missing = managers.find((one) => one.isReady && !members.some((member) => isOf(member, one)));
    if (missing === undefined) return undefined;
    const { client, agentOf, beforeChange, takesSlowDisks = false, log } = this.#options;
    const { id, name, peerUrl } = missing;
    try {
      const agent = agentOf(id);
      const reason = whyNoEtcd(await agent.check(), takesSlowDisks);
      if (reason !== undefined) throw new Error(reason);
      await beforeChange();
      // Etcd agrees with a majority first: a list of members that was old has cost no data.
      const learner = await client.addLearner(peerUrl);
      const known = members.map((member) => ({ name: managerOf(member, managers)!.id, peerUrl: member.peerUrls[0]! }));
      try {
        await agent.remove(); // what is left of an earlier one
        await agent.begin({ state: "existing", members: [...known, { name: id, peerUrl }] });
      } catch (error) {
        await client.removeMember(learner.id);
        throw error;
      }
      log.info("a manager's etcd is added", { node: name });
      return true;
    } catch (error) {
      const reason = messageOf(error);
      if (this.#problems.get(id) !== reason) log.warn("a manager's etcd is not added", { node: name, reason });
      this.#problems.set(id, reason);
      return undefined;
    }
  }

  #conditionOf({ id }: ManagerRow): Promise<MemberCondition> {
    return this.#options
      .agentOf(id)
      .condition()
      .catch(() => "ended" as const);
  }

  async #remove(member: EtcdMember, row: ManagerRow): Promise<void> {
    const { client, agentOf, beforeChange } = this.#options;
    await beforeChange();
    await client.removeMember(member.id);
    await agentOf(row.id)
      .remove()
      .catch((error: unknown) => this.#problems.set(row.id, messageOf(error)));
  }
}

/** How many of `voters` must be well. */
export function quorumOf(voters: number): number {
  return Math.floor(voters / 2) + 1;
}

function managerOf(member: EtcdMember, managers: readonly ManagerRow[]): ManagerRow | undefined {
  return managers.find((one) => isOf(member, one));
}

/** A member that has not started has no name yet. */
function isOf({ name, peerUrls }: EtcdMember, { id, peerUrl }: ManagerRow): boolean {
  return name === id || (name === "" && peerUrls.includes(peerUrl));
}
