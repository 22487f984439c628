// Makes the tasks match the services: as many as asked, spread over the nodes that can take them. Level-triggered: it
// looks at the state alone, so that it can run after any event and finds nothing to do when all is well.

import { sameName } from "../cluster/lookup.ts";
import type { Node, Service, State, Task, TaskState } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import { MAX_REASON } from "../lib/bounds.ts";
import { UserError } from "../lib/errors.ts";
import { shortened } from "../lib/shortened.ts";
import { allocateAddress, releaseAddress } from "./ipam.ts";
import { removeService } from "./services.ts";

export interface SchedulerContext {
  /** Wall-clock milliseconds. */
  now: number;
  newId: () => string;
  /** Ids of the nodes whose statuses in the state are known to be current. */
  reported: ReadonlySet<string>;
  /** The revision that is in force on every live node. */
  applied: number;
  /** How long the task has drained, by this leader's monotonic clock. */
  drainedMs: (task: Task) => number;
}

/** So long a task that drains waits for nodes that are behind, and for a place for the one that takes its own. */
const DRAIN_DEADLINE_MS = 30_000;
/** So long it waits for that one to run, once it has a place: it may have an image to pull. */
const SUCCESSOR_DEADLINE_MS = 600_000;

/** A process may be there in these states. */
const ALIVE: ReadonlySet<TaskState> = new Set(["pending", "preparing", "starting", "running"]);

export function reconcile(draft: Draft, context: SchedulerContext): void {
  const tasksByService = groupBy(wantedTasks(draft.state), (task) => task.serviceId);
  for (const [serviceId, tasks] of tasksByService) {
    if (!draft.state.services.has(serviceId)) for (const task of tasks) stop(draft, task);
  }
  for (const service of draft.state.services.values()) {
    if (service.workload === null) {
      removeIfEmpty(draft, service);
      continue;
    }
    const kept = retireMisplaced(draft, tasksByService.get(service.id) ?? [], context);
    const bySlot = groupBy(retireSurplus(draft, kept, context), (task) => task.slot);
    scaleDown(draft, service, bySlot, context);
    scaleUp(draft, service, bySlot, context);
  }
  placePending(draft);
  stopDrained(draft, context);
  removeStopped(draft, context);
}

/** A service that came with its first attached container goes with its last. */
function removeIfEmpty(draft: Draft, { id }: Service): void {
  const isUsed = [...draft.state.tasks.values()].some(({ serviceId }) => serviceId === id);
  if (!isUsed) removeService(draft, id);
}

/** Whether the task's own node says that it runs. */
export function isRunning(state: State, task: Task, reported: ReadonlySet<string>): boolean {
  return task.nodeId !== null && reported.has(task.nodeId) && state.statuses.get(task.id)?.state === "running";
}

/** Takes the task out of the state, and releases what it holds. */
export function removeTask(draft: Draft, task: Task): void {
  for (const address of Object.values(task.addresses)) releaseAddress(draft, address);
  draft.remove("statuses", task.id);
  draft.remove("tasks", task.id);
}

/** Has the task stopped; one that serves is first taken out of every node's choice, so that nobody new meets its end. */
function retire(draft: Draft, task: Task, now: number): void {
  if (serves(draft.state, task)) {
    draft.put("tasks", { ...task, desired: "draining", drain: { revision: draft.revision, since: now } });
  } else stop(draft, task);
}

/** Has the task stopped by its node; one that has no node goes at once. */
function stop(draft: Draft, task: Task): void {
  if (task.nodeId === null) removeTask(draft, task);
  else draft.put("tasks", { ...task, desired: "shutdown", drain: null });
}

/** Stops tasks to which no node sends anybody new, once those that take their places run. */
function stopDrained(draft: Draft, { applied, reported, drainedMs }: SchedulerContext): void {
  for (const task of draft.state.tasks.values()) {
    if (task.desired !== "draining" || task.drain === null) continue;
    const waitMs = Math.max(
      applied < task.drain.revision ? DRAIN_DEADLINE_MS : 0,
      successorWaitMs(draft.state, task, reported),
    );
    const isOfUse = draft.state.services.has(task.serviceId) && serves(draft.state, task);
    if (!isOfUse || drainedMs(task) >= waitMs) stop(draft, task);
  }
}

/** How long, from its beginning to drain, the task stays for the one that takes its place; 0: for nobody. */
function successorWaitMs(state: State, { serviceId, slot }: Task, reported: ReadonlySet<string>): number {
  const successors = [...state.tasks.values()].filter(
    (task) => task.serviceId === serviceId && task.slot === slot && task.desired === "running",
  );
  const hasTaken = (task: Task): boolean => serves(state, task) && isRunning(state, task, reported);
  if (successors.length === 0 || successors.some(hasTaken)) return 0;
  return successors.some(({ nodeId }) => nodeId !== null) ? SUCCESSOR_DEADLINE_MS : DRAIN_DEADLINE_MS;
}

function serves({ nodes, statuses }: State, { id, nodeId }: Task): boolean {
  return nodeId !== null && nodes.get(nodeId)?.state === "ready" && statuses.get(id)?.state === "running";
}

/** Attached containers are not among them: they are as many as somebody started. */
function wantedTasks(state: State): Task[] {
  return [...state.tasks.values()].filter(({ desired, attachment }) => desired === "running" && attachment === null);
}

function canKeep(node: Node | undefined): boolean {
  return node !== undefined && node.state === "ready" && node.availability === "active";
}

function retireMisplaced(draft: Draft, tasks: readonly Task[], { now }: SchedulerContext): Task[] {
  return tasks.filter((task) => {
    const keep = task.nodeId === null || canKeep(draft.state.nodes.get(task.nodeId));
    if (!keep) retire(draft, task, now);
    return keep;
  });
}

/** A node that came back has its tasks again: those that stood in for them go once the first ones run. */
function retireSurplus(draft: Draft, tasks: readonly Task[], { reported, now }: SchedulerContext): Task[] {
  const retired = new Set<Task>();
  for (const sharers of groupBy(tasks, (task) => task.slot).values()) {
    const oldestFirst = sharers.toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
    const firstRunning = oldestFirst.findIndex((task) => isRunning(draft.state, task, reported));
    if (firstRunning === -1) continue;
    for (const task of oldestFirst.slice(firstRunning + 1)) {
      retire(draft, task, now);
      retired.add(task);
    }
  }
  return tasks.filter((task) => !retired.has(task));
}

/** Those that do not run go first, then one from the node with most of them, then the highest slot. */
function scaleDown(
  draft: Draft,
  service: Service,
  bySlot: Map<number, Task[]>,
  { reported, now }: SchedulerContext,
): void {
  while (bySlot.size > service.replicas) {
    const perNode = countBy([...bySlot.values()].flat(), (task) => task.nodeId);
    const running = (tasks: readonly Task[]) => Number(tasks.some((task) => isRunning(draft.state, task, reported)));
    const load = (tasks: readonly Task[]) => Math.max(...tasks.map((task) => perNode.get(task.nodeId)!));
    const [slot, tasks] = [...bySlot].reduce((victim, other) => {
      const order = running(victim[1]) - running(other[1]) || load(other[1]) - load(victim[1]) || other[0] - victim[0];
      return order > 0 ? other : victim;
    });
    for (const task of tasks) retire(draft, task, now);
    bySlot.delete(slot);
  }
}

function scaleUp(draft: Draft, service: Service, bySlot: Map<number, Task[]>, { now, newId }: SchedulerContext): void {
  if (bySlot.size >= service.replicas) return;
  const attached = [...draft.state.tasks.values()].filter((task) => task.serviceId === service.id && task.attachment);
  const attachedSlots = new Set(attached.map((task) => task.slot));
  for (let slot = 1; bySlot.size < service.replicas; slot++) {
    if (bySlot.has(slot) || attachedSlots.has(slot)) continue;
    const task: Task = {
      id: newId(),
      serviceId: service.id,
      slot,
      nodeId: null,
      desired: "running",
      drain: null,
      addresses: {},
      attachment: null,
      error: null,
      createdAt: now,
    };
    draft.put("tasks", task);
    bySlot.set(slot, [task]);
  }
}

/** Gives every task without a node the best one, or says on the task why there is none. */
function placePending(draft: Draft): void {
  const pending = wantedTasks(draft.state).filter(({ nodeId }) => nodeId === null);
  if (pending.length === 0) return;
  const placed = wantedTasks(draft.state).filter(({ nodeId }) => nodeId !== null);
  const perNode = countBy(placed, ({ nodeId }) => nodeId!);
  const perServiceAndNode = countBy(placed, ({ serviceId, nodeId }) => `${serviceId}/${nodeId}`);
  for (const task of pending) {
    const service = draft.state.services.get(task.serviceId)!;
    const [node] = [...draft.state.nodes.values()]
      .filter((candidate) => refusal(draft.state, candidate, service) === undefined)
      .toSorted(
        (a, b) =>
          (perServiceAndNode.get(`${service.id}/${a.id}`) ?? 0) -
            (perServiceAndNode.get(`${service.id}/${b.id}`) ?? 0) ||
          (perNode.get(a.id) ?? 0) - (perNode.get(b.id) ?? 0) ||
          compare(a.name, b.name),
      );
    const error = node === undefined ? whyNowhere(draft.state, service) : place(draft, task, service, node);
    if (error !== undefined) {
      if (task.error !== error) draft.put("tasks", { ...task, error });
    } else if (node !== undefined) {
      increment(perNode, node.id);
      increment(perServiceAndNode, `${service.id}/${node.id}`);
    }
  }
}

/** Puts the task on the node, with an address on each of its networks; says why when there is none. */
function place(draft: Draft, task: Task, service: Service, node: Node): string | undefined {
  const addresses: Record<string, string> = {};
  try {
    for (const networkId of service.networks) {
      const network = draft.state.networks.get(networkId)!;
      addresses[networkId] = allocateAddress(draft, network, { kind: "task", id: task.id });
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    for (const address of Object.values(addresses)) draft.remove("allocations", address);
    return error.message;
  }
  draft.put("tasks", { ...task, nodeId: node.id, addresses, error: null });
  return undefined;
}

/** What is said of one node, and of several. */
type Reason = readonly [one: string, several: string];

/** Why the node takes no task of the service; undefined when it does. */
function refusal(state: State, node: Node, { id, workload, constraints, ports }: Service): Reason | undefined {
  if (node.state !== "ready") return [`is ${node.state}`, `are ${node.state}`];
  if (node.availability !== "active") return ["is drained", "are drained"];
  if (node.health === "silent") return ["is silent", "are silent"];
  if (node.health !== "well") return ["is behind with its state", "are behind with their state"];
  if (workload?.runtime === "docker" && !node.docker) {
    return ["has no Docker that answers", "have no Docker that answers"];
  }
  const violated = constraints.find((constraint) => !satisfies(node, constraint));
  if (violated !== undefined) return [`does not match ${violated}`, `do not match ${violated}`];
  const hostPort = ports.find(({ mode }) => mode === "host");
  if (hostPort === undefined) return undefined;
  if (!node.mesh) return ["answers no published port ('mesh: off')", "answer no published port ('mesh: off')"];
  const isTaken = [...state.tasks.values()].some(
    ({ serviceId, nodeId, desired }) => serviceId === id && nodeId === node.id && desired === "running",
  );
  if (!isTaken) return undefined;
  const port = `a task with port ${hostPort.published}/${hostPort.protocol} already`;
  return [`has ${port}`, `have ${port}`];
}

function satisfies(node: Node, constraint: string): boolean {
  const [, operator, name] = /^node\.name(==|!=)(.+)$/.exec(constraint)!;
  return sameName(node.name, name!) === (operator === "==");
}

/** The reason has counts instead of names: each waiting task carries it, and every node gets it. */
function whyNowhere(state: State, service: Service): string {
  if (state.nodes.size === 0) return "no node has joined";
  const reasons = [...state.nodes.values()]
    .map((node) => refusal(state, node, service))
    .filter((why) => why !== undefined);
  const byText = groupBy(reasons, ([one]) => one);
  const counts = [...byText.values()]
    .toSorted((a, b) => b.length - a.length || compare(a[0]![0], b[0]![0]))
    .map((group) => (group.length === 1 ? `1 node ${group[0]![0]}` : `${group.length} nodes ${group[0]![1]}`));
  return shortened(`no suitable node (${counts.join("; ")})`, MAX_REASON);
}

/** A task that is to stop is gone when its node, with all its statuses told, knows of no process. */
function removeStopped(draft: Draft, { reported }: SchedulerContext): void {
  for (const task of draft.state.tasks.values()) {
    if (task.desired !== "shutdown" || task.nodeId === null) continue;
    const status = draft.state.statuses.get(task.id);
    const stopped = status === undefined || !ALIVE.has(status.state);
    if (!draft.state.nodes.has(task.nodeId) || (reported.has(task.nodeId) && stopped)) removeTask(draft, task);
  }
}

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

function countBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, number> {
  return new Map([...groupBy(items, keyOf)].map(([key, group]) => [key, group.length]));
}

function increment<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
