// Which process is at the other end of a unix socket, unix(7): the kernel says it, not the process.
import * as libc from "./libc.ts";
import { Level } from "./sockets.ts";

const SO_PEERCRED = 17;
const UCRED_BYTES = 12; // pid, uid, gid

interface SocketPeer {
  /** 0 in another pid namespace. */
  pid: number;
  user: number;
}

/** The process that connected, or that listens; undefined: the descriptor is of no such socket. */
export function peerOfSocket(fd: number): SocketPeer | undefined {
  const credentials = Buffer.alloc(UCRED_BYTES);
  const length = Buffer.from(Uint32Array.of(UCRED_BYTES).buffer);
  if (libc.getsockopt(fd, Level.Socket, SO_PEERCRED, credentials, length) < 0) return undefined;
  return { pid: credentials.readInt32LE(0), user: credentials.readInt32LE(4) };
}
