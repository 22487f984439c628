// Members of etcd as holders of the store's CA: the leader has one after the other take what the state says. A member reads
// the CAs that it trusts at its start alone, so it is started again when they change: only while all others are well, the
// leader's own last.
import type { Clock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { AuthorityHolders } from "./authority-rotation.ts";
import type { MemberCondition } from "./etcd-members.ts";
import type { MemberTrust } from "./manager-protocol.ts";

interface MemberView extends MemberTrust {
  /** The node's id and name. */
  id: string;
  name: string;
  condition: MemberCondition;
}

interface StoreAuthorityOptions {
  /** The node id of the leader's own member. */
  own: string;
  /** What the state says; undefined: the etcd is external. */
  wanted(): MemberTrust | undefined;
  /** All members, those that do not answer among them. Throws what etcd answers to a list of members. */
  members(): Promise<readonly MemberView[]>;
  /** Resolves when the manager's member has `wanted` and takes part in etcd again. Throws UserError. */
  take(id: string, wanted: MemberTrust): Promise<void>;
  clock: Clock;
  log: Log;
}

/** How often a store that is as it should be is looked at. A change of the state is seen at once. */
const LOOK_MS = 10_000;

export class StoreAuthority implements AuthorityHolders {
  readonly #options: StoreAuthorityOptions;
  #isAsWanted: { wanted: string; at: number } | undefined;
  #problem: string | undefined;

  constructor(options: StoreAuthorityOptions) {
    this.#options = options;
  }

  /** Why a member has not taken what the state says; undefined: all have, or the next is about to. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async requireReady(): Promise<void> {
    if (this.#options.wanted() === undefined) {
      throw new UserError(
        409,
        "the external etcd has certificates of its own, of the files in cluster.etcd of the managers' configuration: overlayd does not change its CA",
      );
    }
    const bad = (await this.#options.members()).filter(({ condition }) => condition !== "well");
    if (bad.length === 0) return;
    throw new UserError(
      409,
      `the CA of the managers' store is changed only while the etcd of every manager is well, and not so is that of ${namesOf(bad)}: ` +
        "'overlayctl cluster status' says why; 'overlayctl ca rotate nodes' changes the other CA alone",
    );
  }

  async notTrustingBoth(): Promise<readonly string[]> {
    return this.#namesWhere(({ trusts }, wanted) => !wanted.trusts.every((digest) => trusts.includes(digest)));
  }

  async notRenewed(digest: string): Promise<readonly string[]> {
    return this.#namesWhere(({ signer }) => signer !== digest);
  }

  async trustingAnother(): Promise<readonly string[]> {
    return this.#namesWhere(({ trusts }, wanted) => trusts.some((digest) => !wanted.trusts.includes(digest)));
  }

  async behind(): Promise<{ names: readonly string[]; reason: string | null }> {
    const wanted = this.#options.wanted();
    if (wanted === undefined) return { names: [], reason: null };
    const members = await this.#options.members();
    const bad = members.filter(({ condition }) => condition !== "well");
    const names = members.filter((member) => !has(member, wanted)).map(({ name }) => name);
    return { names, reason: bad.length > 0 ? waitsUntilWell(bad) : (this.#problem ?? null) };
  }

  /** Has one member take what the state says, if one has not. Resolves with whether another one may follow at once. */
  async step(): Promise<boolean> {
    const { wanted: find, members, take, clock, log, own } = this.#options;
    const wanted = find();
    if (wanted === undefined) return false;
    const text = JSON.stringify(wanted);
    const seen = this.#isAsWanted;
    if (seen?.wanted === text && clock.monotonic() - seen.at < LOOK_MS) return false;
    const all = await members();
    const others = all.filter((member) => !has(member, wanted)).toSorted((a, b) => rankOf(a, own) - rankOf(b, own));
    if (others.length === 0) {
      this.#isAsWanted = { wanted: text, at: clock.monotonic() };
      this.#problem = undefined;
      return false;
    }
    for (const member of others) {
      const bad = all.filter((other) => other !== member && other.condition !== "well");
      // One that is not well takes no part: to start it again costs nothing.
      if (member.condition === "well" && bad.length > 0) {
        this.#problem = `the etcd of ${member.name} is to be started again with other CAs: ${waitsUntilWell(bad)}`;
        continue;
      }
      try {
        await take(member.id, wanted);
        this.#problem = undefined;
        log.info("a manager's etcd has the certificates and CAs that the state says", { node: member.name });
        return true;
      } catch (error) {
        this.#problem = `the etcd of ${member.name} has not taken the store's CAs yet: ${messageOf(error)}`;
      }
    }
    return false;
  }

  async #namesWhere(isSo: (member: MemberView, wanted: MemberTrust) => boolean): Promise<readonly string[]> {
    const wanted = this.#options.wanted();
    if (wanted === undefined) return [];
    return (await this.#options.members()).filter((member) => isSo(member, wanted)).map(({ name }) => name);
  }
}

/** Whether a member trusts and shows what it should. */
export function has({ trusts, signer }: MemberTrust, wanted: MemberTrust): boolean {
  return signer === wanted.signer && trusts.toSorted().join() === wanted.trusts.toSorted().join();
}

/** Members that are not well come first, the leader's own last. */
function rankOf({ id, condition }: MemberView, own: string): number {
  return id === own ? 2 : condition === "well" ? 1 : 0;
}

/** What a change waits for when members are not well, and what a person can do. */
function waitsUntilWell(bad: readonly MemberView[]): string {
  const removed = bad.map(({ name }) => `'overlayctl node demote ${name}'`).join(" and ");
  return (
    `it waits for that of ${namesOf(bad)} to be well, and goes on by itself then ('overlayctl cluster status' says what is wrong); ` +
    `a manager that does not come back is removed with ${removed}`
  );
}

function namesOf(members: readonly MemberView[]): string {
  return members.map(({ name }) => name).join(", ");
}
