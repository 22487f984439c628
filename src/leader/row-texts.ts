// Rows as texts in a managers' store. Secrets in them are sealed with the managers' key (trust/identity-files.ts), each for its
// own row, so that neither the store's files nor a member of etcd shows them.
import { keyOf } from "../cluster/indexes.ts";
import type { Kind, RowOf } from "../cluster/schema.ts";
import { partedRow, wholeRow } from "../cluster/secret-rows.ts";
import { PlatformError } from "../lib/errors.ts";
import { open, seal } from "../trust/sealed-text.ts";

/** A row that is stored without its secret has that beside its own fields. */
const SEALED = "sealedSecret";

export class RowTexts {
  readonly #sealKey: string | undefined;

  /** `sealKey`: see createSealKey(); undefined: no row has a secret. */
  constructor(sealKey: string | undefined) {
    this.#sealKey = sealKey;
  }

  /** Throws PlatformError when the row has a secret, and there is no key. */
  encode(kind: Kind, row: RowOf<Kind>): string {
    const parted = partedRow(kind, row);
    if (parted === undefined) return JSON.stringify(row);
    const sealed = seal(this.#key(), parted.secret, contextOf(kind, keyOf(kind, row)));
    return JSON.stringify({ ...parted.row, [SEALED]: sealed });
  }

  /** The JSON of the row, which is to be checked. Throws TrustError when its secret was sealed with another key. */
  decode(kind: string, key: string, text: string): unknown {
    const json = JSON.parse(text) as Record<string, unknown>;
    const { [SEALED]: sealed, ...row } = json;
    if (typeof sealed !== "string") return json;
    const secret = open(this.#key(), sealed, contextOf(kind, key));
    return wholeRow(kind as Kind, row as RowOf<Kind>, secret);
  }

  #key(): string {
    if (this.#sealKey !== undefined) return this.#sealKey;
    throw new PlatformError("secrets are not written without the managers' key", "overlayctl cluster status");
  }
}

function contextOf(kind: string, key: string): string {
  return `${kind}/${key}`;
}
