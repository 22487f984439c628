// What a node reports of itself and its tasks, as far as the leader believes it.
import { isDeepStrictEqual } from "node:util";
import type { Report } from "../cluster/protocol.ts";
import type { Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";

/**
 * Takes over what the node observed of its tasks; a task of `unread` keeps the status that it has. Returns how many statuses
 * it refused because the tasks are not the node's.
 */
export function applyReport(draft: Draft, nodeId: string, report: Report, unread: readonly string[]): number {
  const { statuses, full, gone, docker } = report;
  const node = draft.state.nodes.get(nodeId);
  if (node !== undefined) {
    const newest: Node = { ...node, ...ownOnly(draft.state, node, report), docker: docker ?? node.docker };
    if (!isDeepStrictEqual(newest, node)) draft.put("nodes", newest);
  }
  const reported = new Set([...statuses.map(({ taskId }) => taskId), ...unread]);
  const forgotten = full ? draft.state.statuses.by("node", nodeId).filter(({ taskId }) => !reported.has(taskId)) : [];
  for (const taskId of [...gone, ...forgotten.map((status) => status.taskId)]) {
    if (nodeOf(draft.state, taskId) === nodeId) draft.remove("statuses", taskId);
  }
  let refused = 0;
  for (const status of statuses) {
    const holder = nodeOf(draft.state, status.taskId);
    const isOwn = status.nodeId === nodeId && holder === nodeId;
    const before = draft.state.statuses.get(status.taskId);
    // A task that is gone already is no mistake: the node has not heard of it yet.
    if (!isOwn && (status.nodeId !== nodeId || holder !== undefined)) refused++;
    if (isOwn && !isDeepStrictEqual(before, status)) draft.put("statuses", status);
  }
  return refused;
}

/**
 * The part of what a node says of its own addresses that the leader believes: no address is another node's VTEP, and the
 * node holds ports on its own addresses alone. Otherwise it could keep all containers from ports that other nodes answer.
 */
function ownOnly(
  { nodes }: State,
  { id, address: vtep }: Node,
  { addresses, heldPorts }: Report,
): Pick<Report, "addresses" | "heldPorts"> {
  const isOthers = (address: string) => nodes.by("address", address).some((node) => node.id !== id);
  const own = addresses.filter((address) => !isOthers(address));
  const isOwn = new Set([...own, vtep, "0.0.0.0", "127.0.0.1"]);
  return { addresses: own, heldPorts: heldPorts.filter(({ address }) => isOwn.has(address)) };
}

/** The node of a task or an endpoint. */
function nodeOf({ tasks, endpoints }: State, id: string): string | null | undefined {
  return tasks.get(id)?.nodeId ?? endpoints.get(id)?.nodeId;
}
