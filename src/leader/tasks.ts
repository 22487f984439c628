// What becomes of one task: drained, stopped, removed.
import type { Task } from "../cluster/schema.ts";
import { serves } from "../cluster/serving.ts";
import type { Draft } from "../cluster/state.ts";
import { releaseAddress } from "./ipam.ts";

/** Takes the task out of the state, and releases what it holds. */
export function removeTask(draft: Draft, task: Task): void {
  for (const address of Object.values(task.addresses)) releaseAddress(draft, address);
  draft.remove("statuses", task.id);
  draft.remove("tasks", task.id);
}

/** Has the task stopped; one that serves first gets no new connections any more, so that no client meets its end. */
export function retireTask(draft: Draft, task: Task, now: number): void {
  if (serves(draft.state, task)) {
    draft.put("tasks", { ...task, desired: "draining", drain: { revision: draft.revision, since: now } });
  } else stopTask(draft, task);
}

/** Has the task stopped by its node; one that has no node goes at once. */
export function stopTask(draft: Draft, task: Task): void {
  if (task.nodeId === null) removeTask(draft, task);
  else draft.put("tasks", { ...task, desired: "shutdown", drain: null });
}
