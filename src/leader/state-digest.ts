// What a state is, as one short text: two states with the same rows have the same digest, in whatever order they came.
import { createHash } from "node:crypto";
import { KINDS } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";

/** Looks at each row: once a move or export, not once a change. */
export function stateDigest(state: State): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([state.cluster, state.revision]));
  for (const kind of KINDS) {
    for (const key of [...state[kind].keys()].toSorted()) {
      hash.update(`\n${JSON.stringify([kind, key, sorted(state[kind].get(key))])}`);
    }
  }
  return hash.digest("hex");
}

/** The value with the keys of its objects in order: a row that was read back may have them in another one. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, inner]) => [key, sorted(inner)]);
}
