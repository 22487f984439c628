// What not every node may read: the registry credentials of a service are for the nodes that have tasks of it.
import { encodeLine } from "../cluster/protocol.ts";
import { type Change, isForNodes, type Kind, type RowOf, type Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";

/** The secret services that have tasks on the node, by id: it may read them whole. */
export function heldSecrets(nodeId: string, { services, tasks }: State): Map<string, Service> {
  const held = new Map<string, Service>();
  if (services.count("kind", "secret") === 0) return held;
  for (const { serviceId, attachment } of tasks.by("node", nodeId)) {
    const service = attachment === null ? services.get(serviceId) : undefined;
    if (service !== undefined && hasSecret(service)) held.set(serviceId, service);
  }
  return held;
}

// The rows without secrets, kept as long as those with them.
const withoutSecrets = new WeakMap<Service, Service>();

/** The row as every node may read it: the same one each time. */
export function commonRow(kind: Kind, row: RowOf<Kind>): RowOf<Kind> {
  return kind === "services" && hasSecret(row as Service) ? withoutSecret(row as Service) : row;
}

/**
 * The line that brings the nodes from the state before some changes to the state after them: one for all nodes, encoded
 * once, and others for nodes that may read more, or may do so no longer.
 */
export class ChangeLines {
  readonly #changes: readonly Change[];
  readonly #before: State;
  readonly #after: State;
  readonly #revisions: { after: number; revision: number };
  readonly #common: Buffer | undefined;
  // BOUNDED: by the services that the changes touch; keyed by node.
  readonly #own = new Map<string, Service[]>();

  /** `changes` lead from `before` to `after`; `sent` is the last revision that nodes were sent. */
  constructor(before: State, after: State, changes: readonly Change[], sent: number) {
    this.#before = before;
    this.#after = after;
    this.#changes = changes.filter(({ kind }) => isForNodes(kind));
    this.#revisions = { after: sent, revision: after.revision };
    this.#common = this.#changes.length === 0 ? undefined : this.#line(this.#changes.map(forAll));
    for (const id of this.#secretServices()) this.#addOwn(id);
  }

  /** Whether nodes get a line; all do, or none. */
  get isEmpty(): boolean {
    return this.#common === undefined;
  }

  /** undefined: nothing in the changes is for nodes. */
  of(nodeId: string): Buffer | undefined {
    const own = this.#own.get(nodeId);
    if (own === undefined) return this.#common;
    const ids = new Set(own.map(({ id }) => id));
    const others = this.#changes.filter(({ kind, key }) => kind !== "services" || !ids.has(key)).map(forAll);
    return this.#line([...others, ...own.map((row): Change => ({ kind: "services", key: row.id, row }))]);
  }

  /** The services with secrets that changed, or whose tasks did. */
  #secretServices(): Set<string> {
    const ids = new Set<string>();
    if (this.#after.services.count("kind", "secret") === 0) return ids;
    for (const { kind, key, row } of this.#changes) {
      if (kind === "services") ids.add(key);
      if (kind !== "tasks") continue;
      for (const task of [row, this.#before.tasks.get(key)]) if (task) ids.add(task.serviceId);
    }
    for (const id of ids) {
      const service = this.#after.services.get(id);
      if (service === undefined || !hasSecret(service)) ids.delete(id);
    }
    return ids;
  }

  #addOwn(id: string): void {
    const [before, after] = [holdersOf(this.#before, id), holdersOf(this.#after, id)];
    const service = this.#after.services.get(id)!;
    const isChanged = this.#changes.some(({ kind, key }) => kind === "services" && key === id);
    for (const nodeId of after) if (isChanged || !before.has(nodeId)) this.#add(nodeId, service);
    for (const nodeId of before) if (!after.has(nodeId)) this.#add(nodeId, withoutSecret(service));
  }

  #add(nodeId: string, row: Service): void {
    const own = this.#own.get(nodeId);
    if (own === undefined) this.#own.set(nodeId, [row]);
    else own.push(row);
  }

  #line(changes: readonly Change[]): Buffer {
    return encodeLine({ type: "changes", ...this.#revisions, changes });
  }
}

/** Ids of the nodes that were given tasks of the service. A container that a node attached to it pulls no image with its secret. */
function holdersOf({ tasks }: State, serviceId: string): Set<string> {
  const scheduled = tasks.by("service", serviceId).filter(({ attachment }) => attachment === null);
  return new Set(scheduled.flatMap(({ nodeId }) => nodeId ?? []));
}

/** The change as every node may read it. */
function forAll(change: Change): Change {
  if (change.kind !== "services" || change.row === null || !hasSecret(change.row)) return change;
  return { ...change, row: withoutSecret(change.row) };
}

function hasSecret({ workload }: Service): boolean {
  return workload?.runtime === "docker" && workload.registryAuth !== null;
}

function withoutSecret(service: Service): Service {
  const known = withoutSecrets.get(service);
  if (known !== undefined) return known;
  const { workload } = service;
  if (workload?.runtime !== "docker") return service;
  const row = { ...service, workload: { ...workload, registryAuth: null } };
  withoutSecrets.set(service, row);
  return row;
}
