// A directory in a place where other users may make files, such as /dev/shm: made or taken only when it is this user's.
import { randomUUID } from "node:crypto";
import { chmodSync, lstatSync, mkdirSync, renameSync, unlinkSync } from "node:fs";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

const GROUP_OR_OTHERS_WRITE = 0o022;
/** Another user may put a file there again right after the one before was moved away. */
const TRIES = 10;

/**
 * Makes `path`, or checks that it is this user's directory to which no other user writes. What another user put there is
 * moved away, and logged. Throws PlatformError when that does not help.
 */
export function makeOwnDirectory(path: string, mode: number, log: Log): void {
  for (let round = 0; round < TRIES; round++) {
    try {
      mkdirSync(path, { mode });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
        throw new PlatformError(`${path} cannot be made`, `ls -ld ${path}`, { cause: error });
      }
    }
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) continue;
    if (found.isDirectory() && found.uid === process.geteuid!()) {
      if ((found.mode & GROUP_OR_OTHERS_WRITE) !== 0) chmodSync(path, mode);
      return;
    }
    if (!moveAway(path)) continue;
    log.warn("another user's file was where this agent has its directory; it is moved away", {
      path,
      reason: `it belonged to user ${found.uid}`,
    });
  }
  throw new PlatformError(`another user makes ${path} again each time that it is moved away`, `ls -ld ${path}`);
}

/**
 * Removes the file. A directory gets another name instead, because another user may own its contents and exchange
 * them for links at any moment. Returns false when something else is there by now.
 */
export function moveAway(path: string): boolean {
  try {
    if (lstatSync(path).isDirectory()) renameSync(path, `${path}.foreign-${randomUUID()}`);
    else unlinkSync(path);
    return true;
  } catch {
    return false;
  }
}
