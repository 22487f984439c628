// The rows in force that are still true when newer tables cannot be put in force: nothing is sent to an address that has
// been released since, because another container may have it by now.
import { endpointKey, type TableRow, type TableRows, type VipRow } from "../datapath/rows.ts";

/** A pure function. Rows that say which endpoint has an address are compared by value. */
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
