// Writes the store's file anew with nothing but its rows: pages that LMDB has freed keep what was in them, as registry
// credentials that an earlier version wrote in the clear.
import { open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { open as openLmdb } from "lmdb";
import { messageOf, UserError } from "../lib/errors.ts";
import { syncDirectory } from "../lib/replace-file.ts";
import { lockDirectory } from "./directory-lock.ts";
import { makeRoomToOpen, STORE_FILE } from "./lmdb-file.ts";

/** `directory`: that of a store that no process has open. Durable when it resolves. Throws UserError 507 when there is no room; then the store is as before. */
export async function rewriteStore(directory: string): Promise<void> {
  const path = join(directory, STORE_FILE);
  const unfinished = `${path}.new`;
  const unlock = await lockDirectory(directory);
  try {
    await rm(unfinished, { force: true });
    await makeRoomToOpen(path);
    const db = openLmdb({ path, noSubdir: true, readOnly: true });
    await db.backup(unfinished, true).finally(() => db.close());
    const file = await open(unfinished, "r+", 0o600);
    try {
      await file.chmod(0o600);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
    await syncDirectory(directory);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw new UserError(507, `the store ${path} cannot be written anew: ${messageOf(error)}`, { cause: error });
  } finally {
    await unlock();
  }
}
