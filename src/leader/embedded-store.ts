// The store of a cluster with one manager: LMDB on its disk, one synchronous transaction a commit. Rows are JSON under
// KIND/KEY; the head row carries the revision and how many rows there are.
import { mkdir, truncate } from "node:fs/promises";
import { dirname, join } from "node:path";
import { open, type RootDatabase } from "lmdb";
import { derivedIdentity } from "../cluster/identity.ts";
import { type Change, type ClusterIdentity, KINDS } from "../cluster/schema.ts";
import { changesTo, emptyState, type LiveState, parseChanges } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, PlatformError, UserError } from "../lib/errors.ts";
import { damagedPath, setAside } from "../lib/replace-file.ts";
import { TrustError } from "../trust/trust-error.ts";
import { lockDirectory, type Unlock } from "./directory-lock.ts";
import { DiskRoom, freeBytes } from "./disk-room.ts";
import { bytesInUse, fileLength, makeRoomToOpen, STORE_FILE } from "./lmdb-file.ts";
import { RowTexts } from "./row-texts.ts";
import { CannotLeadError, type Leadership, type Store, soleLeadership } from "./store.ts";

const HEAD_KEY = "head";
/** A put copies the pages from the root to its leaf; trees of this size are not deeper. */
const BYTES_PER_PUT = 4 * 4096;
const MOVED_MEND =
  "overlayctl cluster status shows the members; 'overlayctl cluster import FILE' begins again from an export";
const SEALED_MEND =
  "put this manager's DATADIR/identity back as it was beside the store, or run 'overlayctl cluster import FILE' on an empty data directory";
/** What stays free besides, for the free list and the head row. */
const RESERVE_BYTES = 128 * 1024;

interface Head {
  revision: number;
  rows: number;
  /** Left out by stores that were made before clusters had ids. */
  cluster?: ClusterIdentity;
  /** The state is in another store since: this file never leads again. */
  moved?: MovedTo;
}

/** What has the state now: the etcd of the managers, by the id of etcd's cluster, or another manager. */
export interface MovedTo {
  store: "etcd" | "manager";
  id: string;
  /** Which cluster the state is of. */
  cluster: ClusterIdentity;
}

export interface EmbeddedStore extends Store {
  /** Where the state went; undefined: it is here. */
  readonly moved: MovedTo | undefined;
  /** Gives the state away: durable when it resolves, and then this store never leads again. Throws as `commit` does. */
  giveAway(to: MovedTo): Promise<void>;
}

/**
 * Opens the store in `directory`, which is made when missing. `sealKey`: what seals secrets in it, see row-texts.ts. Throws PlatformError when another process has it, and
 * DamagedStoreError when the file is damaged: that is set aside then, and stays there until a person has decided.
 */
export async function openEmbeddedStore(directory: string, sealKey?: string): Promise<EmbeddedStore> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const unlock = await lockDirectory(directory);
  try {
    const rowTexts = new RowTexts(sealKey);
    return new LmdbStore({ directory, unlock, rowTexts, db: await openChecked(join(directory, STORE_FILE), rowTexts) });
  } catch (error) {
    await unlock();
    throw error;
  }
}

/** Whether there is a store, or one that was damaged. */
export async function hasStore(directory: string): Promise<boolean> {
  const path = join(directory, STORE_FILE);
  return (await fileLength(path)) !== undefined || (await fileLength(damagedPath(path))) !== undefined;
}

interface LmdbStoreOptions {
  directory: string;
  unlock: Unlock;
  db: RootDatabase<string, string>;
  rowTexts: RowTexts;
}

class LmdbStore implements EmbeddedStore {
  readonly #directory: string;
  readonly #unlock: Unlock;
  readonly #db: RootDatabase<string, string>;
  readonly #room: DiskRoom;
  readonly #rowTexts: RowTexts;
  #head: Head;

  constructor({ directory, unlock, db, rowTexts }: LmdbStoreOptions) {
    this.#rowTexts = rowTexts;
    this.#directory = directory;
    this.#unlock = unlock;
    this.#db = db;
    this.#room = new DiskRoom(directory);
    this.#head = readHead(db);
  }

  get moved(): MovedTo | undefined {
    return this.#head.moved;
  }

  async campaign(): Promise<Leadership> {
    if (this.moved !== undefined) throw new CannotLeadError(this.#whyGivenAway(this.moved), MOVED_MEND);
    return soleLeadership();
  }

  async load(): Promise<LiveState> {
    return readState(this.#db, this.#rowTexts);
  }

  async commit(changes: readonly Change[], revision: number): Promise<void> {
    this.#requireHere();
    const texts = changes.map(({ kind, row }) => (row === null ? null : this.#rowTexts.encode(kind, row)));
    const rowBytes = texts.reduce((sum, text) => sum + (text?.length ?? 0), 0);
    await this.#room.take(RESERVE_BYTES + rowBytes + changes.length * BYTES_PER_PUT);
    const head = { ...this.#head, revision };
    await this.#writeInBackground(head, () => {
      for (const [i, { kind, key }] of changes.entries()) {
        const [path, text] = [`${kind}/${key}`, texts[i] ?? null];
        const existed = this.#db.doesExist(path);
        if (text === null) this.#db.removeSync(path);
        else this.#db.putSync(path, text);
        head.rows += Number(text !== null) - Number(existed);
      }
    });
  }

  async identify(cluster: ClusterIdentity): Promise<void> {
    this.#requireHere();
    await this.#room.take(RESERVE_BYTES);
    this.#write({ ...this.#head, cluster }, () => {});
  }

  async fill(state: State): Promise<void> {
    const changes = changesTo(state);
    const texts = changes.map(({ kind, row }) => this.#rowTexts.encode(kind, row!));
    const bytes = texts.reduce((sum, text) => sum + text.length, 0);
    await this.#room.take(RESERVE_BYTES + bytes + changes.length * BYTES_PER_PUT);
    const { cluster, revision } = state;
    this.#write({ revision, rows: changes.length, ...(cluster === null ? {} : { cluster }) }, () => {
      for (const key of [...this.#db.getKeys()]) this.#db.removeSync(key);
      for (const [i, { kind, key }] of changes.entries()) this.#db.putSync(`${kind}/${key}`, texts[i]!);
    });
  }

  async giveAway(to: MovedTo): Promise<void> {
    this.#requireHere();
    await this.#room.take(RESERVE_BYTES);
    this.#write({ ...this.#head, moved: to }, () => {});
  }

  #requireHere(): void {
    if (this.moved !== undefined) throw new UserError(503, this.#whyGivenAway(this.moved));
  }

  #whyGivenAway({ store }: MovedTo): string {
    const where = store === "etcd" ? "the managers' etcd" : "another manager";
    return `the state that was in ${this.#directory} is with ${where} now`;
  }

  /** Does what `#write` does, while a thread of LMDB's waits for the disk: other work of this one goes on meanwhile. */
  async #writeInBackground(head: Head, put: () => void): Promise<void> {
    try {
      // A child's puts are undone when `put` throws; its parent has no others.
      await this.#db.childTransaction(() => {
        put();
        this.#db.putSync(HEAD_KEY, JSON.stringify(head));
      });
    } catch (error) {
      throw this.#writeFailed(await reasonOf(error));
    }
    this.#head = head;
  }

  /** One transaction; `put` may still change the head, which is written last. */
  #write(head: Head, put: () => void): void {
    try {
      this.#db.transactionSync(() => {
        put();
        this.#db.putSync(HEAD_KEY, JSON.stringify(head));
      });
    } catch (error) {
      throw this.#writeFailed(error);
    }
    this.#head = head;
  }

  #writeFailed(cause: unknown): UserError {
    return new UserError(507, `the store in ${this.#directory} cannot write: ${messageOf(cause)}`, { cause });
  }

  async close(): Promise<void> {
    await this.#db.close();
    await this.#unlock();
  }
}

/** LMDB's own reason for a transaction that failed in the background comes after the failure. */
async function reasonOf(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<never> };
  return commitError === undefined ? error : commitError.catch((reason: unknown) => reason);
}

async function openChecked(path: string, rowTexts: RowTexts): Promise<RootDatabase<string, string>> {
  const aside = damagedPath(path);
  if ((await fileLength(path)) === undefined && (await fileLength(aside)) !== undefined) {
    throw damaged(`the store ${path} was found damaged and set aside as ${aside}`, path, aside);
  }
  let db: RootDatabase<string, string> | undefined;
  try {
    await restoreLength(path);
    await makeRoomToOpen(path);
    db = open({ path, noSubdir: true, encoding: "string", overlappingSync: false, eventTurnBatching: false });
    verify(db, rowTexts, (await freeBytes(dirname(path))) >= RESERVE_BYTES);
    return db;
  } catch (error) {
    await db?.close();
    if (isSystemError(error))
      throw new PlatformError(`the store ${path} cannot be opened: ${messageOf(error)}`, `ls -l ${path}; df ${path}`, {
        cause: error,
      });
    // Whole, but not for this manager as it is.
    if (error instanceof TrustError)
      throw new CannotLeadError(`the store ${path}: ${error.message}`, SEALED_MEND, { cause: error });
    if (error instanceof PlatformError) throw error;
    await setAside(path);
    throw damaged(
      `the store ${path} is damaged and was set aside as ${aside}: ${messageOf(error)}`,
      path,
      aside,
      error,
    );
  }
}

class DamagedStoreError extends CannotLeadError {
  override name = "DamagedStoreError";
}

function damaged(what: string, path: string, aside: string, cause?: unknown): DamagedStoreError {
  const mend = `put a backup at ${path}, or remove ${aside} to begin with an empty cluster`;
  return new DamagedStoreError(what, mend, { cause });
}

/**
 * A page beyond the file's end is SIGBUS once mapped, so the file is first made as long as its header says. LMDB may
 * leave unused pages at the end unwritten; if a missing one was in use, this throws.
 */
async function restoreLength(path: string): Promise<void> {
  const length = await fileLength(path);
  if (!length) return; // LMDB makes the file, and writes its first pages after that
  const needed = await bytesInUse(path);
  if (length < needed) await truncate(path, needed);
}

/** Errors of the system carry its errno; LMDB's own, and those of what the file holds, do not. */
function isSystemError(error: unknown): boolean {
  const code = (error as { code?: unknown }).code;
  return typeof code === "string" || (typeof code === "number" && code > 0);
}

/** Reads every row and, with room, writes once: then both of LMDB's trees have been walked. Throws what is wrong. */
function verify(db: RootDatabase<string, string>, rowTexts: RowTexts, withWrite: boolean): void {
  const head = readHead(db);
  readState(db, rowTexts);
  if (withWrite) db.transactionSync(() => db.putSync(HEAD_KEY, JSON.stringify(head)));
}

function readHead(db: RootDatabase<string, string>): Head {
  const text = db.get(HEAD_KEY);
  return text === undefined ? { revision: 0, rows: 0 } : (JSON.parse(text) as Head);
}

function ofLaterVersion(kind: string): CannotLeadError {
  const what = `the store has rows of '${kind}', as a later version of overlayd writes them`;
  return new CannotLeadError(what, "update overlayd on this node");
}

function readState(db: RootDatabase<string, string>, rowTexts: RowTexts): LiveState {
  const head = readHead(db);
  const lines: unknown[] = [];
  for (const { key, value } of db.getRange()) {
    if (key === HEAD_KEY) continue;
    const slash = key.indexOf("/");
    const [kind, rowKey] = [key.slice(0, slash), key.slice(slash + 1)];
    if (!(KINDS as readonly string[]).includes(kind)) throw ofLaterVersion(kind);
    lines.push({ kind, key: rowKey, row: rowTexts.decode(kind, rowKey, value) });
  }
  if (lines.length !== head.rows)
    throw new Error(`it should have ${counted(head.rows, "row")} and has ${lines.length}`);
  const state = emptyState();
  state.apply(parseChanges(lines), head.revision);
  state.cluster = head.cluster ?? derivedIdentity(state);
  return state;
}
