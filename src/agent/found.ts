// `overlayctl init`: makes a cluster of this machine, or takes over the one that an earlier version had in its data directory.
import type { CheckedInit, InitView } from "../api/membership-schema.ts";
import { openEmbeddedStore } from "../leader/embedded-store.ts";
import { type Founder, foundCluster } from "../leader/first-state.ts";
import { rewriteStore } from "../leader/rewrite-store.ts";
import { systemClock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { newId } from "../lib/random.ts";
import { createAuthority, createRequest, issue } from "../trust/authority.ts";
import { publicKeyDigest, validityOf } from "../trust/certificates.ts";
import { IdentityFiles, type ManagerKeys, type StoredIdentity } from "../trust/identity-files.ts";
import { unlockManagerKeys } from "../trust/passphrase.ts";
import { createSealKey } from "../trust/sealed-text.ts";
import { createSecret, formatToken } from "../trust/token.ts";
import type { Config } from "./config.ts";
import { asSession, managerAddressOf, nodeIdentityOf, reachedAt } from "./node-identity.ts";
import { writeNodeSettings } from "./node-settings.ts";
import { pathsOf } from "./paths.ts";

interface FoundOptions {
  config: Config;
  log: Log;
  /** The node's own address. */
  address: string;
}

/**
 * Makes the first state, then the identity on disk: an `init` that breaks off before its end is begun anew by the next one.
 * Throws UserError and PlatformError.
 */
export async function found(
  { config, log, address }: FoundOptions,
  { listen, advertise, ...settings }: CheckedInit,
): Promise<InitView> {
  const paths = pathsOf(config);
  const files = new IdentityFiles(paths.identity);
  const given = { listen: asSession(listen), advertise: asSession(advertise) };
  const manager = managerAddressOf(config, given, address);
  const managers = [reachedAt(manager, address)];
  const { passphrase, keys: known } = await unlockManagerKeys(files, paths.identity, config.cluster.passphrase);
  // An `init` that broke off may have left a store that was sealed with it.
  const sealKey = known?.sealKey ?? createSealKey();
  let made: { identity: StoredIdentity; keys: ManagerKeys } | undefined;

  const certify: Founder["certify"] = async (cluster, nodeId) => {
    const now = systemClock.now();
    const authority = { clusterId: cluster.id, now };
    const nodes = await createAuthority({ ...authority, purpose: "nodes" });
    const store = await createAuthority({ ...authority, purpose: "store" });
    const key = await files.ownKey();
    const { name } = config.node;
    const request = await createRequest(key, name);
    const subject = { kind: "node", clusterId: cluster.id, id: nodeId, name, role: "manager" } as const;
    const certificate = await issue(nodes, { request, subject, now });
    const bundle = [nodes.certificate];
    made = {
      identity: { managers, key, certificate, bundle, bridges: [] },
      keys: { nodes, store, sealKey },
    };
    await files.writeManagerKeys(passphrase, made.keys);
    return {
      trust: { bundle, signer: publicKeyDigest(nodes.certificate) },
      keyDigest: publicKeyDigest(key),
      certificateExpires: validityOf(certificate).expires,
    };
  };

  const founder = { settings, identity: nodeIdentityOf(config, address, manager), certify };
  const { cluster, nodeId, isAdopted, secret } = await makeFirstState(paths.store, sealKey, founder);
  // Before the identity is there, so that an `init` that breaks off here is begun anew.
  if (isAdopted) await rewriteStore(paths.store);
  const { identity, keys } = made!;
  await writeNodeSettings(paths.settings, { pool: settings.pool, domain: settings.domain, ...given });
  await files.write(identity);
  log.info("this node is the first manager of a new cluster", { reason: `overlayctl init, cluster ${cluster.id}` });
  const token = formatToken({ digest: publicKeyDigest(keys.nodes.certificate), secret });
  return { cluster: cluster.id, nodeId, address: managers[0]!, token, adopted: isAdopted };
}

/** `secret`: that of the token for workers. */
async function makeFirstState(path: string, sealKey: string, founder: Founder) {
  const store = await openEmbeddedStore(path, sealKey);
  try {
    const chance = { now: systemClock.now(), newId, newSecret: createSecret };
    const founded = await foundCluster(store, founder, chance);
    return { ...founded, secret: (await store.load()).tokens.get("worker")!.secret };
  } finally {
    await store.close();
  }
}
