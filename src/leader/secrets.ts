// What not every node may know: the registry credentials of a service are for the nodes that have tasks of it.
import type { Change, Service, State } from "../cluster/schema.ts";
import { applyChanges } from "../cluster/state.ts";

/** The state as a node may see it. */
export function stateFor(nodeId: string, state: State): State {
  const holders = holdersOf(state);
  if (holders.size === 0) return state;
  const changes = [...holders.keys()].map((key): Change => {
    return { kind: "services", key, row: rowFor(nodeId, state.services.get(key)!, holders) };
  });
  return applyChanges(state, changes, state.revision);
}

/** What leads a node from what it may see of one state to what it may see of the next. */
export class ChangeView {
  readonly #changes: Change[];
  readonly #after: State;
  readonly #holdersBefore: Holders;
  readonly #holders: Holders;

  /** `changes` lead from `before` to `after`. */
  constructor(before: State, after: State, changes: Change[]) {
    this.#changes = changes;
    this.#after = after;
    this.#holders = holdersOf(after);
    this.#holdersBefore = this.#holders.size === 0 ? this.#holders : holdersOf(before);
  }

  of(nodeId: string): Change[] {
    if (this.#holders.size === 0) return this.#changes;
    const told = this.#changes.map((change) =>
      change.kind === "services" && change.row !== null
        ? { ...change, row: rowFor(nodeId, change.row, this.#holders) }
        : change,
    );
    for (const [key, nodes] of this.#holders) {
      // Also when nothing but the node's tasks changed.
      const isNew = nodes.has(nodeId) !== (this.#holdersBefore.get(key)?.has(nodeId) === true);
      if (isNew && !told.some((change) => change.kind === "services" && change.key === key))
        told.push({ kind: "services", key, row: rowFor(nodeId, this.#after.services.get(key)!, this.#holders) });
    }
    return told;
  }
}

/** Ids of the nodes that have tasks of a service, by the ids of the services that have credentials. */
type Holders = ReadonlyMap<string, ReadonlySet<string>>;

function holdersOf({ services, tasks }: State): Holders {
  const holders = new Map<string, Set<string>>();
  for (const service of services.values()) if (hasSecret(service)) holders.set(service.id, new Set());
  if (holders.size === 0) return holders;
  for (const { serviceId, nodeId } of tasks.values()) if (nodeId !== null) holders.get(serviceId)?.add(nodeId);
  return holders;
}

function hasSecret({ workload }: Service): boolean {
  return workload?.runtime === "docker" && workload.registryAuth !== null;
}

function rowFor(nodeId: string, row: Service, holders: Holders): Service {
  const { workload } = row;
  if (workload?.runtime !== "docker" || holders.get(row.id)?.has(nodeId) !== false) return row;
  return { ...row, workload: { ...workload, registryAuth: null } };
}
