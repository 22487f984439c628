// The managers as the leader looks after their etcd: which there are, and how their agents are asked.
import { managerAddressOf } from "../cluster/managers.ts";
import { peerUrlOf } from "../leader/etcd-command.ts";
import type { ManagerRow, MemberAgent } from "../leader/etcd-members.ts";
import type { Leader } from "../leader/leader.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import type { EtcdAccess } from "./etcd-access.ts";
import type { ManagerOptions, StoreKind } from "./manager-options.ts";
import { type MemberHost, ownMember } from "./own-member.ts";

/** The manager that leads. */
export interface StoreHost extends MemberHost {
  readonly kind: StoreKind;
  /** The way to etcd; undefined: there is none. */
  readonly access: EtcdAccess | undefined;
  /** The state is in etcd from now on. */
  movedToEtcd(): void;
}

export interface LeadingManager {
  options: ManagerOptions;
  manager: StoreHost;
  leader: Leader;
}

/** By their nodes' rows. Loops over the managers. */
export function managerRows({ options, manager, leader }: LeadingManager): ManagerRow[] {
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

/** The agent of the manager with this node id: this one, or another. It is asked nothing more once the leader leads no longer. */
export function memberAgent({ options, manager, leader }: LeadingManager, id: string): MemberAgent {
  if (id === manager.member.name) return ownMember(options, manager);
  const row = leader.state.nodes.get(id);
  return options.calls.member(row === undefined ? undefined : managerAddressOf(row), leader.over);
}
