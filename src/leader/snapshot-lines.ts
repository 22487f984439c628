// A snapshot of the state as lines of the stream, in blocks of rows. Nodes that load at the same time share the encoded
// blocks, and a later snapshot shares those in which no row has changed.
import type { Lacking } from "../cluster/features.ts";
import { encodeLine, encodeRows } from "../cluster/protocol.ts";
import { BUCKETS, type BucketDigests, bucketOf, encodeBuckets, RowBuckets } from "../cluster/row-buckets.ts";
import { type Kind, NODE_KINDS, type RowOf, type Service } from "../cluster/schema.ts";
import { commonRow } from "../cluster/secret-rows.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { Rows, State } from "../cluster/tables.ts";
import { roughBytes } from "./rough-bytes.ts";

/** Lines go to a link in pieces of about this size: each piece costs more than its bytes, and a link holds one. */
const PIECE_BYTES = 256 * 1024;
/** Rows of one block, which is encoded at once. */
const BLOCK_ROWS = 1024;
/** One row of this kind may have some megabytes: its blocks have about as many bytes as a piece. */
const LARGE_ROWS: Kind = "services";
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
  readonly blocks: readonly Block[];
}

/** The node for which a snapshot is. */
interface SnapshotReader {
  /** The services of whose secrets it may know, by id. */
  readonly held: ReadonlyMap<string, Service>;
  /** What is withheld from it; undefined: nothing. */
  readonly lacking?: Lacking | undefined;
  /** What it has; undefined: nothing. */
  readonly has?: BucketDigests | undefined;
  /** Called as its link takes each part. */
  onTaken(): void;
}

/** What goes down one stream. */
interface SnapshotParts {
  readonly head: Buffer;
  readonly blocks: readonly Block[];
  /** Lines after the blocks. */
  readonly after: readonly Buffer[];
  readonly held: ReadonlyMap<string, Service>;
  readonly onTaken: () => void;
}

interface Snapshot {
  readonly kinds: ReadonlyMap<Kind, KindBlocks>;
}

/** The snapshots that nodes load, and what of them is encoded. */
export class SharedSnapshots {
  /** It lives while a node loads it. */
  #newest: WeakRef<Snapshot> | undefined;
  // BOUNDED: by MAX_KEPT_BYTES and one block; the oldest first.
  readonly #encoded = new Map<Block, readonly Buffer[]>();
  #bytes = 0;
  #readers = 0;
  /** Undefined until a node says what it has. */
  #buckets: RowBuckets | undefined;
  // BOUNDED: by the kinds. The rows by bucket, as the table was at `version`.
  readonly #inBuckets = new Map<Kind, { version: number; blocks: readonly Block[] }>();

  /**
   * The state as it is now, for one node, in pieces of one or more lines; `sent` is the last revision that nodes were sent.
   * For a node that does not see all rows, this loops over them.
   */
  linesFor(state: State, sent: number, reader: SnapshotReader): Generator<Buffer, void> {
    const { held, lacking, has, onTaken } = reader;
    if (has !== undefined && lacking === undefined) return this.#restFor(state, sent, reader, has);
    const { kinds } = this.#take(state);
    let blocks = [...kinds.values()].flatMap((kind) => kind.blocks);
    if (lacking !== undefined) blocks = blocks.map((block) => seenOf(block, lacking, state));
    const rows = blocks.reduce((sum, block) => sum + block.rows.length, 0);
    const head = encodeLine({ type: "snapshot", revision: sent, cluster: state.cluster, rows });
    return this.#lines({ head, blocks, after: [], held, onTaken });
  }

  /** The state has changed. */
  changed(changes: readonly AppliedChange[]): void {
    this.#buckets?.changed(changes);
  }

  /** What a node lacks that has some of the state. */
  #restFor(state: State, sent: number, { held, onTaken }: SnapshotReader, has: BucketDigests): Generator<Buffer, void> {
    this.#buckets ??= RowBuckets.of(state);
    const same = this.#buckets.sameAs(has);
    const rows = NODE_KINDS.reduce((sum, kind) => sum + state[kind].size, 0);
    const head = encodeLine({ type: "snapshot", revision: sent, cluster: state.cluster, rows });
    const blocks = NODE_KINDS.flatMap((kind) => {
      const kept = same.get(kind)!;
      return kept.size === BUCKETS ? [] : this.#blocksInBuckets(kind, state).filter((_, i) => !kept.has(i));
    });
    const secret = [...held.values()].filter(({ id }) => same.get("services")!.has(bucketOf(id)));
    const after = [...encodeRows("services", secret), encodeLine({ type: "same", buckets: encodeBuckets(same) })];
    return this.#lines({ head, blocks, after, held, onTaken });
  }

  /** The rows of the kind, a block for each bucket. Loops over them once for all nodes that come between two changes of the kind. */
  #blocksInBuckets(kind: Kind, state: State): readonly Block[] {
    const { version } = state[kind];
    const known = this.#inBuckets.get(kind);
    if (known?.version === version) return known.blocks;
    const rows = Array.from({ length: BUCKETS }, (): RowOf<Kind>[] => []);
    for (const [key, row] of state[kind]) rows[bucketOf(key)]!.push(commonRow(kind, row));
    const blocks = rows.map((some, i) => {
      const block = { kind, rows: some };
      const old = known?.blocks[i];
      return old !== undefined && isSame(old, block) ? old : block;
    });
    this.#inBuckets.set(kind, { version, blocks });
    return blocks;
  }

  /** Encodes each block when it is asked for. What is kept goes when no node loads any more. */
  *#lines({ head, blocks, after, held, onTaken }: SnapshotParts): Generator<Buffer, void, undefined> {
    this.#readers++;
    try {
      yield head;
      for (const block of blocks) {
        for (const line of this.#linesOf(block, held)) {
          onTaken();
          yield line;
        }
      }
      yield* after;
      yield encodeLine({ type: "snapshot-end" });
    } finally {
      if (--this.#readers === 0) this.#forget();
    }
  }

  /** The rows of the state as they are now, as all nodes may read them. Loops over the rows of the kinds that changed since the last session began. */
  #take(state: State): Snapshot {
    const before = this.#newest?.deref();
    const kinds: Snapshot["kinds"] = new Map(
      NODE_KINDS.map((kind) => {
        const known = before?.kinds.get(kind);
        const table = state[kind] as Rows<Kind>;
        const { version } = table;
        if (known?.table === table && known.version === version) return [kind, known];
        const rows = [...table.values()].map((row) => commonRow(kind, row));
        const blocks = blocksOf(kind, rows).map((block, i) => {
          const old = known?.blocks[i];
          return old !== undefined && isSame(old, block) ? old : block;
        });
        return [kind, { table, version, blocks }];
      }),
    );
    const snapshot = { kinds };
    this.#newest = new WeakRef(snapshot);
    return snapshot;
  }

  #linesOf(block: Block, held: ReadonlyMap<string, Service>): readonly Buffer[] {
    const { kind, rows } = block;
    if (kind === "services" && held.size > 0 && rows.some((row) => held.has((row as Service).id))) {
      const rowsWithSecrets = rows.map((row) => held.get((row as Service).id) ?? row);
      return encodeRows(kind, rowsWithSecrets);
    }
    const known = this.#encoded.get(block);
    if (known !== undefined) return known;
    const lines = inPieces(encodeRows(kind, rows));
    this.#encoded.set(block, lines);
    this.#bytes += bytesOf(lines);
    for (const [oldest, kept] of this.#encoded) {
      if (this.#bytes <= MAX_KEPT_BYTES) break;
      this.#encoded.delete(oldest);
      this.#bytes -= bytesOf(kept);
    }
    return lines;
  }

  #forget(): void {
    this.#encoded.clear();
    this.#inBuckets.clear();
    this.#bytes = 0;
  }
}

function bytesOf(lines: readonly Buffer[]): number {
  return lines.reduce((sum, { length }) => sum + length, 0);
}

/** The block without the rows that are withheld; the same one when none is. */
function seenOf(block: Block, lacking: Lacking, state: State): Block {
  const rows = block.rows.filter((row) => !lacking.hides(block.kind, row, state));
  return rows.length === block.rows.length ? block : { ...block, rows };
}

function blocksOf(kind: Kind, rows: readonly RowOf<Kind>[]): Block[] {
  const blocks: Block[] = [];
  let [first, bytes] = [0, 0];
  for (const [i, row] of rows.entries()) {
    if (kind === LARGE_ROWS) bytes += roughBytes(row);
    if (i + 1 < rows.length && i + 1 - first < BLOCK_ROWS && bytes < PIECE_BYTES) continue;
    blocks.push({ kind, rows: rows.slice(first, i + 1) });
    [first, bytes] = [i + 1, 0];
  }
  return blocks;
}

/** The lines, with several in one buffer where they are short. */
function inPieces(lines: readonly Buffer[]): Buffer[] {
  const pieces: Buffer[] = [];
  let [piece, bytes]: [Buffer[], number] = [[], 0];
  const end = (): void => {
    if (piece.length > 0) pieces.push(piece.length === 1 ? piece[0]! : Buffer.concat(piece));
    [piece, bytes] = [[], 0];
  };
  for (const line of lines) {
    if (bytes + line.length > PIECE_BYTES) end();
    piece.push(line);
    bytes += line.length;
  }
  end();
  return pieces;
}

function isSame(a: Block, b: Block): boolean {
  return a.rows.length === b.rows.length && a.rows.every((row, i) => row === b.rows[i]);
}
