// Rows of the state as the API answers them. Each looks at the row that is asked for and at what an index finds for it.
import { find, type NamedKind, nearestName } from "../cluster/lookup.ts";
import type { Network, Node, RowOf, Service, Task } from "../cluster/schema.ts";
import type { Rows, State } from "../cluster/tables.ts";
import type { Workload } from "../cluster/workload.ts";
import { UserError } from "../lib/errors.ts";
import { byName } from "./by-name.ts";
import { namedNodeWarnings } from "./named-nodes.ts";
import { hostPorts, NodePorts } from "./port-views.ts";
import type { NetworkView, NodeView, ServiceView, TaskView, WorkloadView } from "./schema.ts";

type Named = Exclude<NamedKind, "endpoints">;
const WORDS: Record<Named, string> = { networks: "network", services: "service", nodes: "node", users: "user" };

/** The row with this name, id or beginning of an id. Throws UserError 404 with the nearest name. */
export function get<K extends Named>(state: State, kind: K, word: string): RowOf<K> {
  const rows = state[kind] as unknown as Rows<K>;
  const row = find(rows, word);
  if (row === undefined) throw new UserError(404, `no such ${WORDS[kind]}: ${word}${nearestName(rows, word)}`);
  return row;
}

export function networkView(state: State, network: Network): NetworkView {
  const { id } = network;
  return {
    ...network,
    services: byName(state.services.by("network", id).map(({ name, vips }) => ({ name, vip: vips[id] ?? null }))),
    endpoints: [
      ...state.tasks.by("network", id).map((task) => ({
        id: task.id,
        name: taskName(state, task),
        address: task.addresses[id]!,
        node: nodeName(state, task.nodeId),
      })),
      ...state.endpoints
        .by("network", id)
        .map(({ id, name, address, nodeId }) => ({ id, name, address, node: nodeName(state, nodeId) })),
    ],
  };
}

/** Returns what makes the view of a service; it serves one answer. */
export function serviceViews(state: State): (service: Service) => ServiceView {
  const nodePorts = new NodePorts(state);
  return (service) => {
    const { id, name, workload, networks, vips, aliases, ...rest } = service;
    const tasks = state.tasks.by("service", id);
    return {
      id,
      name,
      ...rest,
      ...programOf(workload),
      workload: withoutSecrets(workload),
      mode: workload === null ? "attached" : "replicated",
      replicas: workload === null ? tasks.length : service.replicas,
      running: tasks.filter((task) => isUp(state, task)).length,
      warnings: [...namedNodeWarnings(state, service), ...nodePorts.warnings(service)],
      networks: networks.map((id) => ({
        id,
        name: nameOf(state, "networks", id) ?? id,
        vip: vips[id] ?? null,
        aliases: aliases[id] ?? [],
      })),
    };
  };
}

/** The tasks of a service: by slot, the newest of a slot first. */
export function tasksOf(state: State, service: Service): Task[] {
  return state.tasks
    .by("service", service.id)
    .sort((a, b) => a.slot - b.slot || b.createdAt - a.createdAt || (a.id < b.id ? -1 : 1));
}

export function nodeView(state: State, node: Node, self: string, leader: string | null): NodeView {
  const tasks = state.tasks.by("node", node.id).filter((task) => task.desired === "running");
  return { ...node, leader: node.name === leader, tasks: tasks.length, self: node.name === self };
}

function isUp(state: State, { id, desired, nodeId }: Task): boolean {
  return desired === "running" && state.statuses.get(id)?.state === "running" && isReady(state, nodeId);
}

function isReady(state: State, nodeId: string | null): boolean {
  return nodeId !== null && state.nodes.get(nodeId)?.state === "ready";
}

export function taskView(state: State, task: Task): TaskView {
  const status = state.statuses.get(task.id);
  const { id, slot, desired, createdAt } = task;
  return {
    id,
    name: taskName(state, task),
    service: nameOf(state, "services", task.serviceId) ?? task.serviceId,
    slot,
    ...(task.attachment === null
      ? programOf(state.services.get(task.serviceId)?.workload ?? null)
      : { image: task.attachment.image, command: [] }),
    node: nodeName(state, task.nodeId),
    nodeReady: isReady(state, task.nodeId),
    desired,
    state: status?.state ?? "pending",
    since: status?.since ?? createdAt,
    error: status?.error ?? task.error,
    exitCode: status?.exitCode ?? null,
    message: status?.message ?? null,
    restarts: status?.restarts ?? 0,
    addresses: Object.entries(task.addresses).map(([networkId, address]) => ({
      network: nameOf(state, "networks", networkId) ?? networkId,
      address,
    })),
    ports: hostPorts(state, task),
    createdAt,
  };
}

/** The parts of a workload that the IMAGE column shows. */
function programOf(workload: Workload | null): { image: string | null; command: string[] } {
  return { image: workload?.runtime === "docker" ? workload.image : null, command: workload?.command ?? [] };
}

function withoutSecrets(workload: Service["workload"]): WorkloadView | null {
  if (workload?.runtime !== "docker") return workload;
  const { registryAuth: _, isAuthWithheld: __, ...rest } = workload;
  return rest;
}

function taskName(state: State, task: Task): string {
  return `${nameOf(state, "services", task.serviceId) ?? task.serviceId}.${task.slot}`;
}

function nodeName(state: State, id: string | null): string | null {
  return id === null ? null : (nameOf(state, "nodes", id) ?? id);
}

function nameOf(state: State, kind: Named, id: string): string | undefined {
  return state[kind].get(id)?.name;
}
