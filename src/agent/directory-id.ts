// The id of a data directory, made once. By it an agent finds again what it left outside of the directory, such as
// containers on an engine that other nodes use too, also after the cluster has forgotten the node.
import { Id } from "../cluster/schema.ts";
import { PlatformError } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { newId } from "../lib/random.ts";
import { replaceFile } from "../lib/replace-file.ts";

/** Reads the id; undefined: no agent has run from this directory yet. Throws PlatformError when the file holds no id. */
export async function readDirectoryId(path: string): Promise<string | undefined> {
  const text = await textIfThere(path);
  if (text === undefined) return undefined;
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
  await replaceFile(path, `${id}\n`);
  return id;
}
