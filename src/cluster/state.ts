// Snapshots and changes: the one way in which a state becomes the next one.
import { type Change, KINDS, type Kind, type RowOf, type State } from "./schema.ts";

export type Tables = { -readonly [K in Kind]: Map<string, RowOf<K>> };

export function emptyState(): State {
  return { revision: 0, ...emptyTables() };
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
