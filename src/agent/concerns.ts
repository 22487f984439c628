// What of the node a change of the state concerns besides its data path: its links, the entrance for clients from outside, its
// tasks. Each is asked only when a change concerns it, because it may start processes.
import type { Task } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { type ChangeOf, differs } from "./units.ts";

export type Concern = "links" | "mesh" | "tasks";

/** Adds what the change concerns on the node. `state` is the state after it and after all changes that came with it. */
export function addConcerns(concerns: Set<Concern>, state: State, change: AppliedChange, nodeId: string): void {
  switch (change.kind) {
    case "nodes":
      addOfNode(concerns, change, nodeId);
      return;
    case "networks":
      addOfNetwork(concerns, state, change, nodeId);
      return;
    case "services":
      addOfService(concerns, state, change, nodeId);
      return;
    case "tasks":
      addOfTask(concerns, state, change, nodeId);
      return;
    case "statuses": {
      const task = state.tasks.get(change.key);
      if (task?.nodeId === nodeId && isInHostMode(state, task)) concerns.add("mesh");
      return;
    }
    case "endpoints":
      if (change.before?.nodeId === nodeId || change.row?.nodeId === nodeId) concerns.add("links");
      return;
    default: // allocations and ports are the leader's
  }
}

function addOfNode(concerns: Set<Concern>, change: ChangeOf<"nodes">, nodeId: string): void {
  if (differs(change, "vxlanPort", "sealed")) concerns.add("mesh");
  const isManager = [change.before, change.row].some((node) => node?.role === "manager");
  if (isManager && differs(change, "role", "address", "addresses")) concerns.add("mesh");
  if (change.key !== nodeId) return;
  if (differs(change, "ingressAddress")) concerns.add("links");
  if (differs(change, "ingressAddress", "state")) concerns.add("mesh"); // a node that is not ready has no tasks that serve
  if (differs(change, "name")) concerns.add("tasks");
}

function addOfNetwork(concerns: Set<Concern>, state: State, change: ChangeOf<"networks">, nodeId: string): void {
  const { key, before, row } = change;
  if (differs(change, "name", "gateway", "subnet", "encrypted")) concerns.add("links");
  const isInternal = before?.internal === true || row?.internal === true;
  if (isInternal && differs(change, "internal", "subnet")) concerns.add("mesh");
  if (!differs(change, "name", "gateway")) return;
  if (state.tasks.by("node", nodeId).some(({ addresses }) => addresses[key] !== undefined)) concerns.add("tasks");
}

function addOfService(concerns: Set<Concern>, state: State, change: ChangeOf<"services">, nodeId: string): void {
  const { key, before, row } = change;
  const publishes = [before, row].some((service) => (service?.ports.length ?? 0) > 0);
  if (publishes && differs(change, "ports", "meshVip", "hostVip")) concerns.add("mesh");
  if (!state.tasks.by("node", nodeId).some(({ serviceId }) => serviceId === key)) return;
  concerns.add("tasks");
  if (differs(change, "networks")) concerns.add("links");
}

function addOfTask(concerns: Set<Concern>, state: State, change: ChangeOf<"tasks">, nodeId: string): void {
  const own = [change.before, change.row].filter((task) => task?.nodeId === nodeId);
  if (own.length === 0) return;
  concerns.add("tasks");
  if (differs(change, "nodeId", "addresses", "serviceId")) concerns.add("links");
  if (own.some((task) => isInHostMode(state, task!))) concerns.add("mesh");
}

/** Whether ports of the task's service answer only on nodes that run a task of it. */
function isInHostMode({ services }: State, { serviceId }: Task): boolean {
  const hostVip = services.get(serviceId)?.hostVip;
  return hostVip !== undefined && hostVip !== null;
}
