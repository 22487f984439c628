// What of the tables that are in force is still true when newer ones cannot be put in force: nothing is sent to an
// address that has been released since, and that another container may have by now.
import { endpointKey, type TableRow, type TableRows, type VipRow } from "../datapath/tables.ts";

/** Pure; rows are compared as `diffTables` does where they name who has an address. */
export function stillTrue(inForce: TableRows, newest: TableRows): TableRows {
  const kept = new Map<string, TableRow>();
  for (const [key, row] of inForce) {
    const next = newest.get(key);
    if (row.kind === "endpoint" && !isSameHolder(row, next)) continue;
    if (row.kind === "vip" && !isSameVip(row, next)) continue;
    const isGone = next === undefined && row.kind !== "node" && row.kind !== "denied";
    if (!isGone) kept.set(key, row);
  }
  for (const [key, row] of kept) if (row.kind === "vip") kept.set(key, withTasksOf(row, kept));
  return kept;
}

function isSameHolder(row: TableRow, next: TableRow | undefined): boolean {
  return (
    row.kind === "endpoint" &&
    next?.kind === "endpoint" &&
    next.vni === row.vni &&
    next.vtep === row.vtep &&
    next.mac?.high === row.mac?.high &&
    next.mac?.low === row.mac?.low
  );
}

function isSameVip(row: VipRow, next: TableRow | undefined): boolean {
  return next?.kind === "vip" && next.service === row.service && next.vni === row.vni;
}

function withTasksOf(row: VipRow, rows: TableRows): VipRow {
  const isKept = (address: number): boolean => rows.has(endpointKey(address));
  const weights = row.balancing.weights.filter((_, i) => isKept(row.tasks[i]!));
  const balancing = { ...row.balancing, weights };
  return { ...row, tasks: row.tasks.filter(isKept), draining: row.draining.filter(isKept), balancing };
}
