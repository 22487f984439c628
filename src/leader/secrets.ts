// What not every node may read: the registry credentials of a service are for the nodes that have tasks of it.
import { encodeLine } from "../cluster/protocol.ts";
import { type Change, isForNodes, type Kind, type RowOf, type Service } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";

/** Whether nodes differ in what they may read of the row. */
export function hasSecret(kind: Kind, row: RowOf<Kind>): boolean {
  if (kind !== "services") return false;
  const { workload } = row as Service;
  return workload?.runtime === "docker" && workload.registryAuth !== null;
}

/** The services that have a secret, as the node may read them. */
export function secretRowsFor(nodeId: string, { services, tasks }: State): Service[] {
  const secret = services.by("kind", "secret");
  if (secret.length === 0) return secret;
  const held = new Set(tasks.by("node", nodeId).map(({ serviceId }) => serviceId));
  return secret.map((service) => (held.has(service.id) ? service : withoutSecret(service)));
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
      if (service === undefined || !hasSecret("services", service)) ids.delete(id);
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

/** Ids of the nodes that have tasks of the service. */
function holdersOf({ tasks }: State, serviceId: string): Set<string> {
  return new Set(tasks.by("service", serviceId).flatMap(({ nodeId }) => nodeId ?? []));
}

/** The change as every node may read it. */
function forAll(change: Change): Change {
  if (change.kind !== "services" || change.row === null || !hasSecret("services", change.row)) return change;
  return { ...change, row: withoutSecret(change.row) };
}

function withoutSecret(service: Service): Service {
  const { workload } = service;
  if (workload?.runtime !== "docker") return service;
  return { ...service, workload: { ...workload, registryAuth: null } };
}
