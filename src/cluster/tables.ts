// The tables of the state: rows by key, and by what else they are looked up by. A table is changed in place, so that a
// change costs what it touches.
import { type IndexOf, keyOf, valuesIn } from "./indexes.ts";
import type { ClusterIdentity, Kind, RowOf } from "./schema.ts";

/** A table as readers see it. The order is that of the rows' first appearance. */
export interface Rows<K extends Kind> extends ReadonlyMap<string, RowOf<K>> {
  /** The rows that the index has under `value`, a new array. The index is built when it is first asked. */
  by(index: IndexOf<K>, value: string): RowOf<K>[];
  /** How many rows those are, without a loop over them. */
  count(index: IndexOf<K>, value: string): number;
  /** Another number after each change. */
  readonly version: number;
}

/** The state as readers see it; see LiveState for how it is changed. `cluster` is null in an empty one. */
export type State = { readonly revision: number; readonly cluster: ClusterIdentity | null } & {
  readonly [K in Kind]: Rows<K>;
};

/** One row, or several by their keys: most values of most indexes have one, and a Map for each would be dear. */
type Bucket<R> = R | Map<string, R>;

/** Rows that are changed in place. */
export class Table<K extends Kind> implements Rows<K> {
  readonly #kind: K;
  // BOUNDED: by the cluster's state; keyed by the row's key.
  readonly #rows: Map<string, RowOf<K>>;
  // BOUNDED: by the indexes of the kind that were asked; each has what the rows have.
  readonly #buckets = new Map<IndexOf<K>, Map<string, Bucket<RowOf<K>>>>();
  #version = 0;

  constructor(kind: K, rows: Iterable<readonly [string, RowOf<K>]> = []) {
    this.#kind = kind;
    this.#rows = new Map(rows);
  }

  get size(): number {
    return this.#rows.size;
  }

  get version(): number {
    return this.#version;
  }

  get(key: string): RowOf<K> | undefined {
    return this.#rows.get(key);
  }

  has(key: string): boolean {
    return this.#rows.has(key);
  }

  keys(): MapIterator<string> {
    return this.#rows.keys();
  }

  values(): MapIterator<RowOf<K>> {
    return this.#rows.values();
  }

  entries(): MapIterator<[string, RowOf<K>]> {
    return this.#rows.entries();
  }

  [Symbol.iterator](): MapIterator<[string, RowOf<K>]> {
    return this.#rows.entries();
  }

  forEach(each: (row: RowOf<K>, key: string, rows: ReadonlyMap<string, RowOf<K>>) => void): void {
    this.#rows.forEach((row, key) => void each(row, key, this));
  }

  by(index: IndexOf<K>, value: string): RowOf<K>[] {
    const bucket = this.#bucketsOf(index).get(value);
    if (bucket === undefined) return [];
    return bucket instanceof Map ? [...bucket.values()] : [bucket];
  }

  count(index: IndexOf<K>, value: string): number {
    const bucket = this.#bucketsOf(index).get(value);
    if (bucket === undefined) return 0;
    return bucket instanceof Map ? bucket.size : 1;
  }

  /** Puts the row, or deletes it with null. Returns the row that was there. */
  set(key: string, row: RowOf<K> | null): RowOf<K> | undefined {
    const before = this.#rows.get(key);
    if (row !== null) this.#rows.set(key, row);
    else if (before === undefined) return undefined;
    else this.#rows.delete(key);
    this.#version++;
    for (const [index, buckets] of this.#buckets) {
      const valuesOf = valuesIn(this.#kind, index);
      const [left, kept] = [before === undefined ? [] : valuesOf(before), row === null ? [] : valuesOf(row)];
      for (const value of left) if (!kept.includes(value)) leave(buckets, value, key);
      if (row !== null) for (const value of kept) enter(buckets, value, key, row, (other) => keyOf(this.#kind, other));
    }
    return before;
  }

  copy(): Table<K> {
    return new Table(this.#kind, this.#rows);
  }

  #bucketsOf(index: IndexOf<K>): Map<string, Bucket<RowOf<K>>> {
    const known = this.#buckets.get(index);
    if (known !== undefined) return known;
    const buckets = new Map<string, Bucket<RowOf<K>>>();
    const valuesOf = valuesIn(this.#kind, index);
    for (const [key, row] of this.#rows)
      for (const value of valuesOf(row)) enter(buckets, value, key, row, (other) => keyOf(this.#kind, other));
    this.#buckets.set(index, buckets);
    return buckets;
  }
}

function enter<R>(
  buckets: Map<string, Bucket<R>>,
  value: string,
  key: string,
  row: R,
  keyOf: (row: R) => string,
): void {
  const bucket = buckets.get(value);
  if (bucket instanceof Map) bucket.set(key, row);
  else if (bucket === undefined || keyOf(bucket) === key) buckets.set(value, row);
  else {
    buckets.set(
      value,
      new Map([
        [keyOf(bucket), bucket],
        [key, row],
      ]),
    );
  }
}

function leave<R>(buckets: Map<string, Bucket<R>>, value: string, key: string): void {
  const bucket = buckets.get(value);
  if (!(bucket instanceof Map)) {
    buckets.delete(value);
    return;
  }
  bucket.delete(key);
  if (bucket.size === 0) buckets.delete(value);
}
