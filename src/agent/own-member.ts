// This manager's own etcd, as the leader asks for it: in this process or from another manager.
import { checkForEtcd, type EtcdCheck } from "../leader/etcd-checks.ts";
import type { MemberStart } from "../leader/etcd-command.ts";
import type { MemberAgent, MemberCondition } from "../leader/etcd-members.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { ownEtcd } from "./etcd-access.ts";
import { EtcdMember } from "./etcd-member.ts";
import type { ManagerOptions } from "./manager-options.ts";
import { pathsOf } from "./paths.ts";
import { storeTrust } from "./wanted-trust.ts";

/** The manager, as far as its etcd needs it. */
export interface MemberHost {
  readonly member: EtcdMember;
  /** What it is to do may be another now. */
  chooseAgainUnlessLeading(): void;
}

export function createOwnMember({ config, identity, ring, address, state, log }: ManagerOptions): EtcdMember {
  return new EtcdMember({
    directory: pathsOf(config).etcd,
    binary: config.cluster.etcd.binary,
    owner: { clusterId: identity.clusterId, nodeId: identity.nodeId, name: config.node.name, address },
    trust: () => storeTrust(state(), ring),
    clientPort: config.cluster.etcd.port,
    peerPort: STORE_PEER_PORT,
    clock: systemClock,
    log,
  });
}

export function ownMember(
  { config, address }: Pick<ManagerOptions, "config" | "address">,
  manager: MemberHost,
): MemberAgent {
  const { member } = manager;
  return {
    async check(): Promise<EtcdCheck[]> {
      const { binary, port } = config.cluster.etcd;
      // The ports of a member that is there are its own.
      const ports = [
        { address: "127.0.0.1", port },
        { address, port: STORE_PEER_PORT },
      ];
      return checkForEtcd({ binary, directory: member.directory, ports: (await member.isThere()) ? [] : ports });
    },
    async begin(start: MemberStart): Promise<void> {
      await member.begin(start);
      manager.chooseAgainUnlessLeading();
    },
    async remove(): Promise<void> {
      await member.remove();
      manager.chooseAgainUnlessLeading();
    },
    async condition(): Promise<MemberCondition> {
      if (!(await member.isThere())) return "damaged";
      const complaint = await member.complaint();
      if (complaint === undefined) return member.status.state === "running" ? "well" : "ended";
      return complaint.kind === "damaged" || complaint.kind === "removed" ? "damaged" : "ended";
    },
    async giveLead(memberId: string): Promise<void> {
      if (!(await member.isThere())) throw new UserError(409, `node '${config.node.name}' has no member of etcd`);
      const access = await ownEtcd(member);
      try {
        await access.client.moveLeader(memberId);
      } catch (error) {
        throw new UserError(409, messageOf(error), { cause: error });
      } finally {
        access.close();
      }
    },
  };
}
