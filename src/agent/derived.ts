// The rows of this node's data path, derived from the state by unit: a change computes only the units that it touches. What
// they are never depends on how the state came to where it is: they equal what all units give when they are computed anew.
import { isDeepStrictEqual } from "node:util";
import type { State } from "../cluster/tables.ts";
import type { TableDiff, TableRow, TableRows } from "../datapath/rows.ts";
import { basisOf, mergeParts, type Part, partKey, partsOf, type Viewpoint } from "./compile-tables.ts";
import { allUnits, type DirtyUnits, type Unit } from "./units.ts";

/** What one unit gives for a key. */
interface Given {
  unit: Unit;
  part: Part;
}

/** What every unit gives while the cluster does not know the node. */
const NOTHING: readonly Part[] = [];

export class Derived {
  // BOUNDED: by the cluster's state; the keys of the rows to which each unit gives a part.
  readonly #keysByUnit = new Map<Unit, readonly string[]>();
  // BOUNDED: as #keysByUnit; most keys have one part, and a Map for each would be dear.
  readonly #partsByKey = new Map<string, Given | Map<Unit, Part>>();

  /** Computes these units anew, and returns the difference that it makes to the rows. */
  update(state: State, viewpoint: Viewpoint, dirty: DirtyUnits): TableDiff {
    const units = dirty.has("all") ? new Set([...this.#keysByUnit.keys(), ...allUnits(state)]) : (dirty as Set<Unit>);
    const basis = basisOf(state, viewpoint);
    // All of them before any is taken: one that cannot be computed leaves everything as it was.
    const all = [...units];
    const parts = all.map((unit) => (basis === undefined ? NOTHING : partsOf(unit, state, basis)));
    const before = new Map<string, TableRow | undefined>();
    for (const [i, unit] of all.entries()) this.#take(unit, parts[i]!, before);
    const diff: TableDiff = { put: [], delete: [] };
    for (const [key, old] of before) {
      const row = this.#row(key);
      if (row === undefined && old !== undefined) diff.delete.push(key);
      else if (row !== undefined && !isDeepStrictEqual(row, old)) diff.put.push(row);
    }
    return diff;
  }

  /** All rows, by their keys: a new map, made by a loop over all of them. */
  rows(): TableRows {
    const rows = new Map<string, TableRow>();
    for (const key of this.#partsByKey.keys()) {
      const row = this.#row(key);
      if (row !== undefined) rows.set(key, row);
    }
    return rows;
  }

  /** Puts the rows that it touches into `before`, as they were. */
  #take(unit: Unit, parts: readonly Part[], before: Map<string, TableRow | undefined>): void {
    const keys = parts.map(partKey);
    const known = this.#keysByUnit.get(unit) ?? [];
    if (!isDeepStrictEqual(known, keys)) {
      const kept = new Set(keys);
      for (const key of known) if (!kept.has(key)) this.#change(key, unit, undefined, before);
      if (keys.length === 0) this.#keysByUnit.delete(unit);
      else this.#keysByUnit.set(unit, keys);
    }
    for (const [i, part] of parts.entries()) this.#change(keys[i]!, unit, part, before);
  }

  #change(key: string, unit: Unit, part: Part | undefined, before: Map<string, TableRow | undefined>): void {
    if (isDeepStrictEqual(this.#part(key, unit), part)) return;
    if (!before.has(key)) before.set(key, this.#row(key));
    this.#give(key, unit, part);
  }

  #row(key: string): TableRow | undefined {
    const given = this.#partsByKey.get(key);
    if (given === undefined) return undefined;
    if (!(given instanceof Map)) return mergeParts([given.part]);
    const units = [...given.keys()].sort();
    return mergeParts(units.map((unit) => given.get(unit)!) as [Part, ...Part[]]);
  }

  #part(key: string, unit: Unit): Part | undefined {
    const given = this.#partsByKey.get(key);
    if (given instanceof Map) return given.get(unit);
    return given?.unit === unit ? given.part : undefined;
  }

  /** undefined: takes back what the unit gave. */
  #give(key: string, unit: Unit, part: Part | undefined): void {
    const given = this.#partsByKey.get(key);
    if (given instanceof Map) {
      if (part !== undefined) given.set(unit, part);
      else given.delete(unit);
      if (given.size === 0) this.#partsByKey.delete(key);
    } else if (part === undefined) {
      this.#partsByKey.delete(key);
    } else if (given === undefined || given.unit === unit) {
      this.#partsByKey.set(key, { unit, part });
    } else {
      const parts: [Unit, Part][] = [
        [given.unit, given.part],
        [unit, part],
      ];
      this.#partsByKey.set(key, new Map(parts));
    }
  }
}
