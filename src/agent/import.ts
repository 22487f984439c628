// `overlayctl cluster import`: makes a cluster of one manager of an export, on a machine that is in no cluster. It has the
// cluster's own keys and a new epoch, so nodes take it, and their tasks go on.
import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { ImportView } from "../api/cluster-schema.ts";
import { Features } from "../cluster/features.ts";
import { settingsOf, trustOf } from "../cluster/lookup.ts";
import { Draft } from "../cluster/state.ts";
import { openEmbeddedStore } from "../leader/embedded-store.ts";
import { readExport } from "../leader/export-file.ts";
import { Addresses } from "../leader/ipam.ts";
import { putMember } from "../leader/nodes.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { cidr } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import { createRequest, issue } from "../trust/authority.ts";
import { publicKeyDigest, validityOf } from "../trust/certificates.ts";
import { IdentityFiles } from "../trust/identity-files.ts";
import { lockManagerKeys, ownPassphrase } from "../trust/passphrase.ts";
import { createSecret } from "../trust/token.ts";
import type { Config } from "./config.ts";
import { exportLock } from "./exports.ts";
import { managerAddressOf, nodeIdentityOf, reachedAt } from "./node-identity.ts";
import { writeNodeSettings } from "./node-settings.ts";
import { pathsOf } from "./paths.ts";

const Pem = z.string().min(1);
const Authority = z.object({ certificate: Pem, key: Pem });
const Keys = z.object({ nodes: Authority, store: Authority, sealKey: z.string().min(1) });

interface ImportOptions {
  config: Config;
  log: Log;
  /** The node's own address. */
  address: string;
}

interface Asked {
  path: string;
  /** A file with the passphrase under which the export was written; left out: this node's own. */
  passphraseFile?: string | undefined;
}

/** Throws UserError; then nothing has changed. */
export async function importCluster(
  { config, log, address }: ImportOptions,
  { path, passphraseFile }: Asked,
): Promise<ImportView> {
  const paths = pathsOf(config);
  const files = new IdentityFiles(paths.identity);
  const passphrase = await ownPassphrase(paths.identity, config.cluster.passphrase);
  const written = passphraseFile === undefined ? passphrase : await givenPassphrase(passphraseFile);
  const { state, keys: json } = await readExport(path, exportLock(written));
  const keys = Keys.parse(json);
  const settings = settingsOf(state);
  if (settings === undefined || state.cluster === null) {
    throw new UserError(400, `'${path}' is not imported, and nothing was changed: it has no cluster`);
  }
  const now = systemClock.now();
  const { name } = config.node;
  const given = { listen: null, advertise: null };
  const manager = managerAddressOf(config, given, address);
  const key = await files.ownKey();
  const draft = new Draft(state);
  const context = {
    ...{
      now,
      newId,
      newSecret: createSecret,
      pool: cidr(settings.pool),
      domain: settings.domain,
      addresses: new Addresses(),
      features: new Features(),
    },
    reservedPorts: [],
    silent: () => true,
    everywhere: Number.POSITIVE_INFINITY,
  };
  const member = { identity: nodeIdentityOf(config, address, manager), role: "manager" as const };
  const { id: nodeId } = putMember(draft, { ...member, keyDigest: null, certificateExpires: null }, context);
  const cluster = { id: state.cluster.id, epoch: Math.max(state.cluster.epoch, Math.floor(now / 1000)) + 1 };
  const subject = { kind: "node", clusterId: cluster.id, id: nodeId, name, role: "manager" } as const;
  const certificate = await issue(keys.nodes, { request: await createRequest(key, name), subject, now });
  const certificateExpires = validityOf(certificate).expires;
  putMember(draft, { ...member, keyDigest: publicKeyDigest(key), certificateExpires }, context);
  state.apply(draft.changes, draft.revision);
  state.cluster = cluster;

  const store = await openEmbeddedStore(paths.store, keys.sealKey);
  try {
    const there = await store.load();
    if (there.cluster !== null && store.moved === undefined) {
      throw new UserError(409, `${paths.store} has the state of cluster ${there.cluster.id}: move it away first`);
    }
    await store.fill(state);
  } finally {
    await store.close();
  }
  const { bundle } = trustOf(state)!;
  await lockManagerKeys(files, paths.identity, config.cluster.passphrase, keys);
  await writeNodeSettings(paths.settings, { pool: settings.pool, domain: settings.domain, ...given });
  const managers = [reachedAt(manager, address)];
  await files.write({ managers, key, certificate, bundle, bridges: [] });
  log.warn("this node leads a cluster that was imported", { path, revision: state.revision });
  return { cluster: cluster.id, epoch: cluster.epoch, revision: state.revision };
}

/** Throws UserError 400. */
async function givenPassphrase(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new UserError(400, `--passphrase-file: '${file}' cannot be read: ${messageOf(cause)}`, { cause });
  });
  if (text.trim() === "") throw new UserError(400, `--passphrase-file: '${file}' is empty`);
  return text.trim();
}
