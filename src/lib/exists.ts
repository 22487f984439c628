// Whether a path is there.
import { access } from "node:fs/promises";

/** Whether this process finds something at `path`. */
export async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
