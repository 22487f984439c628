// Looks a program up as execvp(3) does.
import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { isAbsolute, join, resolve } from "node:path";

/** Its path; undefined when there is none. `path` is a PATH; relative names are taken from `directory`. */
export async function findExecutable(file: string, path: string, directory: string): Promise<string | undefined> {
  const candidates = file.includes("/")
    ? [resolve(directory, file)]
    : path
        .split(":")
        .map((folder) => (isAbsolute(folder) ? folder : join(directory, folder)))
        .map((folder) => join(folder, file));
  for (const candidate of candidates) if (await isExecutable(candidate)) return candidate;
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
