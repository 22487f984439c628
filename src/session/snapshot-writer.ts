// Keeps this node's copy of the state on its disk: changes are collected and added to the file at most every few seconds, and
// when the agent stops. The file is written anew when what was added outgrows the snapshot at its head.
import { constants, open } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type { Change, ClusterIdentity } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { Backoff } from "../lib/backoff.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Turns } from "../lib/turns.ts";
import { encodeChanges, encodeHead, type FileEnd, LineEncoder, type StoredSnapshot } from "./snapshot-file.ts";

/** Between the beginnings of two writes. */
const WRITE_MS = 5000;
/** A disk that is full is tried less and less often. */
const LONGEST_RETRY_MS = 300_000;
/** So much may be added to the file of a small cluster. */
const LEAST_TAIL_BYTES = 64 * 1024;

interface SnapshotWriterOptions {
  path: string;
  clock: Clock;
  log: Log;
  /** The node's state, which is changed in place. */
  state: State;
}

/** What the file holds. */
interface Written {
  nodeId: string;
  cluster: ClusterIdentity | null;
  revision: number;
  end: FileEnd;
}

export class SnapshotWriter {
  readonly #options: SnapshotWriterOptions;
  readonly #turns = new Turns();
  readonly #backoff = new Backoff(WRITE_MS, LONGEST_RETRY_MS);
  #nodeId: string | undefined;
  /** undefined: the next write is of the whole file. */
  #written: Written | undefined;
  // BOUNDED: by the rows that change between two writes, empty while the next write is of the whole file; keyed by kind and key.
  readonly #changes = new Map<string, { change: Change; isNew: boolean }>();
  #isDue = false;
  #timer: Timer | undefined;
  /** No write begins before this time of the monotonic clock. */
  #notBefore = 0;

  constructor(options: SnapshotWriterOptions) {
    this.#options = options;
  }

  /** Takes over the file that the state was read from. */
  continue({ nodeId, state: { cluster, revision }, end }: StoredSnapshot): void {
    this.#nodeId = nodeId;
    this.#written = end && { nodeId, cluster, revision, end };
  }

  /** The state has changed by `changes`, or has another revision or identity. */
  changed(nodeId: string, changes: readonly AppliedChange[]): void {
    this.#nodeId = nodeId;
    if (this.#written?.nodeId !== nodeId || !isDeepStrictEqual(this.#written.cluster, this.#options.state.cluster)) {
      this.#writeAnew();
    }
    if (this.#written !== undefined) {
      for (const change of changes) this.#collect(change);
      if (this.#written.revision === this.#options.state.revision && this.#changes.size === 0) return;
    }
    this.#isDue = true;
    this.#schedule();
  }

  /** Writes what is not on disk yet, and resolves when nothing is being written. */
  async stop(): Promise<void> {
    this.#timer?.cancel();
    await this.#turns.run(() => this.#write());
    this.#timer?.cancel();
  }

  /** The last change of each row counts; nothing is left of a row that came and went. */
  #collect({ before, ...change }: AppliedChange): void {
    const place = `${change.kind}/${change.key}`;
    const isNew = this.#changes.get(place)?.isNew ?? before === undefined;
    if (isNew && change.row === null) this.#changes.delete(place);
    else this.#changes.set(place, { change: change as Change, isNew });
  }

  #schedule(): void {
    const { clock } = this.#options;
    this.#timer ??= clock.after(this.#notBefore - clock.monotonic(), () => {
      this.#timer = undefined;
      void this.#turns.run(() => this.#write());
    });
  }

  async #write(): Promise<void> {
    if (!this.#isDue) return;
    const { clock, log, path } = this.#options;
    this.#isDue = false;
    this.#notBefore = clock.monotonic() + WRITE_MS;
    try {
      if (this.#written === undefined || !(await this.#append(this.#written))) await this.#replace();
      this.#backoff.succeeded();
    } catch (error) {
      log.error("the snapshot cannot be written", { path, err: error });
      this.#writeAnew();
      this.#isDue = true;
      this.#notBefore = clock.monotonic() + this.#backoff.failed();
      this.#timer?.cancel();
      this.#timer = undefined;
      this.#schedule();
    }
  }

  #writeAnew(): void {
    this.#written = undefined;
    this.#changes.clear();
  }

  /** Adds what has changed to the file. False: it is to be written anew. */
  async #append(written: Written): Promise<boolean> {
    const { revision } = this.#options.state;
    const { bytes, headBytes, checksum } = written.end;
    const encoder = new LineEncoder(checksum);
    const changes = [...this.#changes.values()].map(({ change }) => change);
    const line = encodeChanges({ after: written.revision, revision }, changes, encoder);
    this.#changes.clear();
    const end = { bytes: bytes + line.length, headBytes, checksum: encoder.checksum };
    if (end.bytes - headBytes > Math.max(headBytes, LEAST_TAIL_BYTES)) return false;
    if (!(await appendAt(this.#options.path, bytes, line))) return false;
    // Something else may have asked for a new file meanwhile.
    if (this.#written === written) this.#written = { ...written, revision, end };
    return true;
  }

  /** Writes the file anew. Takes time in proportion to the state, and leaves the thread to others after each piece of it. */
  async #replace(): Promise<void> {
    const { path, state } = this.#options;
    const { cluster, revision } = state;
    const nodeId = this.#nodeId!;
    const encoder = new LineEncoder();
    const head = encodeHead(nodeId, state, encoder);
    // From here changes are collected that go after this head.
    const written = { nodeId, cluster, revision, end: { bytes: 0, headBytes: 0, checksum: 0 } };
    this.#written = written;
    this.#changes.clear();
    await replaceFile(path, head);
    const { bytes, checksum } = encoder;
    if (this.#written === written) this.#written = { ...written, end: { bytes, headBytes: bytes, checksum } };
  }
}

/** Puts the line after the file's first `bytes` bytes, in the place of what a write that broke off has left there. False when the file is shorter. */
async function appendAt(path: string, bytes: number, line: Buffer): Promise<boolean> {
  const file = await open(path, constants.O_WRONLY | constants.O_APPEND).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) return false;
  try {
    const { size } = await file.stat();
    if (size < bytes) return false;
    await file.truncate(bytes);
    await file.writeFile(line);
    await file.datasync();
    return true;
  } finally {
    await file.close();
  }
}
