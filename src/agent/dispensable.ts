// Whether the managers can do without one of them.
import type { Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { quorumOf } from "../leader/etcd-members.ts";
import { requireOtherManager } from "../leader/nodes.ts";
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";
import { type LeadingManager, memberAgent } from "./member-agents.ts";

/**
 * Throws UserError 409 when they cannot, or its node is removed with a member that both of two must remove, and 503 when this
 * manager leads no longer.
 */
export async function requireDispensable(leading: LeadingManager, node: Node, isRemoved: boolean): Promise<void> {
  const { id, name } = node;
  const { manager, leader } = leading;
  requireOtherManager(leader.state, node);
  const { kind } = manager;
  if (kind === "file" && id === manager.member.name) {
    throw new UserError(
      409,
      `node '${name}' leads, and the cluster's state is on its disk: 'overlayctl cluster takeover' on another manager first`,
    );
  }
  if (kind !== "etcd") return;
  const members = (await manager.access?.client.members()) ?? [];
  const others = members.filter((member) => member.name !== id && !member.isLearner);
  const conditions = await Promise.all(
    others.map(async (member) => {
      const condition = await memberAgent(leading, member.name)
        .condition()
        .catch(() => "ended");
      return { member: nameOf(member.name, leader.state), condition };
    }),
  );
  leader.requireLeading(); // one that leads no longer hears nothing of them
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
    `without node '${name}' the managers would have no majority: ${counted(well.length, `of ${others.length} is`, `of ${others.length} are`)} well, not so ${bad.join(", ")}; start those first, or remove them first`,
  );
}

/** As a refusal names the member of etcd of the node with this id. */
function nameOf(id: string, { nodes }: State): string {
  const row = nodes.get(id);
  return row?.role === "manager" ? row.name : `${row?.name ?? id} (its etcd is being removed: try again in a moment)`;
}
