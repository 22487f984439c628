// This node's identity as its disk has it: whose cluster it is of, with which certificate, and what it was told there.
import { sameName } from "../cluster/lookup.ts";
import { PlatformError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { Credentials } from "../trust/credentials.ts";
import { IdentityFiles, type StoredIdentity } from "../trust/identity-files.ts";
import { TrustError } from "../trust/trust-error.ts";
import type { Config } from "./config.ts";
import { type NodeSettings, readNodeSettings } from "./node-settings.ts";
import { pathsOf } from "./paths.ts";

export interface Identity extends Pick<StoredIdentity, "clusterId" | "nodeId" | "name" | "role" | "managers"> {
  files: IdentityFiles;
  /** What this node shows others, which renewals change. */
  credentials: Credentials;
  settings: NodeSettings;
}

/** undefined: this node is in no cluster. Throws PlatformError when files are missing or damaged. */
export async function readIdentity(config: Config): Promise<Identity | undefined> {
  const paths = pathsOf(config);
  const files = new IdentityFiles(paths.identity);
  try {
    const stored = await files.read();
    if (stored === undefined) return undefined;
    const { clusterId, nodeId, name, role, managers } = stored;
    const settings = await readNodeSettings(paths.settings);
    return { clusterId, nodeId, name, role, managers, files, credentials: new Credentials(stored), settings };
  } catch (error) {
    if (!(error instanceof TrustError)) throw error;
    throw new PlatformError(`this node cannot show who it is: ${error.message}`, `ls -l ${paths.identity}`, {
      cause: error,
    });
  }
}

/**
 * The configuration with the name that the node has in its cluster. A host that was renamed keeps that one until it leaves:
 * its tasks, namespaces and certificate are known by it.
 */
export function withOwnName(config: Config, name: string, log: Log): Config {
  if (sameName(config.node.name, name)) return config;
  log.warn(`this node joined its cluster as '${name}' and is called so until it leaves`, { node: config.node.name });
  return { ...config, node: { ...config.node, name } };
}
