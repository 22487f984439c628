// What a state has for nodes, as short digests: the rows of each kind are in buckets by their keys, and two states whose digest
// of a bucket is the same have the same rows in it. So a node that comes to a leader says what it has, and gets the rest.
import { hash } from "node:crypto";
import { isForNodes, type Kind, NODE_KINDS, type RowOf } from "./schema.ts";
import { commonRow } from "./secret-rows.ts";
import type { AppliedChange } from "./state.ts";
import type { State } from "./tables.ts";

/** Buckets of each kind: a change has some hundred rows sent again where a kind has a hundred thousand. */
export const BUCKETS = 256;
/** The length of one bucket's digest. Sums of such numbers are exact. */
const DIGEST_BYTES = 6;
const MODULUS = 2 ** (8 * DIGEST_BYTES);
/** How many rows are looked at between two chances for other work. */
const ROWS_A_PIECE = 512;

/** By kind: the digests of its buckets, one after the other, in base64. */
export type BucketDigests = Readonly<Record<string, string>>;

/** By kind: a bit for each bucket, in base64. */
export type BucketSets = Readonly<Record<string, string>>;

/** The digests of a state, which a change changes by what it changes. */
export class RowBuckets {
  readonly #sums = new Map(NODE_KINDS.map((kind) => [kind, new Float64Array(BUCKETS)]));
  // BOUNDED: by the kinds. The digests as texts, until a row of the kind changes.
  readonly #texts = new Map<Kind, string>();

  /** Those of the state, which must not change before the last piece of work is done. */
  static *inPieces(state: State): Generator<void, RowBuckets> {
    const buckets = new RowBuckets();
    let rows = 0;
    for (const kind of NODE_KINDS) {
      for (const [key, row] of state[kind]) {
        buckets.#add(kind, key, digestOf(kind, row));
        if (++rows % ROWS_A_PIECE === 0) yield;
      }
    }
    return buckets;
  }

  static of(state: State): RowBuckets {
    const pieces = RowBuckets.inPieces(state);
    for (;;) {
      const { done, value } = pieces.next();
      if (done === true) return value;
    }
  }

  changed(changes: readonly AppliedChange[]): void {
    for (const { kind, key, before, row } of changes) {
      if (!isForNodes(kind)) continue;
      if (before !== undefined) this.#add(kind, key, MODULUS - digestOf(kind, before));
      if (row !== null) this.#add(kind, key, digestOf(kind, row));
    }
  }

  digests(): BucketDigests {
    return Object.fromEntries(NODE_KINDS.map((kind) => [kind, this.#textOf(kind)]));
  }

  /** The buckets that `other`, which may be anything, has as this state has them. */
  sameAs(other: BucketDigests): ReadonlyMap<Kind, ReadonlySet<number>> {
    return new Map(
      NODE_KINDS.map((kind) => {
        const [own, theirs] = [this.#textOf(kind), other[kind] ?? ""];
        if (own === theirs) return [kind, ALL];
        return [kind, new Set(own.length === theirs.length ? sameIn(own, theirs) : [])];
      }),
    );
  }

  #add(kind: Kind, key: string, digest: number): void {
    const sums = this.#sums.get(kind)!;
    const bucket = bucketOf(key);
    sums[bucket] = (sums[bucket]! + digest) % MODULUS;
    this.#texts.delete(kind);
  }

  #textOf(kind: Kind): string {
    const known = this.#texts.get(kind);
    if (known !== undefined) return known;
    const bytes = Buffer.alloc(BUCKETS * DIGEST_BYTES);
    for (const [i, sum] of this.#sums.get(kind)!.entries()) bytes.writeUIntBE(sum, i * DIGEST_BYTES, DIGEST_BYTES);
    const text = bytes.toString("base64");
    this.#texts.set(kind, text);
    return text;
  }
}

const ALL: ReadonlySet<number> = new Set(Array.from({ length: BUCKETS }, (_, i) => i));

/** Which bucket of its kind the row with that key is in. */
export function bucketOf(key: string): number {
  let sum = 0;
  for (let i = 0; i < key.length; i++) sum = (Math.imul(sum, 31) + key.charCodeAt(i)) | 0;
  return ((sum ^ (sum >>> 15)) >>> 0) % BUCKETS;
}

export function encodeBuckets(sets: ReadonlyMap<Kind, ReadonlySet<number>>): BucketSets {
  const textOf = (buckets: ReadonlySet<number>): string => {
    const bits = Buffer.alloc(BUCKETS / 8);
    for (const i of buckets) bits[i >> 3]! |= 1 << (i & 7);
    return bits.toString("base64");
  };
  return Object.fromEntries([...sets].filter(([, set]) => set.size > 0).map(([kind, set]) => [kind, textOf(set)]));
}

/** Whether the row with that key is in one of the buckets. */
export function inBuckets(text: string): (key: string) => boolean {
  const bits = Buffer.from(text, "base64");
  return (key) => {
    const i = bucketOf(key);
    return ((bits[i >> 3] ?? 0) & (1 << (i & 7))) !== 0;
  };
}

function* sameIn(own: string, theirs: string): Generator<number> {
  const chars = own.length / BUCKETS;
  for (let i = 0; i < BUCKETS; i++) {
    if (own.slice(i * chars, (i + 1) * chars) === theirs.slice(i * chars, (i + 1) * chars)) yield i;
  }
}

/** The digest of the row as every node may read it. */
function digestOf(kind: Kind, row: RowOf<Kind>): number {
  return hash("sha256", textOf(commonRow(kind, row)), "buffer").readUIntBE(0, DIGEST_BYTES);
}

/** The value as JSON with the keys of its objects in order: a row that was read back may have them in another one. */
function textOf(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(textOf).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  let text = "{";
  for (const key of Object.keys(value).sort()) {
    const inner = (value as Record<string, unknown>)[key];
    if (inner !== undefined) text += `${JSON.stringify(key)}:${textOf(inner)},`;
  }
  return `${text}}`;
}
