// A lock on a device: an abstract Unix socket, whose names each network namespace has for itself, as it has its
// devices. The kernel lets a second process attach to a TUN silently; this refuses it. Gone with its process.
import { PlatformError } from "../lib/errors.ts";
import * as libc from "./libc.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0x80000;
const SOCK_NONBLOCK = 0x800;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const UCRED_BYTES = 12; // pid, uid, gid
/** So many refused processes learn our pid: their connections are never accepted. */
const REFUSALS = 128;

export interface DeviceLock {
  release(): void;
}

/** Takes the lock for as long as this process lives or until release(). Throws PlatformError naming who holds it. */
export function lockDevice(device: string): DeviceLock {
  const fd = libc.checked("socket", libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  try {
    const name = socketName(device);
    if (libc.bind(fd, name, name.length) < 0) {
      if (libc.errno() !== libc.Errno.AddressInUse) throw libc.syscallError("bind");
      throw heldBy(device, holder(name));
    }
    libc.checked("listen", libc.listen(fd, REFUSALS)); // records our pid for whoever connects
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return {
    release() {
      libc.close(fd);
    },
  };
}

function socketName(device: string): Uint8Array {
  const path = Buffer.from(`\0overlayd:${device}`, "latin1");
  return Buffer.concat([Uint8Array.of(AF_UNIX, 0), path]);
}

function heldBy(device: string, pid: number): PlatformError {
  const who = pid === 0 ? "another process" : `process ${pid}`;
  const mend = pid === 0 ? `ss -xlp | grep overlayd:${device}` : `ps -fp ${pid}`;
  return new PlatformError(`another agent, ${who}, serves ${device} in this network namespace`, mend);
}

/** The pid of the lock's holder; 0 when it went meanwhile or is not to be seen from our pid namespace. */
function holder(name: Uint8Array): number {
  const fd = libc.checked("socket", libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  try {
    if (libc.connect(fd, name, name.length) < 0) return 0;
    const credentials = Buffer.alloc(UCRED_BYTES);
    const length = Buffer.from(Uint32Array.of(UCRED_BYTES).buffer);
    if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length) < 0) return 0;
    return credentials.readInt32LE(0);
  } finally {
    libc.close(fd);
  }
}
