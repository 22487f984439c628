// A digest of all rows that a store has, which a commit changes by what it changes: a reader of the rows finds out whether
// one is missing, is too many or is damaged.
import { createHash } from "node:crypto";

const NOTHING = 0n;

export class RowDigests {
  // BOUNDED: by the rows of the state; keyed by path.
  readonly #byPath = new Map<string, bigint>();
  #sum = NOTHING;

  get rows(): number {
    return this.#byPath.size;
  }

  /** The digest of all rows, whatever order they came in. */
  get digest(): string {
    return textOf(this.#sum);
  }

  /** What `rows` and `digest` are when these rows are written; null: removed. */
  after(writes: ReadonlyMap<string, string | null>): { rows: number; digest: string } {
    let [rows, sum] = [this.rows, this.#sum];
    for (const [path, text] of writes) {
      const before = this.#byPath.get(path);
      rows += Number(text !== null) - Number(before !== undefined);
      sum ^= (before ?? NOTHING) ^ (text === null ? NOTHING : digestOf(path, text));
    }
    return { rows, digest: textOf(sum) };
  }

  apply(writes: ReadonlyMap<string, string | null>): void {
    for (const [path, text] of writes) {
      const digest = text === null ? NOTHING : digestOf(path, text);
      this.#sum ^= (this.#byPath.get(path) ?? NOTHING) ^ digest;
      if (text === null) this.#byPath.delete(path);
      else this.#byPath.set(path, digest);
    }
  }
}

function digestOf(path: string, text: string): bigint {
  return createHash("sha256").update(path).update("\0").update(text).digest().readBigUInt64BE();
}

function textOf(sum: bigint): string {
  return sum.toString(16).padStart(16, "0");
}
