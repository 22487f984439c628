// One process per directory: a Unix socket that its owner listens on. The kernel closes it with the process, however
// that ends, so a socket that refuses is left over and may be replaced.
import { rename, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { PlatformError } from "../lib/errors.ts";

/** Releases the lock. */
export type Unlock = () => Promise<void>;

const LOCK_NAME = "lock.sock";
/** sockaddr_un holds 108 bytes, the closing zero among them (unix(7)); the stale socket's name is the longest. */
const MAX_PATH_BYTES = 107 - `.${2 ** 22}`.length;

/** Takes the directory's lock. Throws PlatformError when another process has it. */
export async function lockDirectory(directory: string): Promise<Unlock> {
  const path = join(directory, LOCK_NAME);
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new PlatformError(`the path of ${directory} is too long for a socket in it`, "choose a shorter directory");
  }
  const server = (await listen(path)) ?? ((await removeStale(path)) ? await listen(path) : undefined);
  if (server === undefined) throw new PlatformError(`another overlayd uses ${directory}`, `ss -xlp | grep ${path}`);
  return () => new Promise((resolve) => server.close(() => resolve()));
}

function listen(path: string): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.unref();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(undefined);
      else reject(error);
    });
    server.listen(path, () => resolve(server));
  });
}

/** False when the socket has a living owner. Renaming first keeps a second starter from removing the first one's. */
async function removeStale(path: string): Promise<boolean> {
  if (await answers(path)) return false;
  const aside = `${path}.${process.pid}`;
  await rename(path, aside);
  if (await answers(aside)) {
    await rename(aside, path);
    return false;
  }
  await rm(aside);
  return true;
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
