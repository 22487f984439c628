// Rows of the state as the API answers them. Pure functions of one snapshot.
import type { Network, Node, RowOf, Service, State, Task } from "../cluster/schema.ts";
import type { Workload } from "../cluster/workload.ts";
import { UserError } from "../lib/errors.ts";
import { didYouMean } from "../lib/nearest.ts";
import { namedNodeWarnings } from "./named-nodes.ts";
import { hostPorts, portWarnings } from "./port-views.ts";
import type { NetworkView, NodeView, ProgressView, ServiceView, TaskView, WorkloadView } from "./schema.ts";

/** The tables whose rows a person names. */
export type Named = "networks" | "services" | "nodes";
const WORDS: Record<Named, string> = { networks: "network", services: "service", nodes: "node" };

/** Fewer letters of an id are more likely a slip than a name. */
const LEAST_LETTERS = 3;

export function isBeginningOf(word: string, id: string): boolean {
  return word.length >= LEAST_LETTERS && id.startsWith(word);
}

/** The row with this name, id or beginning of an id that no other has. */
export function find<K extends Named>(state: State, kind: K, word: string): RowOf<K> | undefined {
  const rows = [...(state[kind] as unknown as ReadonlyMap<string, RowOf<K>>).values()];
  const named = rows.find((row) => row.name === word || row.id === word);
  if (named !== undefined) return named;
  const begun = rows.filter((row) => isBeginningOf(word, row.id));
  return begun.length === 1 ? begun[0] : undefined;
}

/** As find. Throws UserError 404 with the nearest name. */
export function get<K extends Named>(state: State, kind: K, word: string): RowOf<K> {
  const row = find(state, kind, word);
  if (row !== undefined) return row;
  const names = [...(state[kind] as ReadonlyMap<string, { name: string }>).values()].map(({ name }) => name);
  throw new UserError(404, `no such ${WORDS[kind]}: ${word}${didYouMean(word, names)}`);
}

export function networkView(state: State, network: Network): NetworkView {
  const tasks = [...state.tasks.values()].filter((task) => task.addresses[network.id] !== undefined);
  const endpoints = [...state.endpoints.values()].filter((endpoint) => endpoint.networkId === network.id);
  return {
    ...network,
    services: byName(
      [...state.services.values()]
        .filter((service) => service.networks.includes(network.id))
        .map((service) => ({ name: service.name, vip: service.vips[network.id] ?? null })),
    ),
    endpoints: [
      ...tasks.map((task) => ({
        id: task.id,
        name: taskName(state, task),
        address: task.addresses[network.id]!,
        node: nodeName(state, task.nodeId),
      })),
      ...endpoints.map(({ id, name, address, nodeId }) => ({ id, name, address, node: nodeName(state, nodeId) })),
    ],
  };
}

export function serviceView(state: State, service: Service): ServiceView {
  const { workload, networks, vips, aliases, ...rest } = service;
  const tasks = tasksOf(state, service);
  return {
    ...rest,
    ...what(workload),
    workload: withoutSecrets(workload),
    mode: workload === null ? "attached" : "replicated",
    replicas: workload === null ? tasks.length : service.replicas,
    running: tasks.filter(isUp).length,
    warnings: [...namedNodeWarnings(state, service), ...portWarnings(state, service)],
    networks: networks.map((id) => ({
      id,
      name: nameOf(state, "networks", id) ?? id,
      vip: vips[id] ?? null,
      aliases: aliases[id] ?? [],
    })),
  };
}

/** The tasks of a service: by slot, the newest of a slot first. */
export function tasksOf(state: State, service: Service): TaskView[] {
  return [...state.tasks.values()]
    .filter((task) => task.serviceId === service.id)
    .map((task) => taskView(state, task))
    .sort((a, b) => a.slot - b.slot || b.createdAt - a.createdAt || a.id.localeCompare(b.id));
}

export function progressView(state: State, service: Service): ProgressView {
  const scheduled = tasksOf(state, service).filter(({ id }) => state.tasks.get(id)?.attachment === null);
  const provesReady = service.ports.some(({ protocol }) => protocol === "tcp");
  return { revision: state.revision, replicas: service.replicas, tasks: scheduled, provesReady };
}

export function nodeView(state: State, node: Node, self: string, leader: string | null): NodeView {
  const tasks = [...state.tasks.values()].filter((task) => task.nodeId === node.id && task.desired === "running");
  return { ...node, leader: node.name === leader, tasks: tasks.length, self: node.name === self };
}

function isUp(task: TaskView): boolean {
  return task.desired === "running" && task.state === "running" && task.nodeReady;
}

function taskView(state: State, task: Task): TaskView {
  const status = state.statuses.get(task.id);
  const { id, slot, desired, createdAt } = task;
  return {
    id,
    name: taskName(state, task),
    service: nameOf(state, "services", task.serviceId) ?? task.serviceId,
    slot,
    ...(task.attachment === null
      ? what(state.services.get(task.serviceId)?.workload ?? null)
      : { image: task.attachment.image, command: [] }),
    node: nodeName(state, task.nodeId),
    nodeReady: task.nodeId !== null && state.nodes.get(task.nodeId)?.state === "ready",
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

/** What the IMAGE column is made from. */
function what(workload: Workload | null): { image: string | null; command: string[] } {
  return { image: workload?.runtime === "docker" ? workload.image : null, command: workload?.command ?? [] };
}

function withoutSecrets(workload: Workload | null): WorkloadView | null {
  if (workload?.runtime !== "docker") return workload;
  const { registryAuth: _, ...rest } = workload;
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

export function byName<T extends { name: string }>(rows: T[]): T[] {
  return rows.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
}
