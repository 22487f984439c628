// The id of a data directory, made once: what an agent leaves outside of it, such as containers on an engine that other
// nodes use too, is found again by this, whatever becomes of the node's row in the cluster.
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { Id } from "../cluster/schema.ts";
import { PlatformError } from "../lib/errors.ts";
import { newId } from "../lib/random.ts";

/** Reads the id; undefined: no agent has run from this directory yet. Throws PlatformError when the file holds no id. */
export async function readDirectoryId(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const { success, data } = Id.safeParse(text.trim());
  if (success) return data;
  const mend = `docker ps -a --filter label=overlayd.node-id; write the id from the labels of this node's containers into the file, or remove the file`;
  throw new PlatformError(`${path} does not hold the id of the data directory`, mend);
}

/** Reads the id, or makes one when there is none. It is durable, and only its owner may read it. */
export async function directoryId(path: string): Promise<string> {
  const known = await readDirectoryId(path);
  if (known !== undefined) return known;
  const id = newId();
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const file = await open(`${path}.new`, "w", 0o600);
  try {
    await file.writeFile(`${id}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
  return id;
}
