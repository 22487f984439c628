// What this node was told when it came into its cluster, kept beside its identity: the cluster's pool and domain, which are
// needed before any state is there, and where its manager answers.
import { z } from "zod";
import { SessionAddress } from "../cluster/schema.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";

const NodeSettings = z.object({
  pool: z.string(),
  domain: z.string(),
  /** null: as the configuration says, or its default. */
  listen: SessionAddress.nullable(),
  advertise: SessionAddress.nullable(),
});
export type NodeSettings = z.infer<typeof NodeSettings>;

/** Throws PlatformError when the file is not there, or cannot be used. */
export async function readNodeSettings(path: string): Promise<NodeSettings> {
  const text = await textIfThere(path);
  try {
    return NodeSettings.parse(JSON.parse(text ?? ""));
  } catch (cause) {
    const what = text === undefined ? "is not there" : `cannot be used: ${messageOf(cause)}`;
    throw new PlatformError(
      `${path}, which says what this node was told when it joined, ${what}`,
      "put it back from a backup, or move the directory 'identity' beside it away, start the agent again and join anew",
      { cause },
    );
  }
}

/** It is durable when this resolves. */
export function writeNodeSettings(path: string, settings: NodeSettings): Promise<void> {
  return replaceFile(path, `${JSON.stringify(settings)}\n`);
}
