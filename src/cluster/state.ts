// Snapshots and changes: the one way in which a state becomes the next one, and how both look as JSON.
import { z } from "zod";
import { derivedIdentity } from "./identity.ts";
import { claimKey } from "./port-claim.ts";
import { type Change, ClusterIdentity, KINDS, type Kind, type RowOf, rowSchemas, type State } from "./schema.ts";

type Tables = { -readonly [K in Kind]: Map<string, RowOf<K>> };

const keyOfRow: { [K in Kind]: (row: RowOf<K>) => string } = {
  nodes: (node) => node.id,
  networks: (network) => network.id,
  services: (service) => service.id,
  tasks: (task) => task.id,
  endpoints: (endpoint) => endpoint.id,
  allocations: (allocation) => allocation.address,
  ports: claimKey,
  statuses: (status) => status.taskId,
};

/** What keys a row in its table. */
export function keyOf<K extends Kind>(kind: K, row: RowOf<K>): string {
  return keyOfRow[kind](row);
}

export function emptyState(): State {
  return { revision: 0, cluster: null, ...emptyTables() };
}

function emptyTables(): Tables {
  return Object.fromEntries(KINDS.map((kind) => [kind, new Map()])) as unknown as Tables;
}

/** The state after `changes`, at `revision`. Tables that no change touches are shared with `state`. */
export function applyChanges(state: State, changes: readonly Change[], revision: number): State {
  const next: Record<string, unknown> = { ...state, revision };
  const copied = new Set<Kind>();
  for (const { kind, key, row } of changes) {
    if (!copied.has(kind)) {
      next[kind] = new Map(state[kind] as ReadonlyMap<string, unknown>);
      copied.add(kind);
    }
    const table = next[kind] as Map<string, unknown>;
    if (row === null) table.delete(key);
    else table.set(key, row);
  }
  return next as State;
}

/** The next state in the making: reads see what was written, and nobody else does until it is committed. */
export class Draft {
  /** The revision at which the changes will be in the state. */
  readonly revision: number;
  readonly #base: State;
  readonly #tables: State;
  readonly #copied = new Set<Kind>();
  readonly #changes = new Map<string, Change>();

  constructor(state: State) {
    this.revision = state.revision + 1;
    this.#base = state;
    this.#tables = { ...state, revision: this.revision };
  }

  get state(): State {
    return this.#tables;
  }

  get changes(): Change[] {
    return [...this.#changes.values()];
  }

  put<K extends Kind>(kind: K, row: RowOf<K>): void {
    const key = keyOf(kind, row);
    this.#tableOf(kind).set(key, row);
    this.#changes.set(`${kind}/${key}`, { kind, key, row } as Change);
  }

  remove(kind: Kind, key: string): void {
    if (!this.#tableOf(kind).delete(key)) return;
    if (this.#base[kind].has(key)) this.#changes.set(`${kind}/${key}`, { kind, key, row: null });
    else this.#changes.delete(`${kind}/${key}`);
  }

  #tableOf<K extends Kind>(kind: K): Map<string, RowOf<K>> {
    const tables = this.#tables as unknown as Record<Kind, unknown>;
    if (!this.#copied.has(kind)) {
      tables[kind] = new Map(tables[kind] as ReadonlyMap<string, unknown>);
      this.#copied.add(kind);
    }
    return tables[kind] as Map<string, RowOf<K>>;
  }
}

const ChangeLine = z.object({ kind: z.enum(KINDS), key: z.string(), row: z.unknown() });

/** Changes as they came from outside, checked. Throws ZodError. */
export function parseChanges(json: unknown): Change[] {
  return z
    .array(ChangeLine)
    .parse(json)
    .map(({ kind, key, row }) => ({ kind, key, row: row === null ? null : rowSchemas[kind].parse(row) }) as Change);
}

const StateJson = z.object({
  revision: z.int().min(0),
  cluster: ClusterIdentity.nullable().default(null),
  nodes: z.array(rowSchemas.nodes),
  networks: z.array(rowSchemas.networks),
  services: z.array(rowSchemas.services),
  tasks: z.array(rowSchemas.tasks),
  endpoints: z.array(rowSchemas.endpoints),
  allocations: z.array(rowSchemas.allocations),
  ports: z.array(rowSchemas.ports),
  statuses: z.array(rowSchemas.statuses),
} satisfies Record<Kind | "revision" | "cluster", z.ZodType>);
export type StateJson = z.infer<typeof StateJson>;

export function stateToJson(state: State): StateJson {
  const rows = Object.fromEntries(KINDS.map((kind) => [kind, [...state[kind].values()]]));
  return { revision: state.revision, cluster: state.cluster, ...rows } as StateJson;
}

/** A state as it came from outside, checked. Throws ZodError. */
export function stateFromJson(json: unknown): State {
  const { revision, cluster, ...tables } = StateJson.parse(json);
  const changes = KINDS.flatMap((kind) =>
    tables[kind].map((row) => ({ kind, key: keyOf(kind, row as RowOf<typeof kind>), row }) as Change),
  );
  const state = applyChanges(emptyState(), changes, revision);
  return { ...state, cluster: cluster ?? derivedIdentity(state) };
}
