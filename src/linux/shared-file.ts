// A file of fixed size mapped into memory and shared: what outlives the process that wrote it. It is allocated in full
// and its length checked before it is mapped, for touching a hole on a full disk, or beyond the end, is SIGBUS.
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  unlinkSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { type Clock, systemClock } from "../lib/clock.ts";
import { PlatformError } from "../lib/errors.ts";
import { type Log, silentLog } from "../lib/log.ts";
import * as libc from "./libc.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

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

export interface SharedFileOptions {
  log?: Log;
  clock?: Clock;
}

/**
 * Maps `path`, `bytes` long. A file of another size is renamed to `path.damaged-TIME`, the one set aside last being
 * kept, and a new one made. Throws PlatformError when there is no room.
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

function openExisting(path: string, bytes: number, log: Log, clock: Clock): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const { size } = fstatSync(fd);
  if (size === bytes) return fd;
  closeSync(fd);
  removeSetAside(path);
  const aside = `${path}.damaged-${clock.now()}`;
  renameSync(path, aside);
  log.warn("a shared file has the wrong size; it is set aside and made anew", {
    path: aside,
    reason: `${size} bytes instead of ${bytes}`,
  });
  return undefined;
}

function removeSetAside(path: string): void {
  const prefix = `${basename(path)}.damaged-`;
  for (const name of readdirSync(dirname(path))) {
    if (name.startsWith(prefix)) rmSync(join(dirname(path), name));
  }
}

/** Made under another name first, so that under its own it is always whole. */
function create(path: string, bytes: number): number {
  const unfinished = `${path}.new`;
  const fd = openSync(unfinished, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
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

function allocate(fd: number, path: string, bytes: number): void {
  const errno = libc.posixFallocate(fd, 0, bytes);
  if (errno === 0) return;
  const cause = libc.syscallError("posix_fallocate", errno);
  throw new PlatformError(`no room for ${path}, ${bytes} bytes: ${cause.message}`, `df -h ${dirname(path)}`, { cause });
}

function adviseTmpfs(path: string, log: Log): void {
  const { type } = statfsSync(path);
  if (type === TMPFS_MAGIC || type === RAMFS_MAGIC) return;
  log.info("a shared file is not on tmpfs, so its pages are written to disk: /run or /dev/shm is the place", { path });
}
