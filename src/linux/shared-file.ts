// A file of fixed size mapped into memory and shared: what outlives the process that wrote it. It is allocated in full
// and its length checked before it is mapped, for touching a hole on a full disk, or beyond the end, is SIGBUS.
import { randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  renameSync,
  type Stats,
  statfsSync,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type Clock, systemClock } from "../lib/clock.ts";
import { counted } from "../lib/counted.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { type Log, silentLog } from "../lib/log.ts";
import * as libc from "./libc.ts";
import { moveAway } from "./own-directory.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;
const PERMISSIONS = 0o7777;
const OWNER_ONLY = 0o600;
/** The errors of open() for links, sockets and directories. */
const NO_REGULAR_FILE = ["ELOOP", "ENXIO", "EISDIR"];
const DAMAGED = ".damaged-";
const UNFINISHED = ".new";

export interface SharedFile {
  /** Where it is mapped: other threads of this process see it there by mappedBuffer(). */
  readonly address: number;
  /** Must not be touched after close(). */
  readonly buffer: ArrayBuffer;
  /** Whether it was made just now, all zero; false: it holds what an earlier process wrote. */
  readonly fresh: boolean;
  /** Unmaps; the file stays. */
  close(): void;
}

interface SharedFileOptions {
  log?: Log;
  clock?: Clock;
}

/**
 * Maps `path`, `bytes` long. A file that another user may have written is removed and made anew. One of another size is
 * renamed to `path.damaged-TIME`, the one set aside last being kept. Throws PlatformError when there is no room.
 */
export function openSharedFile(path: string, bytes: number, options: SharedFileOptions = {}): SharedFile {
  const { log = silentLog, clock = systemClock } = options;
  const existing = openExisting(path, bytes, log, clock);
  const fd = existing ?? create(path, bytes);
  try {
    if (existing !== undefined) allocate(fd, path, bytes);
    adviseTmpfs(path, log);
    const address = libc.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address === -1) throw libc.syscallError("mmap");
    return {
      address,
      buffer: libc.bufferAt(address, bytes),
      fresh: existing === undefined,
      close: () => libc.checked("munmap", libc.munmap(address, bytes)),
    };
  } finally {
    closeSync(fd); // the mapping holds the file
  }
}

/** What another thread has mapped at `address`, as this one sees it. Must not be touched once that is closed. */
export function mappedBuffer(address: number, bytes: number): ArrayBuffer {
  return libc.bufferAt(address, bytes);
}

/** Opens the file and maps it. undefined: there is none that may be used. */
function openExisting(path: string, bytes: number, log: Log, clock: Clock): number | undefined {
  const fd = openOwn(path, log);
  if (fd === undefined) return undefined;
  const { size } = fstatSync(fd);
  if (size === bytes) return fd;
  closeSync(fd);
  removeBeside(path, DAMAGED);
  const aside = `${path}${DAMAGED}${clock.now()}`;
  renameSync(path, aside);
  log.warn("a shared file has the wrong size; it is set aside and made anew", {
    path: aside,
    reason: `${counted(size, "byte")} instead of ${bytes}`,
  });
  return undefined;
}

/**
 * Opens a file that only this user can have written. Any other file is removed, and logged: the user who made it could
 * write into it, or cut it short, which ends this process with SIGBUS. undefined: there is no file now.
 */
function openOwn(path: string, log: Log): number | undefined {
  let fd: number | undefined;
  let fault: string | undefined;
  try {
    // Without O_NONBLOCK, opening a pipe would wait for its other end.
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    fault = faultOf(fstatSync(fd));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === undefined || !NO_REGULAR_FILE.includes(code)) throw error;
    fault = code === "ELOOP" ? "it is a symbolic link" : "it is no regular file";
  }
  if (fault === undefined) return fd;
  if (fd !== undefined) closeSync(fd);
  moveAway(path);
  log.warn("a shared file was not this agent's own; it is removed and made anew", { path, reason: fault });
  return undefined;
}

/** Why another user may have written the file, or may still write it. */
function faultOf(stats: Stats): string | undefined {
  if (!stats.isFile()) return "it is no regular file";
  if (stats.uid !== process.geteuid!()) return `it belongs to user ${stats.uid}`;
  if ((stats.mode & PERMISSIONS) !== OWNER_ONLY) return `its mode is ${(stats.mode & PERMISSIONS).toString(8)}`;
  return stats.nlink === 1 ? undefined : `it has ${stats.nlink} names`;
}

/** Moves away the files whose names begin with `path` and `suffix`. */
function removeBeside(path: string, suffix: string): void {
  if (!existsSync(dirname(path))) return;
  const prefix = `${basename(path)}${suffix}`;
  for (const name of readdirSync(dirname(path))) {
    if (name.startsWith(prefix)) moveAway(join(dirname(path), name));
  }
}

/** Makes the file under a name that no other user can foresee, then renames it, so that under its own name it is always whole. */
function create(path: string, bytes: number): number {
  removeBeside(path, UNFINISHED); // files of an agent that was killed
  const unfinished = `${path}${UNFINISHED}-${randomUUID()}`;
  const fd = openSync(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, OWNER_ONLY);
  try {
    allocate(fd, path, bytes);
    renameSync(unfinished, path);
  } catch (error) {
    closeSync(fd);
    unlinkSync(unfinished);
    throw error;
  }
  return fd;
}

/** Moves the file `from` to `to`, across file systems too, unless there is one already: then `from` is removed. */
export function bringOver(from: string, to: string, log: Log): void {
  let fd: number | undefined;
  try {
    fd = openOwn(from, log);
    if (fd === undefined) return;
    if (!existsSync(to)) {
      const unfinished = `${to}${UNFINISHED}-${randomUUID()}`;
      copyFileSync(`/proc/self/fd/${fd}`, unfinished, constants.COPYFILE_EXCL);
      renameSync(unfinished, to);
    }
  } catch (error) {
    log.warn("the flows of an older version could not be taken over", { path: from, reason: messageOf(error) });
  } finally {
    if (fd !== undefined) closeSync(fd);
    removeSharedFile(from);
  }
}

/** Removes the file, and all that was set aside or left unfinished beside it. */
export function removeSharedFile(path: string): void {
  for (const suffix of [DAMAGED, UNFINISHED]) removeBeside(path, suffix);
  moveAway(path);
}

function allocate(fd: number, path: string, bytes: number): void {
  const errno = libc.posixFallocate(fd, 0, bytes);
  if (errno === 0) return;
  const cause = libc.syscallError("posix_fallocate", errno);
  throw new PlatformError(`no room for ${path}, ${bytes} bytes: ${cause.message}`, `df -h ${dirname(path)}`, { cause });
}

/** Whether the path is on tmpfs; false when it does not exist. */
export function isOnTmpfs(path: string): boolean {
  try {
    return statfsSync(path).type === TMPFS_MAGIC;
  } catch {
    return false;
  }
}

function adviseTmpfs(path: string, log: Log): void {
  if (isOnTmpfs(path) || statfsSync(path).type === RAMFS_MAGIC) return;
  log.info("a shared file is not on tmpfs, so its pages are written to disk: /run or /dev/shm is the place", { path });
}
