// A node's copy of the state on its disk, as the stream that brought it: the head with the node and a snapshot, then lines
// of changes as they came. Each line has a checksum that goes on from the one before, so that a line that is damaged, missing
// or was not written to its end is found, and all before it is right.
//   overlayd-snapshot-2
//   CRC32 {"type":"node", ...}
//   CRC32 {"type":"snapshot" ...}, rows, snapshot-end: as in cluster/protocol.ts
//   CRC32 {"type":"changes", ...}
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { MAX_ROWS, StreamLine, type StreamMessage } from "../cluster/protocol.ts";
import { type Change, Id, type Kind, NODE_KINDS, type RowOf } from "../cluster/schema.ts";
import { commonRow } from "../cluster/secret-rows.ts";
import { checkedRow, type LiveState, schemaDigest, stateFromJson, uncheckedRow } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { counted } from "../lib/counted.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { setAside } from "../lib/replace-file.ts";
import { changesFrom, countRows, IncomingSnapshot } from "./snapshot-stream.ts";

const FORMAT = "overlayd-snapshot-2";
/** One line with the format, length and SHA-256 of the JSON that follows. It is read, and not written any more. */
const EARLIER_FORMAT = "overlayd-snapshot-1";
const CHECKSUM_CHARACTERS = 8;
/** A line of rows with so many is full. */
const LINE_CHARACTERS = 64 * 1024;
const NEWLINE = 0x0a;

/** `schema`: see schemaDigest(). Rows of the same one are read without a check: it would take most of the time of a start. */
const NodeLine = z.object({ type: z.literal("node"), nodeId: Id, schema: z.string() });
const EarlierContent = z.object({ nodeId: Id, state: z.unknown() });

export interface Snapshot {
  /** The node that it was taken on. */
  nodeId: string;
  state: LiveState;
}

/** Where a file's last good line ends: there the next one goes. */
export interface FileEnd {
  bytes: number;
  /** Bytes of the file's head. */
  headBytes: number;
  checksum: number;
}

export interface StoredSnapshot extends Snapshot {
  /** undefined: nothing can be added to the file, which has an earlier format or rows of another form. */
  end: FileEnd | undefined;
}

/** undefined when there is none. A damaged one is set aside as PATH.damaged, and logged. */
export async function readSnapshot(path: string, log: Log): Promise<StoredSnapshot | undefined> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return formatOf(bytes) === EARLIER_FORMAT ? decodeEarlier(bytes) : decode(bytes, path, log);
  } catch (error) {
    const aside = await setAside(path);
    log.error(`the snapshot is damaged and was set aside as ${aside}`, { path, reason: messageOf(error) });
    return undefined;
  }
}

/** Encodes lines of one file, whose checksums go on from each other. */
export class LineEncoder {
  #checksum: number;
  #bytes = 0;

  constructor(checksum = 0) {
    this.#checksum = checksum;
  }

  /** Bytes encoded so far. */
  get bytes(): number {
    return this.#bytes;
  }

  get checksum(): number {
    return this.#checksum;
  }

  encode(message: StreamMessage | z.infer<typeof NodeLine>): Buffer {
    return this.encodeJson(JSON.stringify(message));
  }

  encodeJson(json: string): Buffer {
    this.#checksum = crc32(json, this.#checksum);
    const line = Buffer.from(`${hexOf(this.#checksum)} ${json}\n`);
    this.#bytes += line.length;
    return line;
  }

  /** The first line. */
  format(): Buffer {
    const line = Buffer.from(`${FORMAT}\n`);
    this.#bytes += line.length;
    return line;
  }
}

/** The head of a file with the state as it is now: it may change while the lines are taken. */
export function encodeHead(
  nodeId: string,
  state: State,
  encoder: LineEncoder,
  schema = schemaDigest(),
): Iterable<Buffer> {
  const { revision, cluster } = state;
  const rows = countRows(state);
  const tables = NODE_KINDS.map((kind) => ({
    kind,
    rows: [...(state[kind].values() as Iterable<RowOf<Kind>>)].map((row) => commonRow(kind, row)),
  }));
  return (function* () {
    yield encoder.format();
    yield encoder.encode({ type: "node", nodeId, schema });
    yield encoder.encode({ type: "snapshot", revision, cluster, rows });
    for (const table of tables) {
      for (const lines of rowsLines(table.kind, table.rows)) yield encoder.encodeJson(lines);
    }
    yield encoder.encode({ type: "snapshot-end" });
  })();
}

/** Lines of a few rows each: some rows have megabytes. */
function* rowsLines(kind: Kind, rows: readonly RowOf<Kind>[]): Generator<string> {
  let encoded: string[] = [];
  let characters = 0;
  const take = (): string => {
    const line = `{"type":"rows","kind":"${kind}","rows":[${encoded.join(",")}]}`;
    [encoded, characters] = [[], 0];
    return line;
  };
  for (const row of rows) {
    const json = JSON.stringify(row);
    encoded.push(json);
    characters += json.length;
    if (encoded.length === MAX_ROWS || characters >= LINE_CHARACTERS) yield take();
  }
  if (encoded.length > 0) yield take();
}

/** The line that brings a state at revision `after` to `revision`. */
export function encodeChanges(
  revisions: { after: number; revision: number },
  changes: readonly Change[],
  encoder: LineEncoder,
): Buffer {
  const open = changes.map(
    (change) => ({ ...change, row: change.row && commonRow(change.kind, change.row) }) as Change,
  );
  return encoder.encode({ type: "changes", ...revisions, changes: open });
}

function decode(bytes: Buffer, path: string, log: Log): StoredSnapshot {
  if (formatOf(bytes) !== FORMAT) throw new Error("it does not begin as a snapshot");
  const lines = new LineReader(bytes, FORMAT.length + 1);
  const { nodeId, schema } = NodeLine.parse(lines.next());
  const isOwn = schema === schemaDigest();
  const rowOf = isOwn ? uncheckedRow : checkedRow;
  const state = decodeHead(lines, rowOf);
  const headBytes = lines.offset;
  while (!lines.isAtEnd) {
    const { offset, checksum } = lines;
    try {
      const line = StreamLine.parse(lines.next());
      if (line.type !== "changes") throw new Error(`it has a line '${line.type}' after its snapshot`);
      state.apply(changesFrom(state, line, rowOf), line.revision);
    } catch (error) {
      const count = bytes.length - offset;
      const fields = { path, count, revision: state.revision, reason: messageOf(error) };
      log.warn("the last bytes of the snapshot cannot be used and are cut off", fields);
      return { nodeId, state, end: isOwn ? { bytes: offset, headBytes, checksum } : undefined };
    }
  }
  return { nodeId, state, end: isOwn ? { bytes: lines.offset, headBytes, checksum: lines.checksum } : undefined };
}

function decodeHead(lines: LineReader, rowOf: typeof checkedRow): LiveState {
  const first = StreamLine.parse(lines.next());
  if (first.type !== "snapshot") throw new Error(`it begins with a line '${first.type}'`);
  const snapshot = new IncomingSnapshot(first, undefined, rowOf);
  for (;;) {
    const line = StreamLine.parse(lines.next());
    if (line.type === "snapshot-end") return snapshot.finish();
    if (line.type !== "rows") throw new Error(`it has a line '${line.type}' in its snapshot`);
    snapshot.add(line.kind, line.rows);
  }
}

/** The lines of a file, one after the other. */
class LineReader {
  readonly #bytes: Buffer;
  #offset: number;
  #checksum = 0;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.#offset = offset;
  }

  /** Where the next line begins. */
  get offset(): number {
    return this.#offset;
  }

  /** That of the last line. */
  get checksum(): number {
    return this.#checksum;
  }

  get isAtEnd(): boolean {
    return this.#offset === this.#bytes.length;
  }

  /** The JSON of the next line. Throws Error when it is damaged or not there. */
  next(): unknown {
    const end = this.#bytes.indexOf(NEWLINE, this.#offset);
    if (end < 0) throw new Error(this.isAtEnd ? "it ends before its snapshot does" : "its last line is not whole");
    const json = this.#bytes.subarray(this.#offset + CHECKSUM_CHARACTERS + 1, end);
    const checksum = crc32(json, this.#checksum);
    const written = this.#bytes.toString("latin1", this.#offset, this.#offset + CHECKSUM_CHARACTERS);
    if (hexOf(checksum) !== written) throw new Error("the checksum of a line is wrong");
    const message: unknown = JSON.parse(json.toString());
    this.#checksum = checksum;
    this.#offset = end + 1;
    return message;
  }
}

function hexOf(checksum: number): string {
  return checksum.toString(16).padStart(CHECKSUM_CHARACTERS, "0");
}

/** The first word of the file. */
function formatOf(bytes: Buffer): string {
  return bytes.toString("latin1", 0, FORMAT.length);
}

function decodeEarlier(bytes: Buffer): StoredSnapshot {
  const end = bytes.indexOf(NEWLINE);
  const [, length, digest] = bytes.subarray(0, Math.max(0, end)).toString().split(" ");
  const body = bytes.subarray(end + 1);
  if (body.length !== Number(length)) throw new Error(`it has ${counted(body.length, "byte")} of ${length}`);
  if (createHash("sha256").update(body).digest("hex") !== digest) throw new Error("its checksum is wrong");
  const { nodeId, state } = EarlierContent.parse(JSON.parse(body.toString()));
  return { nodeId, state: stateFromJson(state), end: undefined };
}
