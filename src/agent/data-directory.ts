// The data directory is for root alone: tasks' logs, credentials of registries and the cluster's state are in it.
import { chmod, lstat, mkdir, realpath } from "node:fs/promises";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

const OWNER_ONLY = 0o700;
const OTHERS = 0o077;

/** Makes the directory, or closes an existing one to other users. Throws PlatformError when another user owns it. */
export async function ownDataDirectory(path: string, log: Log): Promise<void> {
  await mkdir(path, { recursive: true, mode: OWNER_ONLY });
  const real = await realpath(path); // an operator may have put a link there
  const { uid, mode } = await lstat(real);
  if (uid !== process.geteuid?.()) {
    throw new PlatformError(`the data directory '${path}' belongs to user ${uid}`, `chown root:root ${real}`);
  }
  if ((mode & OTHERS) === 0) return;
  await chmod(real, OWNER_ONLY);
  log.warn("the data directory was open to other users; it is closed to them now", { path });
}
