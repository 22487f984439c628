// LMDB's files, as far as they are looked at before LMDB maps them: a mapped page that is not there ends the process.
// The header (version 2, as the lmdb package writes it) is pages 0 and 1: each holds a meta record, and the one with the higher
// transaction id is in force.
import { constants } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { counted } from "../lib/counted.ts";
import { PlatformError } from "../lib/errors.ts";
import { freeBytes } from "./disk-room.ts";
import { ROOTS_AT, requirePages } from "./lmdb-pages.ts";

/** The name of the store's file in its directory. */
export const STORE_FILE = "state.mdb";

const META_OFFSETS = [0, 4096];
const META_BYTES = 160;
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;
const VERSION_AT = 28;
const VERSION = 2;
const PAGE_BYTES_AT = 48;
const LAST_PAGE_AT = 144;
const TRANSACTION_AT = 152;
/** The lock file, with places for LMDB's 126 readers. */
const LOCK_BYTES = 8272;
/** More than LMDB writes when it makes a store. */
const NEW_STORE_BYTES = 64 * 1024;

/** undefined when there is no such file. */
export async function fileLength(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/**
 * How long the file must be for all its pages: a missing one, which nothing uses, may be at its end. Throws when it is no LMDB file, or a
 * page that is in use is missing.
 */
export async function bytesInUse(path: string): Promise<number> {
  const file = await open(path, "r");
  try {
    let latest = { transaction: -1n, bytes: 0, pageBytes: 0, roots: [] as bigint[] };
    for (const offset of META_OFFSETS) {
      const meta = Buffer.alloc(META_BYTES);
      const { bytesRead } = await file.read(meta, 0, META_BYTES, offset);
      if (bytesRead < META_BYTES) throw new Error("it is cut short within its header");
      if (meta.readUInt32LE(MAGIC_AT) !== MAGIC || meta.readUInt32LE(VERSION_AT) !== VERSION) {
        throw new Error("its header is not that of a store");
      }
      const transaction = meta.readBigUInt64LE(TRANSACTION_AT);
      const pageBytes = meta.readUInt32LE(PAGE_BYTES_AT);
      const bytes = (Number(meta.readBigUInt64LE(LAST_PAGE_AT)) + 1) * pageBytes;
      const roots = ROOTS_AT.map((at) => meta.readBigUInt64LE(at));
      if (transaction > latest.transaction) latest = { transaction, bytes, pageBytes, roots };
    }
    const { bytes, pageBytes, roots } = latest;
    const { size } = await file.stat();
    if (size < bytes) await requirePages({ file, pageBytes, length: size }, roots);
    return bytes;
  } finally {
    await file.close();
  }
}

/**
 * Makes room for what LMDB writes when it opens the store at `path`. LMDB writes to its lock file through a mapping, and a
 * full disk would end the process there (SIGBUS), as it does when a new store cannot be written. Throws PlatformError when
 * a new store has no room, and the system's error when the lock file has none.
 */
export async function makeRoomToOpen(path: string): Promise<void> {
  const directory = dirname(path);
  const free = (await fileLength(path)) ? NEW_STORE_BYTES : await freeBytes(directory);
  if (free < NEW_STORE_BYTES) {
    const what = `the disk is full: ${counted(free, "byte is", "bytes are")} free and a new one needs ${NEW_STORE_BYTES}`;
    throw new PlatformError(`the store ${path} cannot be opened: ${what}`, `df ${directory}`);
  }
  const lock = await open(`${path}-lock`, constants.O_RDWR | constants.O_CREAT, 0o600);
  await allocate(lock).finally(() => lock.close());
}

/** LMDB writes the lock file anew when no process has it open, so what was in it does not count. */
async function allocate(lock: FileHandle): Promise<void> {
  if ((await lock.stat()).blocks > 0) return;
  try {
    await lock.writeFile(Buffer.alloc(LOCK_BYTES));
  } catch (error) {
    await lock.truncate(0); // a part of it would count as the whole
    throw error;
  }
}
