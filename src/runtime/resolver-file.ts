// The resolv.conf of a container that runs. Its file system is somebody else's and may hold links that lead anywhere:
// each step goes through a descriptor of the one before and follows no link.
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** Writes /etc/resolv.conf as the process `pid` sees it, in place: Docker has mounted it there. Throws when it cannot. */
export async function writeResolver(pid: number, text: string): Promise<void> {
  const root = await open(`/proc/${pid}/root`, O_RDONLY | O_DIRECTORY);
  try {
    const etc = await below(root, "etc", O_RDONLY | O_DIRECTORY);
    try {
      await overwrite(await below(etc, "resolv.conf", O_WRONLY | O_NONBLOCK), text);
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

async function overwrite(file: FileHandle, text: string): Promise<void> {
  try {
    if (!(await file.stat()).isFile()) throw new Error("/etc/resolv.conf is no file");
    await file.truncate(0);
    await file.write(text);
  } finally {
    await file.close();
  }
}
