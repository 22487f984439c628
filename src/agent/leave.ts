// What `overlayctl leave` asks before the node forgets its cluster: whether it may, and that the leader hears of it.
import type { LeaveView } from "../api/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { Role } from "../cluster/trust-rows.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { LeaderCalls } from "../session/leader-calls.ts";
import type { Session } from "../session/session.ts";

/** How long the leader may take to answer. */
const HEAR_MS = 5000;

interface Leaving {
  session: Session;
  leaderCalls: Pick<LeaderCalls, "leave">;
  role: Role;
  /** The node's own. */
  name: string;
  /** Whatever the node loses, and also when no leader hears of it. */
  force: boolean;
}

/**
 * Resolves when the leader takes the node for down, or, with `force`, when it has not heard within 5 s. Throws UserError 409
 * that says what the node would lose, and 503 when no leader hears of it; then the node goes on as before.
 */
export async function sayThatItLeaves({ session, leaderCalls, role, name, force }: Leaving): Promise<LeaveView> {
  if (!force) requireLeavable(session, role, name);
  if (role === "manager" && otherManagers(session).length === 0) return { unheard: null }; // the cluster ends with it
  try {
    await leaderCalls.leave(HEAR_MS);
    return { unheard: null };
  } catch (error) {
    const isGone = error instanceof UserError && (error.code === 401 || error.code === 404);
    if (isGone) return { unheard: null }; // the node was removed
    const reason = messageOf(error);
    if (force) return { unheard: reason };
    throw new UserError(503, `no leader has heard that this node leaves (${reason}): '--force' leaves all the same`);
  }
}

/** Throws UserError 409 that says what the node would lose. */
function requireLeavable({ state, nodeId, connected }: Session, role: Role, name: string): void {
  if (role === "manager") throw new UserError(409, whyNoManagerLeaves(state, nodeId, name));
  const tasks = state?.tasks.count("node", nodeId ?? "") ?? 0;
  const endpoints = state?.endpoints.count("node", nodeId ?? "") ?? 0;
  const isLost = connected ? "" : ", and its copy of the cluster's state is removed while no leader answers";
  if (tasks + endpoints === 0 && isLost === "") return;
  throw new UserError(
    409,
    `leaving ends what this node has: ${counted(tasks, "task")} and ${counted(endpoints, "other container")} lose their network${isLost}; '--force' does it`,
  );
}

function whyNoManagerLeaves(state: State | undefined, nodeId: string | undefined, name: string): string {
  if (otherManagers({ state, nodeId }).length > 0) {
    return `this node is a manager: run 'overlayctl node demote ${name}' first, so that the others go on without it; '--force' leaves at once, and its store with it`;
  }
  const [services, nodes] = [state?.services.size ?? 0, state?.nodes.size ?? 0];
  return (
    `this node is the only manager, and the cluster ends with it: ${counted(services, "service")} and the certificate authority are lost, and ` +
    `${counted(Math.max(0, nodes - 1), "other node has", "other nodes have")} no leader any more; 'overlayctl node promote' makes another manager first, '--force' ends the cluster`
  );
}

function otherManagers({ state, nodeId }: Pick<Session, "state" | "nodeId">): readonly unknown[] {
  return state?.nodes.by("role", "manager").filter(({ id }) => id !== nodeId) ?? [];
}
