// A lock on a device of this network namespace. The kernel lets a second process attach to a TUN silently; this refuses
// it. Two guards, both gone with their process: flock(2) on a file, which agents of one mount namespace see, and an
// abstract Unix socket, which agents of one network namespace see, containers on the host's network among them.
// Any user may take the socket's name, so one that is not this user's is no lock.
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { PlatformError } from "../lib/errors.ts";
import { type Log, silentLog } from "../lib/log.ts";
import * as libc from "./libc.ts";
import { makeOwnDirectory } from "./own-directory.ts";
import { peerOfSocket } from "./socket-peer.ts";
import { Family, openSocket, SocketType } from "./sockets.ts";

const LOCK_EX_NB = 2 | 4;
/** Connections by which other processes learn our pid and user. They are taken off the queue each DRAIN_MS. */
const MOST_CONNECTIONS = 128;
const DRAIN_MS = 500;
/** An owner that does not listen yet, or whose queue is full, is asked again for three seconds. */
const TRIES = 60;
const TRY_MS = 50;
const DIRECTORY = "/run/overlayd";

export interface DeviceLock {
  release(): void;
}

/** Takes the lock until release() or the end of this process. Throws PlatformError that names the process that holds it. */
export function lockDevice(device: string, log: Log = silentLog): DeviceLock {
  const file = lockFile(device, log);
  try {
    const socket = holdName(device, log);
    return {
      release() {
        socket?.release();
        file.release();
      },
    };
  } catch (error) {
    file.release();
    throw error;
  }
}

/** The file's name has the network namespace in it, because each has its own devices. */
function lockFile(device: string, log: Log): DeviceLock {
  makeOwnDirectory(DIRECTORY, 0o755, log);
  const path = `${DIRECTORY}/${device}-${statSync("/proc/self/ns/net").ino}.lock`;
  for (;;) {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
    if (libc.flock(fd, LOCK_EX_NB) < 0) {
      const holder = Number.parseInt(readFileSync(fd, "utf8"), 10) || 0;
      closeSync(fd);
      throw heldBy(device, holder, `lslocks | grep ${path}`);
    }
    // The agent that had the lock may have removed the file after it was opened here: then the file locks no agent out.
    if (statSync(path, { throwIfNoEntry: false })?.ino !== fstatSync(fd).ino) {
      closeSync(fd);
      continue;
    }
    writeFileSync(fd, `${process.pid}\n`);
    return {
      release() {
        unlinkSync(path);
        closeSync(fd);
      },
    };
  }
}

/** Takes the socket's name. undefined: another user has it, so that the file alone is the lock. */
function holdName(device: string, log: Log): DeviceLock | undefined {
  const name = socketName(device);
  for (let round = 0; ; round++) {
    const fd = openSocket(Family.Unix, SocketType.Stream);
    if (libc.bind(fd, name, name.length) === 0) return listenOn(fd);
    const isTaken = libc.errno() === libc.Errno.AddressInUse;
    const error = libc.syscallError("bind");
    libc.close(fd);
    if (!isTaken) throw error;
    const owner = ownerOf(name);
    if (owner?.user === process.geteuid!()) throw heldBy(device, owner.pid, `ss -xlp | grep overlayd:${device}`);
    if (owner !== undefined || round === TRIES) {
      log.warn("another user has taken the name of this agent's lock; agents in other containers are not kept out", {
        link: device,
        reason: owner === undefined ? "the owner of its socket is not known" : `user ${owner.user}`,
      });
      return undefined;
    }
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, TRY_MS);
  }
}

function listenOn(fd: number): DeviceLock {
  libc.listen(fd, MOST_CONNECTIONS); // the kernel records our pid and user for a process that connects
  const drain = setInterval(() => {
    for (let i = 0; i < MOST_CONNECTIONS; i++) {
      const asker = libc.accept(fd, 0, 0);
      if (asker < 0) return;
      libc.close(asker);
    }
  }, DRAIN_MS);
  drain.unref();
  return {
    release() {
      clearInterval(drain);
      libc.close(fd);
    },
  };
}

function socketName(device: string): Uint8Array {
  const path = Buffer.from(`\0overlayd:${device}`, "latin1");
  return Buffer.concat([Uint8Array.of(Family.Unix, 0), path]);
}

function heldBy(device: string, pid: number, mend: string): PlatformError {
  const who = pid === 0 ? "another process" : `process ${pid}`;
  const text = `another agent, ${who}, serves ${device} in this network namespace`;
  return new PlatformError(text, pid === 0 ? mend : `ps -fp ${pid}`);
}

/** The owner of the socket with this name; its pid is 0 in another pid namespace. undefined: it went meanwhile, or does not answer. */
function ownerOf(name: Uint8Array): { pid: number; user: number } | undefined {
  const fd = openSocket(Family.Unix, SocketType.Stream);
  try {
    if (libc.connect(fd, name, name.length) < 0) return undefined;
    return peerOfSocket(fd);
  } finally {
    libc.close(fd);
  }
}
