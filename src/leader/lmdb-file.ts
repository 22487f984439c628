// The header of an LMDB file (version 2, as the lmdb package writes it), read without mapping it: pages 0 and 1 each
// hold a meta record, and the one with the higher transaction id is in force.
import { open, stat } from "node:fs/promises";

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

/** undefined when there is no such file. */
export async function fileLength(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** How long the file must be for all its pages. Throws when it is no LMDB file. */
export async function bytesInUse(path: string): Promise<number> {
  const file = await open(path, "r");
  try {
    let latest = { transaction: -1n, bytes: 0 };
    for (const offset of META_OFFSETS) {
      const meta = Buffer.alloc(META_BYTES);
      const { bytesRead } = await file.read(meta, 0, META_BYTES, offset);
      if (bytesRead < META_BYTES) throw new Error("it is cut short within its header");
      if (meta.readUInt32LE(MAGIC_AT) !== MAGIC || meta.readUInt32LE(VERSION_AT) !== VERSION) {
        throw new Error("its header is not that of a store");
      }
      const transaction = meta.readBigUInt64LE(TRANSACTION_AT);
      const bytes = (Number(meta.readBigUInt64LE(LAST_PAGE_AT)) + 1) * meta.readUInt32LE(PAGE_BYTES_AT);
      if (transaction > latest.transaction) latest = { transaction, bytes };
    }
    return latest.bytes;
  } finally {
    await file.close();
  }
}
