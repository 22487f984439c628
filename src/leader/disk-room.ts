// The room on a store's disk. The file system is asked again only when what was written since may have used it up.
import { statfs } from "node:fs/promises";
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";

/** With less room than this the file system is asked before each commit. */
const ASK_BELOW_BYTES = 64 * 1024 * 1024;

export class DiskRoom {
  readonly #directory: string;
  /** What was free when the file system was asked, less what was written since. */
  #freeBytes = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Sets `bytes` aside for a commit. Throws UserError 507 when they are not there. Another process may use the room
   * meanwhile; then the commit itself fails.
   */
  async take(bytes: number): Promise<void> {
    if (this.#freeBytes - bytes < ASK_BELOW_BYTES) this.#freeBytes = await freeBytes(this.#directory);
    if (this.#freeBytes < bytes) {
      throw new UserError(
        507,
        `the disk of ${this.#directory} is full: ${counted(this.#freeBytes, "byte is", "bytes are")} free and the change needs ${bytes}; nothing was changed`,
      );
    }
    this.#freeBytes -= bytes;
  }
}

/** A file system without a size of its own says 0 blocks; there the store's own error has to do. */
export async function freeBytes(directory: string): Promise<number> {
  const { blocks, bavail, bsize } = await statfs(directory);
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}
