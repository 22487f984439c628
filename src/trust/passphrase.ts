// The passphrase under which managers keep their keys and write exports. It is read unattended: from a file or an
// environment variable that the configuration names, or else from a file beside the keys, made by chance at the first need.
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError, messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import type { IdentityFiles, ManagerKeys } from "./identity-files.ts";
import { createSealKey } from "./sealed-text.ts";
import { TrustError } from "./trust-error.ts";

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
 * configuration says, and TrustError when it is wrong, or there is none beside the keys.
 */
export async function unlockManagerKeys(
  files: IdentityFiles,
  directory: string,
  source: PassphraseSource | undefined,
): Promise<Unlocked> {
  const earlier = await besideKeys(directory);
  if (source === undefined) {
    if (earlier === undefined && (await files.hasManagerKeys())) {
      throw new TrustError("damaged", `${pathBeside(directory)} is missing, the passphrase that unlocks manager.keys`);
    }
    const passphrase = earlier ?? (await ownPassphrase(directory, source));
    return { passphrase, keys: await files.readManagerKeys(passphrase) };
  }
  const passphrase = await readPassphrase(source);
  if (earlier === undefined || earlier === passphrase) {
    return { passphrase, keys: await files.readManagerKeys(passphrase) };
  }
  const keys = await keysUnderEither(files, passphrase, earlier);
  if (keys !== undefined) await files.writeManagerKeys(passphrase, keys);
  await rm(pathBeside(directory));
  return { passphrase, keys };
}

/** Locks the keys, whatever there was of them on the disk before. Throws ConfigError. */
export async function lockManagerKeys(
  files: IdentityFiles,
  directory: string,
  source: PassphraseSource | undefined,
  keys: ManagerKeys,
): Promise<void> {
  await files.writeManagerKeys(await ownPassphrase(directory, source), keys);
  if (source !== undefined) await rm(pathBeside(directory), { force: true });
}

/** The passphrase under which this node locks; made by chance, if there is none. Throws ConfigError. */
export async function ownPassphrase(directory: string, source: PassphraseSource | undefined): Promise<string> {
  const known = await knownPassphrase(directory, source);
  if (known !== undefined) return known;
  const made = createSealKey();
  await replaceFile(pathBeside(directory), `${made}\n`);
  return made;
}

/** undefined: none was made yet, or it is lost. Throws ConfigError. */
export function knownPassphrase(directory: string, source: PassphraseSource | undefined): Promise<string | undefined> {
  return source === undefined ? besideKeys(directory) : readPassphrase(source);
}

function pathBeside(directory: string): string {
  return join(directory, "passphrase");
}

async function besideKeys(directory: string): Promise<string | undefined> {
  return (await textIfThere(pathBeside(directory)))?.trim() || undefined;
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
