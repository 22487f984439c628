// Files that are replaced as a whole: a reader finds the old content or the new one, also after a power failure.
import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

type Piece = string | Uint8Array;
type FileContent = Piece | Iterable<Piece> | AsyncIterable<Piece>;

/**
 * Writes PATH.new and renames it to PATH. The file is durable when this resolves, and only its owner may read it. Two calls
 * for one path may not overlap.
 */
export async function replaceFile(path: string, content: FileContent): Promise<void> {
  const unfinished = `${path}.new`;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  try {
    const file = await open(unfinished, "w", 0o600);
    try {
      await writeFile(file, content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true }); // on a full disk it would keep the room
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Renames a damaged file to PATH.damaged, in the place of an earlier one. Returns the new path. */
export async function setAside(path: string): Promise<string> {
  const aside = damagedPath(path);
  await rename(path, aside);
  return aside;
}

/** The path to which `setAside` moves a file. */
export function damagedPath(path: string): string {
  return `${path}.damaged`;
}

/** Makes the names of a directory's files durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
