// Pins of bpf(2): a map, program or tcx link that a path in a bpf file system keeps alive, also beyond the process. unlink(2)
// of the path ends that a little later; endTcxLink() takes a program off at once.
import { readlinkSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { BpfRequest, bpfError, roomFor } from "./bpf-request.ts";
import * as libc from "./libc.ts";

const BPF_FS_MAGIC = 0xcafe4a11;

/** What can be pinned, as /proc/self/fd has it of a descriptor. */
const KINDS = { map: "map", program: "prog", link: "link" } as const;
const KIND_OF_DESCRIPTOR = /^anon_inode:bpf[-_](\w+)$/;

/** Whether the path is in a bpf file system. Throws ENOENT when there is no such path. */
export function isOnBpffs(path: string): boolean {
  return statfsSync(path).type === BPF_FS_MAGIC;
}

/** Pins what is behind `fd` at `path`, which must not exist, in a directory of a bpf file system. Throws SyscallError. */
export function pin(fd: number, path: string): void {
  const request = new BpfRequest(roomFor(path)).u32(8, fd);
  request.pointToText(0, path);
  if (request.try("BPF_OBJ_PIN") >= 0) return;
  const errno = libc.errno();
  const directory = dirname(path);
  const isElsewhere = errno === libc.Errno.NotPermitted && !isOnBpffs(directory);
  throw bpfError("BPF_OBJ_PIN", path, errno, isElsewhere ? `${directory} is in no bpf file system` : "");
}

/**
 * Opens what is pinned at `path`, and returns its descriptor; undefined: nothing is. Throws SyscallError, and TypeError when
 * it is of another kind.
 */
export function openPin(path: string, kind: keyof typeof KINDS): number | undefined {
  const request = new BpfRequest(roomFor(path));
  request.pointToText(0, path);
  const fd = request.try("BPF_OBJ_GET");
  if (fd < 0) {
    const errno = libc.errno();
    if (errno === libc.Errno.NoEntry) return undefined;
    throw bpfError("BPF_OBJ_GET", path, errno);
  }
  const found = readlinkSync(`/proc/self/fd/${fd}`);
  if (KIND_OF_DESCRIPTOR.exec(found)?.[1] === KINDS[kind]) return fd;
  libc.close(fd);
  throw new TypeError(`what is pinned at ${path} is no ${kind} but '${found}'`);
}
