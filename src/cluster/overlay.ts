// Changes over a table: a draft over the state that the leader writes, a node's own statuses over what it was sent.
import { type IndexOf, keyOf, valuesIn } from "./indexes.ts";
import type { Kind, RowOf } from "./schema.ts";
import { type Rows, Table } from "./tables.ts";

/** A table with changes over it: readers see both as one, and the table below is not touched. It must not change meanwhile. */
export class Overlay<K extends Kind> implements Rows<K> {
  readonly #kind: K;
  readonly #base: Rows<K>;
  /** Rows that are new, or in place of those of the base. */
  readonly #put: Table<K>;
  // BOUNDED: by the base.
  readonly #removed = new Set<string>();
  // BOUNDED: by the indexes that were asked, and the values of the changed rows. How many rows more than in the base.
  readonly #more = new Map<IndexOf<K>, Map<string, number>>();
  #size: number;
  #version: number;

  constructor(kind: K, base: Rows<K>) {
    this.#kind = kind;
    this.#base = base;
    this.#put = new Table(kind);
    this.#size = base.size;
    this.#version = base.version;
  }

  get size(): number {
    return this.#size;
  }

  get version(): number {
    return this.#version;
  }

  get(key: string): RowOf<K> | undefined {
    return this.#put.get(key) ?? (this.#removed.has(key) ? undefined : this.#base.get(key));
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  *entries(): Generator<[string, RowOf<K>], undefined, unknown> {
    for (const [key, row] of this.#base) if (!this.#removed.has(key)) yield [key, this.#put.get(key) ?? row];
    for (const [key, row] of this.#put) if (!this.#isInBase(key)) yield [key, row];
  }

  *keys(): Generator<string, undefined, unknown> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): Generator<RowOf<K>, undefined, unknown> {
    for (const [, row] of this.entries()) yield row;
  }

  [Symbol.iterator](): Generator<[string, RowOf<K>], undefined, unknown> {
    return this.entries();
  }

  forEach(each: (row: RowOf<K>, key: string, rows: ReadonlyMap<string, RowOf<K>>) => void): void {
    for (const [key, row] of this.entries()) each(row, key, this);
  }

  by(index: IndexOf<K>, value: string): RowOf<K>[] {
    const put = new Map(this.#put.by(index, value).map((row) => [keyOf(this.#kind, row), row]));
    const rows: RowOf<K>[] = [];
    for (const below of this.#base.by(index, value)) {
      const key = keyOf(this.#kind, below);
      const row = this.#put.has(key) ? put.get(key) : below;
      if (row === undefined || this.#removed.has(key)) continue;
      rows.push(row);
      put.delete(key);
    }
    rows.push(...put.values());
    return rows;
  }

  count(index: IndexOf<K>, value: string): number {
    return this.#base.count(index, value) + (this.#moreOf(index).get(value) ?? 0);
  }

  /** Puts the row, or deletes it with null. Returns the row that was there. */
  set(key: string, row: RowOf<K> | null): RowOf<K> | undefined {
    const before = this.get(key);
    if (row === null && before === undefined) return undefined;
    for (const [index, more] of this.#more) {
      const valuesOf = valuesIn(this.#kind, index);
      if (before !== undefined) add(more, valuesOf(before), -1);
      if (row !== null) add(more, valuesOf(row), 1);
    }
    this.#put.set(key, row);
    if (row !== null) this.#removed.delete(key);
    else if (this.#base.has(key)) this.#removed.add(key);
    this.#size += Number(row !== null) - Number(before !== undefined);
    this.#version++;
    return before;
  }

  #isInBase(key: string): boolean {
    return this.#base.has(key) && !this.#removed.has(key);
  }

  #moreOf(index: IndexOf<K>): Map<string, number> {
    const known = this.#more.get(index);
    if (known !== undefined) return known;
    const more = new Map<string, number>();
    const valuesOf = valuesIn(this.#kind, index);
    for (const key of [...this.#put.keys(), ...this.#removed]) {
      const [below, row] = [this.#base.get(key), this.#put.get(key)];
      if (below !== undefined) add(more, valuesOf(below), -1);
      if (row !== undefined) add(more, valuesOf(row), 1);
    }
    this.#more.set(index, more);
    return more;
  }
}

function add(counts: Map<string, number>, values: readonly string[], more: number): void {
  for (const value of new Set(values)) counts.set(value, (counts.get(value) ?? 0) + more);
}
