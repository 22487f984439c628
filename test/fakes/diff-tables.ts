// The difference between two sets of rows, for tests that build tables whole. The agent derives it from what changed.
import { isDeepStrictEqual } from "node:util";
import type { TableDiff, TableRows } from "../../src/datapath/rows.ts";

/** The difference that makes `before` into `after`. Rows are compared by value. */
export function diffTables(before: TableRows, after: TableRows): TableDiff {
  const diff: TableDiff = { put: [], delete: [] };
  for (const [key, row] of after) {
    const old = before.get(key);
    if (old === undefined || !isDeepStrictEqual(old, row)) diff.put.push(row);
  }
  for (const key of before.keys()) if (!after.has(key)) diff.delete.push(key);
  return diff;
}
