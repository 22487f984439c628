// Whether a task, or an attached container that is none, serves: the one answer by which the scheduler, virtual IPs, names and published ports go.
import type { Endpoint, Task } from "./schema.ts";
import type { State } from "./tables.ts";

/**
 * It runs, as its own node says, and that node is ready. What a task is wanted for (`desired`) is another question.
 */
export function serves({ nodes, statuses }: State, { id, nodeId }: Task | Endpoint): boolean {
  if (nodeId === null || nodes.get(nodeId)?.state !== "ready") return false;
  const status = statuses.get(id);
  return status?.state === "running" && status.nodeId === nodeId;
}
