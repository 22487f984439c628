// Units: what the data path's rows are computed by. Each row of the cluster's state that makes rows of the data path is a
// unit, and what the node knows of itself is one more. A change names the units whose rows may come out differently.
import { isDeepStrictEqual } from "node:util";
import { INGRESS_NETWORK, type Kind, type Node, type TaskStatus } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";

/** The kinds whose rows are units. */
const UNIT_KINDS = ["nodes", "networks", "services", "tasks", "endpoints"] as const;
type UnitKind = (typeof UNIT_KINDS)[number];

/** KIND/KEY; `self`: what the node knows of itself. */
export type Unit = "self" | `${UnitKind}/${string}`;

function unitOf(kind: UnitKind, key: string): Unit {
  return `${kind}/${key}`;
}

/** The row's kind and key. */
export function rowOfUnit(unit: Exclude<Unit, "self">): [kind: UnitKind, key: string] {
  const slash = unit.indexOf("/");
  return [unit.slice(0, slash) as UnitKind, unit.slice(slash + 1)];
}

/** Loops over all rows: for a rebuild only. */
export function allUnits(state: State): Unit[] {
  return ["self", ...UNIT_KINDS.flatMap((kind) => [...state[kind].keys()].map((key) => unitOf(kind, key)))];
}

/** Units to compute anew; `all`: each of them. */
export type DirtyUnits = Set<Unit | "all">;

/**
 * Adds the units that a change touches. `state` is the state after it and after all changes that came with it: where such a
 * change parted two rows, it names the units of both itself.
 */
export function addUnits(dirty: DirtyUnits, state: State, change: AppliedChange, ownId: string): void {
  switch (change.kind) {
    case "nodes":
      addNode(dirty, state, change, ownId);
      return;
    case "networks": {
      const isIngress = change.row?.name === INGRESS_NETWORK || change.before?.name === INGRESS_NETWORK;
      if (isIngress) dirty.add("all");
      dirty.add(unitOf("networks", change.key));
      if (!differs(change, "vni", "encrypted")) return;
      for (const kind of ["services", "tasks", "endpoints"] as const)
        for (const { id } of state[kind].by("network", change.key)) dirty.add(unitOf(kind, id));
      return;
    }
    case "services":
      dirty.add(unitOf("services", change.key));
      if (!differs(change, "ports", "ingressSourceNat")) return;
      for (const { id } of state.tasks.by("service", change.key)) dirty.add(unitOf("tasks", id));
      return;
    case "tasks":
      dirty.add(unitOf("tasks", change.key));
      for (const task of [change.before, change.row])
        if (task !== undefined && task !== null) dirty.add(unitOf("services", task.serviceId));
      return;
    case "statuses": {
      const task = state.tasks.get(change.key);
      if (task === undefined || runsOn(change.before) === runsOn(change.row)) return;
      dirty.add(unitOf("services", task.serviceId));
      return;
    }
    case "endpoints":
      dirty.add(unitOf("endpoints", change.key));
      return;
    default: // allocations and ports: no row of the data path comes of them
  }
}

function addNode(dirty: DirtyUnits, state: State, change: ChangeOf<"nodes">, ownId: string): void {
  const { key, before, row } = change;
  const isOwn = key === ownId;
  // Every address of the cluster is kept from every port of a manager.
  const managers = [before, row].map((node) => node?.manager ?? false);
  const isManagersChange = managers[0] !== managers[1] || (managers[1] && differs(change, "listen"));
  if (isManagersChange || (isOwn && (before === undefined || row === null))) dirty.add("all");
  dirty.add(unitOf("nodes", key));
  if (isOwn) dirty.add("self");
  if (differs(change, "address", "addresses", "heldPorts")) {
    for (const address of addressesOf(before, row))
      for (const { id } of state.nodes.by("heldAt", address)) dirty.add(unitOf("nodes", id));
  }
  const tasks = differs(change, "address", "name", "state") ? state.tasks.by("node", key) : [];
  for (const { serviceId } of tasks) dirty.add(unitOf("services", serviceId));
  if (!differs(change, "address")) return;
  for (const { id } of tasks) dirty.add(unitOf("tasks", id));
  for (const { id } of state.endpoints.by("node", key)) dirty.add(unitOf("endpoints", id));
}

export type ChangeOf<K extends Kind> = Extract<AppliedChange, { kind: K }>;

/** Whether the row came or went, or has another value in one of these fields. */
export function differs<R extends object>(
  { before, row }: { before: R | undefined; row: R | null },
  ...fields: (keyof NoInfer<R>)[]
): boolean {
  if (before === undefined || row === null) return true;
  return fields.some((field) => !isDeepStrictEqual(before[field], row[field]));
}

/** The node on which a task runs, as its status says. */
function runsOn(status: TaskStatus | null | undefined): string | undefined {
  return status?.state === "running" ? status.nodeId : undefined;
}

function addressesOf(...nodes: (Node | null | undefined)[]): Set<string> {
  return new Set(
    nodes.flatMap((node) => (node === null || node === undefined ? [] : [node.address, ...node.addresses])),
  );
}
