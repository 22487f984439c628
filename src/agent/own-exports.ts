// Where the exports of one cluster are on this disk: exports/CLUSTER. Those of a cluster that the node has left stay beside it:
// they are neither counted nor removed as this one's, and none is taken for this one's.
import { mkdir, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { clusterOfExport, secretsPath } from "../leader/export-file.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

const SUFFIX = ".jsonl";

/** Returns the cluster's directory, with the exports of it that an earlier version wrote beside that. */
export async function ownExports(all: string, clusterId: string, log: Log): Promise<string> {
  const own = join(all, clusterId);
  const files = await readdir(all, { withFileTypes: true }).catch(() => []);
  for (const { name } of files.filter((file) => file.isFile() && file.name.endsWith(SUFFIX))) {
    try {
      if ((await clusterOfExport(join(all, name))) !== clusterId) continue;
      await mkdir(own, { recursive: true, mode: 0o700 });
      // The file that says what is whole comes last.
      const secrets = secretsPath(name);
      if (files.some((file) => file.name === secrets)) await rename(join(all, secrets), join(own, secrets));
      await rename(join(all, name), join(own, name));
    } catch (error) {
      log.warn("an export stays where an earlier version wrote it", {
        path: join(all, name),
        reason: messageOf(error),
      });
    }
  }
  return own;
}
