// All rows of a node at once; its agent derives those alone that a change concerns.

import type { Viewpoint } from "../../src/agent/compile-tables.ts";
import { Derived } from "../../src/agent/derived.ts";
import type { State } from "../../src/cluster/tables.ts";
import type { TableRows } from "../../src/datapath/rows.ts";

/** The rows in force at `state` on a node; none while the cluster does not know it. */
export function compileTables(state: State, viewpoint: Viewpoint): TableRows {
  const derived = new Derived();
  derived.update(state, viewpoint, new Set(["all"]));
  return derived.rows();
}
