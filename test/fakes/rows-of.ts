// Rows of the packet path as its tables take them.
import { rowKey, type TableRow, type TableRows } from "../../src/datapath/rows.ts";

export function rowsOf(rows: Iterable<TableRow>): TableRows {
  const map = new Map<string, TableRow>();
  for (const row of rows) map.set(rowKey(row), row);
  return map;
}
