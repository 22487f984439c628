// What not every node may read: the registry credentials of a service are for the nodes that have tasks of it.
import type { Lacking } from "../cluster/features.ts";
import { encodeLine } from "../cluster/protocol.ts";
import { type Change, isForNodes, type Service } from "../cluster/schema.ts";
import { commonRow, hasSecret } from "../cluster/secret-rows.ts";
import type { State } from "../cluster/tables.ts";
import type { NodeSession } from "./sessions.ts";

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
  // BOUNDED: by the sets of features that nodes lack. The changes as nodes see them that lack some, and the line of them.
  readonly #seenBy = new Map<Lacking, { changes: readonly Change[]; line: Buffer }>();

  /** `changes` lead from `before` to `after`; `sent` is the last revision that nodes were sent. */
  constructor(
    changes: readonly Change[],
    { before, after, sent }: { before: State; after: State; sent: number },
    lacking: Iterable<Lacking>,
  ) {
    this.#before = before;
    this.#after = after;
    this.#changes = changes.filter(({ kind }) => isForNodes(kind));
    this.#revisions = { after: sent, revision: after.revision };
    this.#common = this.#changes.length === 0 ? undefined : this.#line(this.#changes.map(forAll));
    for (const id of this.#secretServices()) this.#addOwn(id);
    if (this.#changes.length > 0) for (const one of lacking) this.#addSeenBy(one);
  }

  /** Whether nodes get a line; all do, or none. */
  get isEmpty(): boolean {
    return this.#common === undefined;
  }

  /** undefined: nothing in the changes is for nodes. */
  of({ nodeId, lacking }: Pick<NodeSession, "nodeId" | "lacking">): Buffer | undefined {
    const own = this.#own.get(nodeId);
    const seen = lacking && this.#seenBy.get(lacking);
    if (own === undefined) return seen?.line ?? this.#common;
    const shown = own.filter((row) => lacking?.hides("services", row, this.#after) !== true);
    const ids = new Set(own.map(({ id }) => id));
    const changes = seen?.changes ?? this.#changes;
    const others = changes.filter(({ kind, key }) => kind !== "services" || !ids.has(key)).map(forAll);
    return this.#line([...others, ...shown.map((row): Change => ({ kind: "services", key: row.id, row }))]);
  }

  #addSeenBy(lacking: Lacking): void {
    const changes = this.#changes.flatMap((change) => this.#asSeen(change, lacking));
    this.#seenBy.set(lacking, { changes, line: this.#line(changes.map(forAll)) });
  }

  /** The change for nodes that do not see all rows: a row that they see no more is deleted there. */
  #asSeen(change: Change, lacking: Lacking): Change[] {
    const { kind, key, row } = change;
    const before = this.#before[kind].get(key);
    const wasSeen = before !== undefined && !lacking.hides(kind, before, this.#before);
    if (row !== null && !lacking.hides(kind, row, this.#after)) return [change];
    return wasSeen ? [{ kind, key, row: null }] : [];
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

function withoutSecret(service: Service): Service {
  return commonRow("services", service) as Service;
}
