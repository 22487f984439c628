// Who this node is, on its disk: DIRECTORY/node.key, node.crt, ca.crt (the bundle) and node.json, which is written last, so
// that an identity is there whole or not at all. A manager has manager.keys besides: its CAs and more, under a passphrase.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { messageOf } from "../lib/errors.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { Turns } from "../lib/turns.ts";
import { createKey, parseCertificate, publicKeyDigest } from "./certificates.ts";
import { lock, unlock } from "./sealed-text.ts";
import { TrustError } from "./trust-error.ts";

const Facts = z.strictObject({
  clusterId: z.string(),
  nodeId: z.string(),
  name: z.string(),
  role: z.enum(["manager", "worker"]),
  /** Where managers answer, HOST:PORT. */
  managers: z.array(z.string()),
});
type Facts = z.infer<typeof Facts>;

/** What a node got when it joined. */
export interface StoredIdentity extends Facts {
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
  /** The key of secrets in the managers' store (`seal`). */
  sealKey: z.string(),
});
export type ManagerKeys = z.infer<typeof ManagerKeys>;

const FACTS = "node.json";
const MANAGER_KEYS = "manager.keys";

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g;

export class IdentityFiles {
  readonly #directory: string;
  /** A renewal and the state may write the same file. */
  readonly #writes = new Turns();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** undefined: this node is in no cluster. Throws TrustError when files are missing or damaged. */
  async read(): Promise<StoredIdentity | undefined> {
    const json = await this.#text(FACTS);
    if (json === undefined) return undefined;
    const key = await this.#needed("node.key");
    const certificate = await this.#needed("node.crt");
    const bundle = certificatesIn(await this.#needed("ca.crt"));
    const bridges = certificatesIn((await this.#text("bridges.crt")) ?? "");
    const facts = this.#parsed(FACTS, () => Facts.parse(JSON.parse(json)));
    if (bundle.length === 0) throw this.#damaged("ca.crt", "it has no certificate");
    this.#requireMatch(certificate, key);
    return { ...facts, key, certificate, bundle, bridges };
  }

  /** This node's private key. A node that joins again keeps it, and is known by it. */
  async ownKey(): Promise<string> {
    const known = await this.#text("node.key");
    if (known !== undefined) return known;
    const key = createKey();
    await this.#write("node.key", key);
    return key;
  }

  async write(identity: StoredIdentity): Promise<void> {
    const { key, certificate, bundle, bridges, clusterId, nodeId, name, role, managers } = identity;
    await this.#write("node.key", key);
    await this.writeCertificates({ certificate, bundle, bridges });
    await this.writeFacts({ clusterId, nodeId, name, role, managers });
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

  async writeFacts(facts: Facts): Promise<void> {
    await this.#write(FACTS, textOf(facts));
  }

  /** Changes where managers are, and nothing else: a renewal may be about to write another role. */
  async writeManagers(managers: readonly string[]): Promise<void> {
    await this.#writes.run(async () => {
      const json = await this.#text(FACTS);
      if (json === undefined) return; // it has left the cluster meanwhile
      const facts = this.#parsed(FACTS, () => Facts.parse(JSON.parse(json)));
      await replaceFile(join(this.#directory, FACTS), textOf({ ...facts, managers: [...managers] }));
    });
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
    await rm(join(this.#directory, MANAGER_KEYS), { force: true });
  }

  /** For a node that left its cluster. */
  async remove(): Promise<void> {
    // Without node.json there is no identity; the rest may then go in any order.
    await rm(join(this.#directory, FACTS), { force: true });
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

  #parsed<T>(name: string, parse: () => T): T {
    try {
      return parse();
    } catch (error) {
      throw this.#damaged(name, "it is not what overlayd writes", error);
    }
  }

  #requireMatch(certificate: string, key: string): void {
    const digest = this.#parsed("node.key", () => publicKeyDigest(key));
    const certified = this.#parsed("node.crt", () => publicKeyDigest(parseCertificate(certificate)));
    if (digest !== certified) throw this.#damaged("node.crt", "it is not the certificate of node.key");
  }

  #damaged(name: string, reason: string, cause?: unknown): TrustError {
    const mend = `bring it back from a backup, or move ${this.#directory} away, start the agent again and join anew`;
    return new TrustError("damaged", `${join(this.#directory, name)} cannot be used: ${reason}; ${mend}`, { cause });
  }
}

function textOf(facts: Facts): string {
  return `${JSON.stringify(Facts.parse(facts), null, 2)}\n`;
}

function certificatesIn(text: string): string[] {
  return text.match(CERTIFICATE) ?? [];
}
