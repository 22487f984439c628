// The resolv.conf of a container that runs. Its file system is the container's own and may hold links that lead anywhere,
// so that each step goes through a descriptor of the one before and follows no link.
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;
/** Bytes that are read at most: the container may have put anything there. */
const MOST_BYTES = 64 * 1024;

/**
 * Changes /etc/resolv.conf as the process `pid` sees it, in place: Docker has mounted it there. Throws when it cannot.
 */
export async function changeResolver(pid: number, change: (text: string) => string): Promise<void> {
  const root = await open(`/proc/${pid}/root`, O_RDONLY | O_DIRECTORY);
  try {
    const etc = await below(root, "etc", O_RDONLY | O_DIRECTORY);
    try {
      await rewrite(await below(etc, "resolv.conf", O_RDWR | O_NONBLOCK), change);
    } finally {
      await etc.close();
    }
  } finally {
    await root.close();
  }
}

function below(directory: FileHandle, name: string, flags: number): Promise<FileHandle> {
  return open(`/proc/self/fd/${directory.fd}/${name}`, flags | O_NOFOLLOW);
}

async function rewrite(file: FileHandle, change: (text: string) => string): Promise<void> {
  try {
    if (!(await file.stat()).isFile()) throw new Error("/etc/resolv.conf is no file");
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
    const text = change(buffer.toString("utf8", 0, bytesRead));
    await file.truncate(0);
    await file.write(text, 0);
  } finally {
    await file.close();
  }
}
