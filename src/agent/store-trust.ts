// The members of etcd as holders of the store's CA: what the leader sees of them, and how one takes what the state says.
import { managerAddressOf } from "../cluster/managers.ts";
import type { Leader } from "../leader/leader.ts";
import type { MemberReport, MemberTrust } from "../leader/manager-protocol.ts";
import { has, StoreAuthority } from "../leader/store-authority.ts";
import { systemClock } from "../lib/clock.ts";
import { UserError } from "../lib/errors.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import { type EtcdAccess, ownEtcd, untilReady } from "./etcd-access.ts";
import type { EtcdMember } from "./etcd-member.ts";
import type { ManagerOptions, StoreKind } from "./manager-options.ts";
import { type MemberHost, ownMember } from "./own-member.ts";
import { storeTrust } from "./wanted-trust.ts";

const ASK_MS = 3000;
const READY_MS = 60_000;
const UNKNOWN: Pick<MemberReport, "condition" | "trust"> = { condition: "ended", trust: { trusts: [], signer: null } };

/** Has this manager's etcd trust and show `wanted`. Resolves when it takes part in etcd again, or `signal` aborts. Throws UserError. */
export async function takeTrust(member: EtcdMember, wanted: MemberTrust, signal?: AbortSignal): Promise<void> {
  if (!has(member.certificate.wanted, wanted)) {
    throw new UserError(503, "this manager has not heard of the change of the store's CA yet");
  }
  await member.takeTrust();
  const access = await ownEtcd(member);
  try {
    const timeout = AbortSignal.timeout(READY_MS);
    await untilReady(access, READY_MS, signal === undefined ? timeout : AbortSignal.any([timeout, signal]));
    await access.client.range({ key: "/overlayd" }); // a majority has agreed to it
  } finally {
    access.close();
  }
}

interface LeadingHost extends MemberHost {
  readonly kind: StoreKind;
  readonly access: EtcdAccess | undefined;
}

/** What the leader does about the store's CA. */
export function storeAuthorityOf(
  options: ManagerOptions,
  manager: LeadingHost,
  leader: Pick<Leader, "state" | "over">,
): StoreAuthority {
  const { ring, calls, log } = options;
  const { member } = manager;
  const addressOf = (id: string): string | undefined => {
    const row = leader.state.nodes.get(id);
    return row && managerAddressOf(row);
  };
  const reportOf = async (id: string): Promise<Pick<MemberReport, "condition" | "trust">> => {
    if (id === member.name) {
      return { condition: await ownMember(options, manager).condition(), trust: await member.trust() };
    }
    const address = addressOf(id);
    const report = address === undefined ? undefined : await calls.report(address, ASK_MS).catch(() => undefined);
    return report?.member ?? UNKNOWN;
  };
  return new StoreAuthority({
    own: member.name,
    wanted() {
      if (manager.kind === "external etcd") return undefined;
      const { bundle, signer } = storeTrust(leader.state, ring);
      return { trusts: bundle.map((ca) => publicKeyDigest(ca)), signer };
    },
    async members() {
      if (manager.kind !== "etcd") return [];
      if (manager.access === undefined) throw new UserError(503, "this manager has no way to its etcd yet");
      const members = await manager.access.client.members();
      return Promise.all(
        members.map(async ({ name: id }) => {
          const { condition, trust } = await reportOf(id);
          return { id, name: leader.state.nodes.get(id)?.name ?? id, condition, ...trust };
        }),
      );
    },
    async take(id, wanted) {
      if (id === member.name) return takeTrust(member, wanted, leader.over);
      const address = addressOf(id);
      if (address === undefined) throw new UserError(503, "it is not known where it answers");
      await calls.takeTrust(address, wanted, leader.over);
    },
    ...{ clock: systemClock, log },
  });
}
