// A state as tests make it.
import type { Change } from "../../src/cluster/schema.ts";
import { Draft } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";

/** The state after `changes`, at `revision`, as a view over `state`, which must not change meanwhile. */
export function applyChanges(state: State, changes: readonly Change[], revision: number): State {
  const draft = new Draft(state, revision);
  for (const { kind, key, row } of changes) {
    if (row === null) draft.remove(kind, key);
    else draft.put(kind, row);
  }
  return draft.state;
}
