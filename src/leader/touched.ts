// What a turn of the leader has to look at: the services that its changes concern. All of them when a leader begins.
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";

export interface Touched {
  /** Ids of services; some may be gone while tasks of theirs are left. */
  services: ReadonlySet<string>;
  /** Whether tasks that wait for a node may have one now: a node changed, or an address is free. */
  hasNewPlaces: boolean;
}

/** All that there is to look at. Loops over all services and tasks: once, when a leader begins. */
export function allTouched({ services, tasks }: State): Touched {
  const ids = new Set(services.keys());
  for (const { serviceId } of tasks.values()) ids.add(serviceId);
  return { services: ids, hasNewPlaces: true };
}

/**
 * What the draft's changes concern, and the nodes whose tasks are to be looked at besides. `before` is the state that the
 * draft began from.
 */
export function touchedBy(draft: Draft, before: State, nodeIds: Iterable<string>): Touched {
  const services = new Set<string>();
  let hasNewPlaces = false;
  const addTask = (id: string) => {
    for (const task of [before.tasks.get(id), draft.state.tasks.get(id)]) if (task) services.add(task.serviceId);
  };
  const addNode = (id: string) => {
    for (const { serviceId } of draft.state.tasks.by("node", id)) services.add(serviceId);
  };
  for (const { kind, key, row } of draft.changes) {
    if (kind === "services") services.add(key);
    else if (kind === "tasks" || kind === "statuses") addTask(key);
    else if (kind === "nodes") addNode(key);
    if (kind === "nodes" || (kind === "allocations" && row === null)) hasNewPlaces = true;
  }
  for (const id of nodeIds) addNode(id);
  return { services, hasNewPlaces };
}
