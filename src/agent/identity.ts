// This node's identity as its disk has it: whose cluster it is of, with which certificate, and what it was told there. One that
// is damaged stops nothing that runs: the snapshot of the state says who the node is, and it goes on without a leader.
import { sameName, settingsOf } from "../cluster/lookup.ts";
import { managersOf } from "../cluster/managers.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { exists } from "../lib/exists.ts";
import type { Log } from "../lib/log.ts";
import { setAside } from "../lib/replace-file.ts";
import { readSnapshot, type StoredSnapshot } from "../session/snapshot-file.ts";
import { type NodeRole, type Subject, subjectOf } from "../trust/certificates.ts";
import { Credentials } from "../trust/credentials.ts";
import { IdentityFiles, type StoredIdentity } from "../trust/identity-files.ts";
import { standInCredentials } from "../trust/stand-in.ts";
import { TrustError } from "../trust/trust-error.ts";
import type { Config } from "./config.ts";
import { givenAddressesOf } from "./node-identity.ts";
import { type NodeSettings, readNodeSettings, writeNodeSettings } from "./node-settings.ts";
import { pathsOf } from "./paths.ts";

export interface Identity {
  clusterId: string;
  nodeId: string;
  name: string;
  role: NodeRole;
  /** HOST:PORT of each manager when it was written. */
  managers: readonly string[];
  files: IdentityFiles;
  /** What this node shows others, which renewals change. */
  credentials: Credentials;
  settings: NodeSettings;
  /** What is damaged, and what to type; undefined: nothing. A node with this asks no manager, and leads nothing. */
  damage: string | undefined;
}

type Owner = Pick<Subject, "clusterId" | "id">;

/** undefined: this node is in no cluster. Throws PlatformError when files are damaged and there is no snapshot to run from. */
export async function readIdentity(config: Config, log: Log): Promise<Identity | undefined> {
  const paths = pathsOf(config);
  const files = new IdentityFiles(paths.identity);
  try {
    const stored = (await files.read()) ?? (await readWithPlace(config, files, log));
    if (stored === undefined) return undefined;
    const credentials = new Credentials(stored);
    const { subject } = credentials;
    if (subject.kind !== "node") throw new TrustError("damaged", `${paths.identity} has a user's certificate`);
    const { clusterId, id: nodeId, name, role } = subject;
    const settings = await ownSettings(config, subject, log);
    return {
      clusterId,
      nodeId,
      name,
      role,
      managers: stored.managers,
      files,
      credentials,
      settings,
      damage: undefined,
    };
  } catch (error) {
    if (!(error instanceof TrustError) && !(error instanceof PlatformError)) throw error;
    return identityOfSnapshot(config, files, error, log);
  }
}

/**
 * The identity when node.json alone is missing, which says where managers are: the snapshot knows, too. undefined: the node is in
 * no cluster, or its join broke off before it had a state.
 */
async function readWithPlace(config: Config, files: IdentityFiles, log: Log): Promise<StoredIdentity | undefined> {
  const owner = await ownerOf(files);
  const snapshot = owner === undefined ? undefined : await snapshotOf(config, owner, log);
  if (snapshot === undefined) return undefined;
  await files.writePlace(managersOf(snapshot.state));
  log.warn("where managers are is taken from the snapshot: identity/node.json was missing", { node: owner!.name });
  return files.read();
}

/**
 * What the node was told when it joined. The snapshot has that too, when the file is missing or damaged: only where a worker would
 * answer as a manager one day is in the file alone. Throws PlatformError when there is no snapshot of the certificate's owner.
 */
async function ownSettings(config: Config, owner: Owner, log: Log): Promise<NodeSettings> {
  const { settings: path } = pathsOf(config);
  try {
    return await readNodeSettings(path);
  } catch (error) {
    if (!(error instanceof PlatformError)) throw error;
    const snapshot = await snapshotOf(config, owner, log);
    const row = snapshot?.state.nodes.get(owner.id);
    const cluster = snapshot && settingsOf(snapshot.state);
    if (row === undefined || cluster === undefined) throw error;
    const settings = { pool: cluster.pool, domain: cluster.domain, ...givenAddressesOf(row) };
    if (await exists(path)) await setAside(path);
    await writeNodeSettings(path, settings);
    log.warn("what this node was told when it joined is taken from its snapshot", { path, reason: error.message });
    return settings;
  }
}

/** The snapshot on the disk, if it is of the certificate's node and cluster. */
async function snapshotOf(config: Config, owner: Owner, log: Log): Promise<StoredSnapshot | undefined> {
  const snapshot = await readSnapshot(pathsOf(config).snapshot, log);
  const isOwn = snapshot?.nodeId === owner.id && snapshot.state.cluster?.id === owner.clusterId;
  return isOwn ? snapshot : undefined;
}

/** Throws PlatformError when the snapshot is not there, or is another cluster's than the certificate's. */
async function identityOfSnapshot(config: Config, files: IdentityFiles, cause: Error, log: Log): Promise<Identity> {
  const paths = pathsOf(config);
  const what = messageOf(cause);
  const refuse = (why: string): PlatformError =>
    new PlatformError(
      `this node cannot show who it is: ${what}; nor does it run from its snapshot: ${why}`,
      `bring the file back from a backup, or move ${paths.identity} away, start the agent again and join anew`,
      { cause },
    );
  const snapshot = await readSnapshot(paths.snapshot, log);
  if (snapshot === undefined) throw refuse(`there is none at ${paths.snapshot}`);
  const { nodeId, state } = snapshot;
  const [row, settings, cluster] = [state.nodes.get(nodeId), settingsOf(state), state.cluster];
  if (row === undefined || settings === undefined || cluster === null) throw refuse("it does not say who this node is");
  const owner = await ownerOf(files);
  if (owner !== undefined && (owner.clusterId !== cluster.id || owner.id !== nodeId)) {
    throw refuse(
      `that is of node ${nodeId} of cluster ${cluster.id}, and the certificate of node ${owner.id} of ${owner.clusterId}`,
    );
  }
  const { name, role } = row;
  const { pool, domain } = settings;
  const credentials = await standInCredentials(
    { kind: "node", clusterId: cluster.id, id: nodeId, name, role },
    systemClock.now(),
  );
  const damage =
    `this node cannot show who it is: ${what}. It runs from its snapshot: containers, names and addresses go on, and nothing changes. ` +
    "The file from a backup and a restart mend it; so does 'overlayctl join MANAGER:2377 --token T', which keeps the node's tasks, unless node.key is " +
    "lost: then 'overlayctl node rm' on a manager comes first. 'overlayctl leave --force' makes this node forget its cluster";
  log.error(damage);
  return {
    ...{ clusterId: cluster.id, nodeId, name, role, managers: managersOf(state), files, credentials, damage },
    settings: { pool, domain, listen: null, advertise: null },
  };
}

/** Whose certificate is on the disk; undefined: it cannot be read. */
async function ownerOf(files: IdentityFiles) {
  try {
    return subjectOf((await files.certificate()) ?? "");
  } catch {
    return undefined;
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
