// Who this node is, on its disk: DIRECTORY/node.key, node.crt, ca.crt (the bundle) and node.json, which is written last, so
// that an identity is there whole or not at all. The certificate alone says whose cluster the node is of, under which id and
// name and in which role: a new role is one rename. A manager has manager.keys besides: its CAs and more, under a passphrase.
import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { messageOf } from "../lib/errors.ts";
import { exists, textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Turns } from "../lib/turns.ts";
import {
  certificatesIn,
  createKey,
  isAuthority,
  parseCertificate,
  publicKeyDigest,
  signerOf,
  subjectOf,
} from "./certificates.ts";
import { lock, unlock } from "./sealed-text.ts";
import { TrustError } from "./trust-error.ts";

const Place = z.object({
  /** Where managers answer, HOST:PORT. */
  managers: z.array(z.string()),
});

/** What a node got when it joined. */
export interface StoredIdentity {
  readonly managers: readonly string[];
  /** All in PEM. */
  readonly key: string;
  readonly certificate: string;
  readonly bundle: readonly string[];
  readonly bridges: readonly string[];
}

const Authority = z.strictObject({ certificate: z.string(), key: z.string() });

/** What only managers have. It travels to a new manager with the answer to its join. */
export const ManagerKeys = z.strictObject({
  /** Signs nodes and users. */
  nodes: Authority,
  /** Follows `nodes`, while a cluster changes its CA. */
  next: Authority.optional(),
  /** Signs members and clients of the managers' store. */
  store: Authority,
  /** Follows `store`, while a cluster changes that CA. */
  nextStore: Authority.optional(),
  /** The key of secrets in the managers' store (`seal`). */
  sealKey: z.string(),
});
export type ManagerKeys = z.infer<typeof ManagerKeys>;

const PLACE = "node.json";
const MANAGER_KEYS = "manager.keys";

export class IdentityFiles {
  readonly #directory: string;
  /** A renewal and the state may write the same file. */
  readonly #writes = new Turns();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** undefined: this node is in no cluster. Throws TrustError when files are missing or damaged. */
  async read(): Promise<StoredIdentity | undefined> {
    const json = await this.#text(PLACE);
    if (json === undefined) return undefined;
    const { managers } = this.#placeOf(json);
    const key = await this.#needed("node.key");
    const certificate = await this.#needed("node.crt");
    const bundle = this.#certificates("ca.crt", await this.#needed("ca.crt"));
    const bridges = this.#certificates("bridges.crt", (await this.#text("bridges.crt")) ?? "");
    if (bundle.length === 0) throw this.#damaged("ca.crt", "it has no certificate");
    if (!bundle.every(isAuthority)) throw this.#damaged("ca.crt", "a CA in it was changed");
    this.#requireMatch(certificate, key);
    if (signerOf(certificate, bundle) === undefined) throw this.#damaged("node.crt", "no CA of ca.crt has signed it");
    return { managers, key, certificate, bundle, bridges };
  }

  /** What is in the certificate's file, whole or not. */
  certificate(): Promise<string | undefined> {
    return this.#text("node.crt");
  }

  /** This node's private key. A node that joins again keeps it, and is known by it. One that is damaged is of no use, and made anew. */
  async ownKey(): Promise<string> {
    const known = await this.#text("node.key");
    if (known !== undefined && isKey(known)) return known;
    const key = createKey();
    await this.#write("node.key", key);
    return key;
  }

  async write(identity: StoredIdentity): Promise<void> {
    const { key, certificate, bundle, bridges, managers } = identity;
    await this.#write("node.key", key);
    await this.writeCertificates({ certificate, bundle, bridges });
    await this.writePlace(managers);
  }

  /** With it the identity counts. */
  async writePlace(managers: readonly string[]): Promise<void> {
    await this.#write(PLACE, textOf(managers));
  }

  async writeCertificates(changed: {
    certificate?: string;
    bundle?: readonly string[];
    bridges?: readonly string[];
  }): Promise<void> {
    if (changed.bundle !== undefined) await this.#write("ca.crt", changed.bundle.join("\n"));
    if (changed.bridges !== undefined) await this.#write("bridges.crt", changed.bridges.join("\n"));
    if (changed.certificate !== undefined) await this.#write("node.crt", changed.certificate);
  }

  /** Keeps where managers are, unless the node has left its cluster meanwhile. */
  async writeManagers(managers: readonly string[]): Promise<void> {
    await this.#writes.run(async () => {
      if ((await this.#text(PLACE)) === undefined) return;
      await replaceFile(join(this.#directory, PLACE), textOf(managers));
    });
  }

  /** Whether there are keys of a manager, that can be used or not. */
  hasManagerKeys(): Promise<boolean> {
    return exists(join(this.#directory, MANAGER_KEYS));
  }

  /** undefined: this node has no keys of a manager. Throws TrustError when the passphrase is wrong. */
  async readManagerKeys(passphrase: string): Promise<ManagerKeys | undefined> {
    const locked = await this.#text(MANAGER_KEYS);
    if (locked === undefined) return undefined;
    try {
      return ManagerKeys.parse(JSON.parse(await unlock(passphrase, locked, MANAGER_KEYS)));
    } catch (error) {
      throw this.#damaged(MANAGER_KEYS, messageOf(error), error);
    }
  }

  async writeManagerKeys(passphrase: string, keys: ManagerKeys): Promise<void> {
    await this.#write(MANAGER_KEYS, `${await lock(passphrase, JSON.stringify(keys), MANAGER_KEYS)}\n`);
  }

  /** For a node that is no manager any more. */
  async removeManagerKeys(): Promise<void> {
    await this.#writes.run(() => rm(join(this.#directory, MANAGER_KEYS), { force: true }));
  }

  /** For a node that left its cluster. */
  async remove(): Promise<void> {
    // Without node.json there is no identity; the rest may then go in any order.
    await rm(join(this.#directory, PLACE), { force: true });
    await rm(this.#directory, { recursive: true, force: true });
  }

  #text(name: string): Promise<string | undefined> {
    return textIfThere(join(this.#directory, name));
  }

  async #needed(name: string): Promise<string> {
    const text = await this.#text(name);
    if (text === undefined) throw this.#damaged(name, "it is missing");
    return text;
  }

  /** Only root reads the directory and its files. */
  async #write(name: string, text: string): Promise<void> {
    await this.#writes.run(() => replaceFile(join(this.#directory, name), text));
  }

  #placeOf(json: string): z.infer<typeof Place> {
    return this.#parsed(PLACE, () => Place.parse(JSON.parse(json)));
  }

  #parsed<T>(name: string, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      throw this.#damaged(name, "it is not what overlayd writes", error);
    }
  }

  /** The certificates of the file, each of them whole. */
  #certificates(name: string, text: string): string[] {
    const found = certificatesIn(text);
    if (found.length !== text.split("-----BEGIN").length - 1) throw this.#damaged(name, "it is cut");
    this.#parsed(name, () => found.map(parseCertificate));
    return found;
  }

  /** The certificate is a node's, and that of the key. */
  #requireMatch(certificate: string, key: string): void {
    if (!isKey(key)) throw this.#damaged("node.key", "it is not what overlayd writes");
    const digest = this.#parsed("node.key", () => publicKeyDigest(key));
    const certified = this.#parsed("node.crt", () => publicKeyDigest(parseCertificate(certificate)));
    if (this.#parsed("node.crt", () => subjectOf(certificate)).kind !== "node") {
      throw this.#damaged("node.crt", "it is a user's");
    }
    if (digest !== certified) throw this.#damaged("node.crt", "it is not the certificate of node.key");
  }

  #damaged(name: string, reason: string, cause?: unknown): TrustError {
    return new TrustError("damaged", `${join(this.#directory, name)} cannot be used: ${reason}`, { cause });
  }
}

/** Whether it is a key of the kind that nodes have. A damaged one may be read all the same, and sign what its public half does not match. */
function isKey(text: string): boolean {
  try {
    const key = createPrivateKey(text);
    const message = Buffer.from("overlayd");
    return (
      key.asymmetricKeyType === "ec" && verify("sha256", message, createPublicKey(key), sign("sha256", message, key))
    );
  } catch {
    return false;
  }
}

function textOf(managers: readonly string[]): string {
  return `${JSON.stringify({ managers }, null, 2)}\n`;
}
