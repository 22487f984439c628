// The passphrase under which managers keep their keys and write exports. It is read unattended: from a file or an
// environment variable that the configuration names, or else from a file beside the keys, made by chance at the first need.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import type { IdentityFiles, ManagerKeys } from "./identity-files.ts";
import { createSealKey } from "./sealed-text.ts";

/** `cluster.passphrase` of the configuration. */
type PassphraseSource = { readonly file: string } | { readonly env: string };

const FIELD = "cluster.passphrase";

interface Unlocked {
  readonly passphrase: string;
  /** undefined: this node has no keys of a manager. */
  readonly keys: ManagerKeys | undefined;
}

/**
 * The passphrase, and what it unlocks. `directory` is that of the identity. Keys that are still locked with the passphrase
 * beside them are locked anew with the one that the configuration names. Throws ConfigError when there is none where the
 * configuration says, and TrustError when it is wrong.
 */
export async function unlockManagerKeys(
  files: IdentityFiles,
  directory: string,
  source: PassphraseSource | undefined,
): Promise<Unlocked> {
  const beside = join(directory, "passphrase");
  const earlier = (await textIfThere(beside))?.trim();
  if (source === undefined) {
    const passphrase = earlier ?? createSealKey();
    if (earlier === undefined) await replaceFile(beside, `${passphrase}\n`);
    return { passphrase, keys: await files.readManagerKeys(passphrase) };
  }
  const passphrase = await readPassphrase(source);
  if (earlier === undefined || earlier === passphrase) {
    return { passphrase, keys: await files.readManagerKeys(passphrase) };
  }
  const keys = await keysUnderEither(files, passphrase, earlier);
  if (keys !== undefined) await files.writeManagerKeys(passphrase, keys);
  await rm(beside);
  return { passphrase, keys };
}

async function keysUnderEither(files: IdentityFiles, passphrase: string, earlier: string) {
  try {
    return await files.readManagerKeys(earlier);
  } catch {
    return files.readManagerKeys(passphrase); // they were locked anew before, and the file beside was not removed
  }
}

/** Throws ConfigError when it is empty or not there. */
export async function readPassphrase(source: PassphraseSource): Promise<string> {
  if ("env" in source) {
    const value = process.env[source.env];
    if (value === undefined || value === "") {
      throw new ConfigError(`${FIELD}.env`, `the environment variable ${source.env} is not set`);
    }
    return value;
  }
  let text: string;
  try {
    text = await readFile(source.file, "utf8");
  } catch (cause) {
    throw new ConfigError(`${FIELD}.file`, `'${source.file}' cannot be read: ${messageOf(cause)}`, { cause });
  }
  const passphrase = text.trim();
  if (passphrase === "") throw new ConfigError(`${FIELD}.file`, `'${source.file}' is empty`);
  return passphrase;
}
