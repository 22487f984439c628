// The keys of a manager as its disk has them. Where manager.keys is lost or damaged, the newest export on the same disk has
// them too; else another manager gives them, to this node when it joins again.
import { storeTrustOf } from "../cluster/lookup.ts";
import type { State } from "../cluster/tables.ts";
import { readExportedKeys } from "../leader/export-file.ts";
import { CannotLeadError } from "../leader/store.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import { ManagerKeys } from "../trust/identity-files.ts";
import { KeyRing } from "../trust/key-ring.ts";
import { knownPassphrase, lockManagerKeys, unlockManagerKeys } from "../trust/passphrase.ts";
import { TrustError } from "../trust/trust-error.ts";
import type { Config } from "./config.ts";
import { exportLock, newestExport } from "./exports.ts";
import type { Identity } from "./identity.ts";
import { pathsOf } from "./paths.ts";

const BACKUP = "bring the file, or the passphrase, back from a backup";
const ANOTHER =
  "'overlayctl join MANAGER:2377 --token T' with another manager gets the keys from that one, and keeps this node's tasks";

interface ManagerKeysOptions {
  config: Config;
  identity: Identity;
  /** The node's own; undefined: it has none. */
  state: State | undefined;
  /** The directory with the cluster's exports. */
  exports: string;
  log: Log;
}

/** The error of a manager whose keys cannot be used: it joins again for them. */
export class NoKeysError extends CannotLeadError {
  override name = "NoKeysError";
}

/** Throws NoKeysError, and ConfigError when there is no passphrase where the configuration says. */
export async function openManagerKeys(options: ManagerKeysOptions): Promise<{ ring: KeyRing; passphrase: string }> {
  const { config, identity, log } = options;
  const at = [identity.files, pathsOf(config).identity, config.cluster.passphrase] as const;
  const opened = await unlockManagerKeys(...at).catch((error: unknown) => {
    if (!(error instanceof TrustError)) throw error;
    return error;
  });
  if (!(opened instanceof TrustError) && opened.keys !== undefined)
    return ringOf(identity, opened.passphrase, opened.keys);
  const why = opened instanceof TrustError ? opened.message : `${pathsOf(config).identity}/manager.keys is missing`;
  try {
    const { passphrase, keys, path } = await keysOfExport(options);
    await lockManagerKeys(...at, keys);
    log.warn("the keys of the certificate authorities are brought back from the newest export", { path, reason: why });
    return ringOf(identity, passphrase, keys);
  } catch (cause) {
    const managers = options.state?.nodes.by("role", "manager") ?? [];
    const isOnly = managers.every(({ id }) => id === identity.nodeId);
    throw new NoKeysError(
      `this manager has no keys of the certificate authorities: ${why}; nor does the newest export have them: ${messageOf(cause)}`,
      isOnly ? `${BACKUP}: no other manager has these keys` : `${BACKUP}; or ${ANOTHER}`,
      { cause },
    );
  }
}

function ringOf({ files }: Identity, passphrase: string, keys: ManagerKeys) {
  return { ring: new KeyRing({ keys, write: (changed) => files.writeManagerKeys(passphrase, changed) }), passphrase };
}

/** Throws with the reason when the export does not open, or is from before a change of a CA. */
async function keysOfExport({ config, identity, state, exports }: ManagerKeysOptions) {
  const { identity: directory } = pathsOf(config);
  const passphrase = await knownPassphrase(directory, config.cluster.passphrase);
  if (passphrase === undefined) throw new Error("its passphrase is missing");
  const newest = await newestExport(exports, systemClock.now());
  if (newest === null) throw new Error(`there is none in ${exports}`);
  const keys = ManagerKeys.parse(await readExportedKeys(newest.path, exportLock(passphrase)));
  const { nodes, next, store, nextStore } = keys;
  const has = [nodes, next, store, nextStore].map((one) => one && publicKeyDigest(one.certificate));
  const storeBundle = (state && storeTrustOf(state)?.bundle) ?? [];
  const needed = [...identity.credentials.bundle, ...storeBundle].map((one) => publicKeyDigest(one));
  if (!needed.every((digest) => has.includes(digest)))
    throw new Error(`${newest.path} is from before a change of a CA`);
  return { passphrase, keys, path: newest.path };
}
