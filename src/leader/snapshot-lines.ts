// A snapshot of the state as lines of the stream, in blocks of rows. Nodes that load at the same time share the encoded
// blocks, and a later snapshot shares those in which no row has changed.
import { encodeLine } from "../cluster/protocol.ts";
import { type Kind, NODE_KINDS, type RowOf } from "../cluster/schema.ts";
import type { Rows, State } from "../cluster/tables.ts";
import { hasSecret } from "./secrets.ts";

/** Rows of one block. A row has up to some megabytes, and a block is encoded at once. */
const BLOCK_ROWS = 64;
/** Encoded blocks that are kept: a node that is far behind the others has a block encoded again. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;

/** Rows of one kind that go down the stream together. A row is never changed in place, so a block stays as it was. */
interface Block {
  readonly kind: Kind;
  readonly rows: readonly RowOf<Kind>[];
}

/** The blocks of one kind, as its table was at `version`. */
interface KindBlocks {
  readonly table: Rows<Kind>;
  readonly version: number;
  /** How many rows the blocks have. */
  readonly rowCount: number;
  readonly blocks: readonly Block[];
}

type SnapshotLines = ReadonlyMap<Kind, KindBlocks>;

/** The snapshots that nodes load, and what of them is encoded. */
export class SharedSnapshots {
  /** It lives while a node loads it. */
  #newest: WeakRef<SnapshotLines> | undefined;
  // BOUNDED: by MAX_KEPT_BYTES and one block; the oldest first.
  readonly #encoded = new Map<Block, Buffer>();
  #bytes = 0;
  #readers = 0;

  /**
   * The state as it is now, as lines for one node: `own` are the rows that not every node may read, `sent` is the
   * last revision that nodes were sent. `onTaken` is called as the node's link takes each part.
   */
  linesFor(state: State, sent: number, own: readonly RowOf<Kind>[], onTaken: () => void): Generator<Buffer, void> {
    const shared = this.#take(state);
    const { cluster } = state;
    const rows = own.length + [...shared.values()].reduce((sum, { rowCount }) => sum + rowCount, 0);
    const head = { type: "snapshot", revision: sent, cluster, rows } as const;
    return this.#lines(encodeLine(head), shared, blocksOf("services", own), onTaken);
  }

  *#lines(head: Buffer, shared: SnapshotLines, own: readonly Block[], onTaken: () => void): Generator<Buffer, void> {
    yield head;
    for (const lines of this.#encode(shared)) {
      onTaken();
      yield lines;
    }
    for (const block of own) yield encodeLine({ type: "rows", ...block });
    yield encodeLine({ type: "snapshot-end" });
  }

  /** The blocks as whole lines, each encoded when it is asked for. What is kept goes when no node loads any more. */
  *#encode(snapshot: SnapshotLines): Generator<Buffer, void, undefined> {
    this.#readers++;
    try {
      for (const { blocks } of snapshot.values()) for (const block of blocks) yield this.#linesOf(block);
    } finally {
      if (--this.#readers === 0) this.#forget();
    }
  }

  /**
   * The rows of the state as it is now; those that not every node may read are left out. Once a session: loops over all rows
   * of the kinds that have changed since the session before.
   */
  #take(state: State): SnapshotLines {
    const before = this.#newest?.deref();
    const snapshot = new Map(
      NODE_KINDS.map((kind) => [kind, takeKind(kind, state[kind] as Rows<Kind>, before?.get(kind))]),
    );
    this.#newest = new WeakRef(snapshot);
    return snapshot;
  }

  #linesOf(block: Block): Buffer {
    const known = this.#encoded.get(block);
    if (known !== undefined) return known;
    const lines = encodeLine({ type: "rows", ...block });
    this.#encoded.set(block, lines);
    this.#bytes += lines.length;
    for (const [oldest, { length }] of this.#encoded) {
      if (this.#bytes <= MAX_KEPT_BYTES) break;
      this.#encoded.delete(oldest);
      this.#bytes -= length;
    }
    return lines;
  }

  #forget(): void {
    this.#encoded.clear();
    this.#bytes = 0;
  }
}

/** `before`: those of an earlier snapshot. Blocks in which no row has changed are the same objects. */
function takeKind(kind: Kind, table: Rows<Kind>, before: KindBlocks | undefined): KindBlocks {
  const { version } = table;
  if (before?.table === table && before.version === version) return before;
  const rows = [...table.values()].filter((row) => !hasSecret(kind, row));
  const blocks = blocksOf(kind, rows).map((block, i) => {
    const known = before?.blocks[i];
    return known !== undefined && isSame(known, block) ? known : block;
  });
  return { table, version, rowCount: rows.length, blocks };
}

function blocksOf(kind: Kind, rows: readonly RowOf<Kind>[]): Block[] {
  const count = Math.ceil(rows.length / BLOCK_ROWS);
  return Array.from({ length: count }, (_, i) => ({ kind, rows: rows.slice(i * BLOCK_ROWS, (i + 1) * BLOCK_ROWS) }));
}

function isSame(a: Block, b: Block): boolean {
  return a.rows.length === b.rows.length && a.rows.every((row, i) => row === b.rows[i]);
}
