// Snapshots and changes: the one way in which a state becomes the next one, and how both look as JSON.
import { isDeepStrictEqual } from "node:util";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { derivedIdentity } from "./identity.ts";
import { keyOf } from "./indexes.ts";
import { Overlay } from "./overlay.ts";
import { type Change, ClusterIdentity, KINDS, type Kind, type RowOf, rowSchemas } from "./schema.ts";
import { type State, Table } from "./tables.ts";

/** A change that was applied, with the row that was there before it; undefined: there was none. */
export type AppliedChange = { [K in Kind]: Extract<Change, { kind: K }> & { before: RowOf<K> | undefined } }[Kind];

/** A state that is changed in place: code that reads it over an `await` may find it later than it was. */
export class LiveState {
  revision = 0;
  cluster: ClusterIdentity | null = null;
  readonly nodes = new Table("nodes");
  readonly networks = new Table("networks");
  readonly services = new Table("services");
  readonly tasks = new Table("tasks");
  readonly endpoints = new Table("endpoints");
  readonly allocations = new Table("allocations");
  readonly ports = new Table("ports");
  readonly statuses = new Table("statuses");
  readonly settings = new Table("settings");
  readonly trust = new Table("trust");
  readonly tokens = new Table("tokens");
  readonly users = new Table("users");

  /** Returns the changes with what was there before; those that delete a row that is not there are left out. */
  apply(changes: readonly Change[], revision: number): AppliedChange[] {
    this.revision = revision;
    const applied: AppliedChange[] = [];
    for (const change of changes) {
      const before = (this[change.kind] as Table<Kind>).set(change.key, change.row);
      if (change.row !== null || before !== undefined) applied.push({ ...change, before } as AppliedChange);
    }
    return applied;
  }

  /**
   * Becomes what `next` is: rows that are equal stay as they are, with their indexes. Returns the difference. It looks at each
   * row of both states: once a session, not once a change.
   */
  replaceBy(next: State): AppliedChange[] {
    const changes = KINDS.flatMap((kind) => differenceOf(kind, this, next));
    this.cluster = next.cluster;
    return this.apply(changes, next.revision);
  }

  /** A state of its own with the same rows. */
  copy(): LiveState {
    const copy = new LiveState();
    copy.cluster = this.cluster;
    copy.apply(changesTo(this), this.revision);
    return copy;
  }
}

export function emptyState(): LiveState {
  return new LiveState();
}

/** What makes the kind's rows in `from` those in `to`. */
function differenceOf(kind: Kind, { [kind]: from }: State, { [kind]: to }: State): Change[] {
  const left = [...from.keys()].filter((key) => !to.has(key)).map((key) => ({ kind, key, row: null }));
  const put = [...to].filter(([key, row]) => !isDeepStrictEqual(from.get(key), row));
  return [...left, ...put.map(([key, row]) => ({ kind, key, row }) as Change)];
}

/** Each row of the state as a change that puts it. */
export function changesTo(state: State): Change[] {
  return KINDS.flatMap((kind) => [...state[kind]].map(([key, row]) => ({ kind, key, row }) as Change));
}

/** The next state in the making: its readers see what was written, and no other reader does until it is applied. */
export class Draft {
  /** The revision at which the changes will be in the state. */
  readonly revision: number;
  readonly #base: State;
  readonly #tables: { [K in Kind]: Overlay<K> };
  readonly state: State;
  // BOUNDED: by what one turn of the leader changes; keyed by kind and key.
  readonly #changes = new Map<string, Change>();

  constructor(state: State, revision = state.revision + 1) {
    this.revision = revision;
    this.#base = state;
    const tables = KINDS.map((kind) => [kind, new Overlay(kind, state[kind])]);
    this.#tables = Object.fromEntries(tables) as { [K in Kind]: Overlay<K> };
    this.state = { revision, cluster: state.cluster, ...this.#tables };
  }

  get changes(): Change[] {
    return [...this.#changes.values()];
  }

  put<K extends Kind>(kind: K, row: RowOf<K>): void {
    const key = keyOf(kind, row);
    (this.#tables[kind] as Overlay<K>).set(key, row);
    this.#changes.set(`${kind}/${key}`, { kind, key, row } as Change);
  }

  remove(kind: Kind, key: string): void {
    if (this.#tables[kind].set(key, null) === undefined) return;
    if (this.#base[kind].has(key)) this.#changes.set(`${kind}/${key}`, { kind, key, row: null });
    else this.#changes.delete(`${kind}/${key}`);
  }

  /** A draft over this one, at its revision: `absorb` takes its changes, and dropping it undoes them. */
  nested(): Draft {
    return new Draft(this.state, this.revision);
  }

  absorb(nested: Draft): void {
    for (const { kind, key, row } of nested.changes) {
      if (row === null) this.remove(kind, key);
      else this.put(kind, row);
    }
  }
}

const ChangesLine = z.array(z.object({ kind: z.enum(KINDS), key: z.string(), row: z.unknown() }));

/** Changes as they came from outside, checked. Throws ZodError. */
export function parseChanges(json: unknown, rowOf = checkedRow): Change[] {
  return ChangesLine.parse(json).map(
    ({ kind, key, row }) => ({ kind, key, row: row === null ? null : rowOf(kind, row) }) as Change,
  );
}

/** Rows of one kind as they came from outside, checked, as changes that put them. Throws ZodError. */
export function parseRows(kind: Kind, rows: readonly unknown[], rowOf = checkedRow): Change[] {
  return rows.map((json) => {
    const row = rowOf(kind, json);
    return { kind, key: keyOf(kind, row), row } as Change;
  });
}

/** The row, checked; fields that this version does not know are left out. Throws ZodError. */
export function checkedRow(kind: Kind, json: unknown): RowOf<Kind> {
  const schema = rowSchemas[kind];
  const { success, data, error } = schema.safeParse(json);
  return success ? data : schema.parse(withoutUnknown(json, error.issues));
}

/** What a person sends has no unknown fields, but a row of a later version may. */
function withoutUnknown(json: unknown, issues: readonly z.core.$ZodIssue[]): unknown {
  const known = structuredClone(json);
  for (const issue of issues) {
    if (issue.code !== "unrecognized_keys") continue;
    let inner = known as Record<PropertyKey, unknown>;
    for (const part of issue.path) inner = inner[part] as Record<PropertyKey, unknown>;
    for (const key of issue.keys) delete inner[key];
  }
  return known;
}

/** The row as it is: this build wrote it itself, see schemaDigest(). */
export function uncheckedRow(_kind: Kind, json: unknown): RowOf<Kind> {
  return json as RowOf<Kind>;
}

let digest: string | undefined;

/** A short text that differs between builds whose rows differ in form. Costs some milliseconds, once. */
export function schemaDigest(): string {
  digest ??= crc32(
    JSON.stringify(KINDS.map((kind) => z.toJSONSchema(rowSchemas[kind], { unrepresentable: "any" }))),
  ).toString(16);
  return digest;
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
  settings: z.array(rowSchemas.settings).default([]),
  trust: z.array(rowSchemas.trust).default([]),
  tokens: z.array(rowSchemas.tokens).default([]),
  users: z.array(rowSchemas.users).default([]),
} satisfies Record<Kind | "revision" | "cluster", z.ZodType>);
export type StateJson = z.infer<typeof StateJson>;

export function stateToJson(state: State): StateJson {
  const rows = Object.fromEntries(KINDS.map((kind) => [kind, [...state[kind].values()]]));
  return { revision: state.revision, cluster: state.cluster, ...rows } as StateJson;
}

/** A state as it came from outside, checked. Throws ZodError. */
export function stateFromJson(json: unknown): LiveState {
  const { revision, cluster, ...tables } = StateJson.parse(json);
  const changes = KINDS.flatMap((kind) =>
    tables[kind].map((row) => ({ kind, key: keyOf(kind, row as RowOf<typeof kind>), row }) as Change),
  );
  const state = emptyState();
  state.apply(changes, revision);
  state.cluster = cluster ?? derivedIdentity(state);
  return state;
}
