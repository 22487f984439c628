// Makes the tasks match the services: as many as asked, spread over the nodes that can take them. Level-triggered: it
// looks at the state alone, so that it can run after any event and finds nothing to do when all is well. What changed
// says only where to look.
import type { Features } from "../cluster/features.ts";
import type { Node, Service, Task, TaskState } from "../cluster/schema.ts";
import { serves } from "../cluster/serving.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import type { LeaderContext } from "./context.ts";
import { Places } from "./placement.ts";
import { slotsToRemove } from "./scale-down.ts";
import { removeService } from "./services.ts";
import { removeTask, retireTask, stopTask } from "./tasks.ts";
import type { Touched } from "./touched.ts";

interface SchedulerContext extends Pick<LeaderContext, "now" | "newId" | "addresses" | "features"> {
  /** Whether the node's statuses in the state are known to be current. */
  isReported: (nodeId: string) => boolean;
  /** The revision that is in force on every live node. */
  applied: number;
  /** How long the task has drained, by this leader's monotonic clock. */
  drainedMs: (task: Task) => number;
}

/** How long a task that drains waits for nodes that are behind, and for a place for the task that takes its own. */
const DRAIN_DEADLINE_MS = 30_000;
/** How long it waits for that task to run, once it has a place: it may have an image to pull. */
const SUCCESSOR_DEADLINE_MS = 600_000;

/** A process may be there in these states. */
const ALIVE: ReadonlySet<TaskState> = new Set(["pending", "preparing", "starting", "running"]);

/** Looks at the services that are touched, at tasks that drain, and at tasks without a node that may have one now. */
export function reconcile(draft: Draft, { services, hasNewPlaces }: Touched, context: SchedulerContext): void {
  for (const id of services) reconcileService(draft, id, context);
  placeTasks(draft, servicesToPlace(draft.state, services, hasNewPlaces), context);
  stopDrained(draft, context);
  for (const id of services) removeStopped(draft, id, context);
}

function reconcileService(draft: Draft, id: string, context: SchedulerContext): void {
  const service = draft.state.services.get(id);
  const tasks = draft.state.tasks.by("wanted", id);
  if (service === undefined) {
    for (const task of tasks) stopTask(draft, task);
    return;
  }
  if (service.workload === null) {
    removeIfEmpty(draft, service);
    return;
  }
  const kept = retireMisplaced(draft, service, tasks, context);
  const bySlot = groupBy(retireSurplus(draft, kept, context), (task) => task.slot);
  scaleDown(draft, service, bySlot, context);
  scaleUp(draft, service, bySlot, context);
}

/** A service that came with its first attached container goes with its last. */
function removeIfEmpty(draft: Draft, { id }: Service): void {
  if (draft.state.tasks.count("service", id) === 0) removeService(draft, id);
}

/** Whether the task serves, and its node has reported since this leader began. */
function isRunning(state: State, task: Task, { isReported }: SchedulerContext): boolean {
  return serves(state, task) && isReported(task.nodeId!);
}

/** An agent of an earlier version may have taken the place of the one that could. */
function canKeep(node: Node | undefined, service: Service, state: State, features: Features): boolean {
  if (node?.state !== "ready" || node.availability !== "active") return false;
  return features.missing(node.version.features, "services", service, state) === undefined;
}

function retireMisplaced(
  draft: Draft,
  service: Service,
  tasks: readonly Task[],
  { now, features }: SchedulerContext,
): Task[] {
  const { state } = draft;
  return tasks.filter((task) => {
    const keep = task.nodeId === null || canKeep(state.nodes.get(task.nodeId), service, state, features);
    if (!keep) retireTask(draft, task, now);
    return keep;
  });
}

/** A node that came back has its tasks again: those that stood in for them go once the first ones run. */
function retireSurplus(draft: Draft, tasks: readonly Task[], context: SchedulerContext): Task[] {
  const retired = new Set<Task>();
  for (const sharers of groupBy(tasks, (task) => task.slot).values()) {
    if (sharers.length === 1) continue;
    const oldestFirst = sharers.toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
    const firstRunning = oldestFirst.findIndex((task) => isRunning(draft.state, task, context));
    if (firstRunning === -1) continue;
    for (const task of oldestFirst.slice(firstRunning + 1)) {
      retireTask(draft, task, context.now);
      retired.add(task);
    }
  }
  return tasks.filter((task) => !retired.has(task));
}

function scaleDown(draft: Draft, service: Service, bySlot: Map<number, Task[]>, context: SchedulerContext): void {
  const surplus = bySlot.size - service.replicas;
  if (surplus <= 0) return;
  for (const slot of slotsToRemove(bySlot, surplus, (task) => isRunning(draft.state, task, context))) {
    for (const task of bySlot.get(slot)!) retireTask(draft, task, context.now);
    bySlot.delete(slot);
  }
}

function scaleUp(draft: Draft, service: Service, bySlot: Map<number, Task[]>, { now, newId }: SchedulerContext): void {
  if (bySlot.size >= service.replicas) return;
  const attached = draft.state.tasks.by("service", service.id).filter(({ attachment }) => attachment !== null);
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

/** The services with tasks that wait for a node: the touched ones, or all of them when one that was full or missing may have a place. */
function servicesToPlace({ tasks }: State, touched: ReadonlySet<string>, hasNewPlaces: boolean): Iterable<string> {
  if (tasks.count("todo", "place") === 0) return [];
  return hasNewPlaces ? new Set(tasks.by("todo", "place").map(({ serviceId }) => serviceId)) : touched;
}

/** Gives each of the services' tasks without a node the best one, or says on the task why there is none. */
function placeTasks(draft: Draft, serviceIds: Iterable<string>, context: SchedulerContext): void {
  let places: Places | undefined;
  for (const id of serviceIds) {
    const service = draft.state.services.get(id);
    const waiting = draft.state.tasks.by("wanted", id).filter(({ nodeId }) => nodeId === null);
    if (service === undefined || waiting.length === 0) continue;
    places ??= new Places(draft.state, context.features);
    placeTasksOf(draft, service, { waiting, places }, context);
  }
}

function placeTasksOf(
  draft: Draft,
  service: Service,
  { waiting, places }: { waiting: readonly Task[]; places: Places },
  context: SchedulerContext,
): void {
  const search = places.for(service);
  let error: string | undefined;
  for (const task of waiting) {
    const best = error === undefined ? search.best() : undefined;
    // What keeps one of them from a node keeps those after it too.
    error ??= best === undefined ? places.whyNowhere(service) : place(draft, task, service, best.node, context);
    if (error !== undefined) {
      if (task.error !== error) draft.put("tasks", { ...task, error });
    } else if (best !== undefined) {
      search.took(best.node);
      places.take(best);
    }
  }
}

/** Puts the task on the node, with an address on each of its networks; says why when there is none. */
function place(
  draft: Draft,
  task: Task,
  service: Service,
  node: Node,
  { addresses }: SchedulerContext,
): string | undefined {
  const own = draft.nested();
  try {
    const entries = service.networks.map((networkId) => {
      const network = own.state.networks.get(networkId)!;
      return [networkId, addresses.allocate(own, network, { kind: "task", id: task.id })];
    });
    own.put("tasks", { ...task, nodeId: node.id, addresses: Object.fromEntries(entries), error: null });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return error.message;
  }
  draft.absorb(own);
  return undefined;
}

/** Stops tasks that get no new connections from any node, once those that take their places run. Loops over the tasks that drain. */
function stopDrained(draft: Draft, context: SchedulerContext): void {
  for (const task of draft.state.tasks.by("todo", "draining")) {
    if (task.drain === null) continue;
    const waitMs = Math.max(
      context.applied < task.drain.revision ? DRAIN_DEADLINE_MS : 0,
      successorWaitMs(draft.state, task, context),
    );
    const isOfUse = draft.state.services.has(task.serviceId) && serves(draft.state, task);
    if (!isOfUse || context.drainedMs(task) >= waitMs) stopTask(draft, task);
  }
}

/** How long, from its beginning to drain, the task stays for the one that takes its place; 0: it has no successor to wait for. */
function successorWaitMs(state: State, { serviceId, slot }: Task, context: SchedulerContext): number {
  const sharers = state.tasks.by("instance", `${serviceId}/${slot}`);
  const successors = sharers.filter(({ desired }) => desired === "running");
  if (successors.length === 0 || successors.some((task) => isRunning(state, task, context))) return 0;
  return successors.some(({ nodeId }) => nodeId !== null) ? SUCCESSOR_DEADLINE_MS : DRAIN_DEADLINE_MS;
}

/** A task that is to stop is gone when its node, which has reported all its statuses, knows of no process. */
function removeStopped(draft: Draft, serviceId: string, { isReported }: SchedulerContext): void {
  for (const task of draft.state.tasks.by("service", serviceId)) {
    if (task.desired !== "shutdown" || task.nodeId === null) continue;
    const status = draft.state.statuses.get(task.id);
    const isStopped = status === undefined || !ALIVE.has(status.state);
    if (!draft.state.nodes.has(task.nodeId) || (isReported(task.nodeId) && isStopped)) removeTask(draft, task);
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
