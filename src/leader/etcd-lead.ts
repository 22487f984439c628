// Which member leads etcd. The manager that leads wants its own to: a commit goes through the member that leads, and is a way over
// the network shorter then. Nothing depends on it. So it is asked for rarely, and only while every member is well and in step
// and none is changed. While etcd changes its leader it may drop a transaction without an answer: so none is sent meanwhile.
import { Backoff } from "../lib/backoff.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { EtcdClient, EtcdMember } from "./etcd-client.ts";
import type { MemberAgent } from "./etcd-members.ts";

/** How long after a manager began to lead it looks: the one before may be handing etcd over to it. */
const FIRST_MS = 2000;
const LOOK_MS = 10_000;
const LONGEST_PAUSE_MS = 600_000;
/** Entries of etcd's log that a member in step may have yet to apply. */
const MOST_BEHIND = 1000;

interface EtcdLeadOptions {
  /** Asks the leader's own member. */
  client: Pick<EtcdClient, "status" | "members" | "alarms" | "moveLeader">;
  agentOf(nodeId: string): Pick<MemberAgent, "condition" | "giveLead">;
  /** Has `work` done while nothing is written. */
  pause(work: () => Promise<void>): Promise<void>;
  /** Whether members are about to be changed or started again. */
  isChanging(): boolean;
  clock: Clock;
  log: Log;
}

export class EtcdLead {
  readonly #options: EtcdLeadOptions;
  readonly #pauses = new Backoff(LOOK_MS, LONGEST_PAUSE_MS);
  #nextAt: number;

  constructor(options: EtcdLeadOptions) {
    this.#options = options;
    this.#nextAt = options.clock.monotonic() + FIRST_MS;
  }

  /** Has the leader's own member lead etcd, if it is time to look and that costs nothing. Never throws. */
  async step(): Promise<void> {
    const { clock, log } = this.#options;
    if (clock.monotonic() < this.#nextAt) return;
    let pauseMs = LOOK_MS;
    try {
      const [from, to] = (await this.#wanted()) ?? [];
      if (from !== undefined && to !== undefined) {
        await this.#options.pause(() => this.#options.agentOf(from.name).giveLead(to.id));
        log.info("etcd is led by this manager's own member from now", { node: from.name });
      }
      this.#pauses.succeeded();
    } catch (error) {
      const isFirst = this.#pauses.failures === 0;
      pauseMs = this.#pauses.failed();
      const reason = messageOf(error);
      if (isFirst) log.info("another manager's member leads etcd on, which makes writes a little slower", { reason });
    }
    this.#nextAt = clock.monotonic() + pauseMs;
  }

  /** Has a member that is well lead etcd instead of the leader's own, unless `signal` aborts before. Throws what keeps it from that. */
  async giveAway(signal: AbortSignal): Promise<void> {
    const { client, agentOf, isChanging, pause } = this.#options;
    const { memberId, leader } = await client.status();
    if (leader !== memberId || isChanging()) return;
    const others = (await client.members()).filter(({ id, name, isLearner }) => id !== memberId && name && !isLearner);
    const asked = others.map(async (member) => {
      if ((await agentOf(member.name).condition()) !== "well") throw new Error(`${member.name} is not well`);
      return member;
    });
    const well = await Promise.any(asked).catch(() => undefined);
    if (well === undefined || signal.aborted) return;
    await pause(() => client.moveLeader(well.id, { signal }));
  }

  /** The member that leads etcd, and the one that should; undefined: it does, or this is no time to change it. */
  async #wanted(): Promise<[EtcdMember, EtcdMember] | undefined> {
    const { client, agentOf, isChanging } = this.#options;
    const { memberId, leader, isLearner, errors, raftIndex, raftAppliedIndex } = await client.status();
    if (leader === memberId || leader === "0") return undefined;
    if (isChanging() || isLearner || errors.length > 0 || raftIndex - raftAppliedIndex > MOST_BEHIND) return undefined;
    const [members, alarms] = [await client.members(), await client.alarms()];
    const [from, to] = [leader, memberId].map((id) => members.find((member) => member.id === id));
    if (from === undefined || to === undefined || alarms.length > 0) return undefined;
    if (members.some((member) => member.isLearner || member.name === "")) return undefined;
    const conditions = await Promise.all(members.map(({ name }) => agentOf(name).condition()));
    return conditions.every((condition) => condition === "well") ? [from, to] : undefined;
  }
}
