// The certificate that this manager's member of etcd shows, which the manager makes for itself with the store's CA, and the CAs
// that the member trusts. Etcd reads its own certificate at each connection, and the CAs at its start alone.
import { readFile } from "node:fs/promises";
import type { etcdPaths } from "../leader/etcd-command.ts";
import type { MemberTrust } from "../leader/manager-protocol.ts";
import type { Clock } from "../lib/clock.ts";
import { textIfThere } from "../lib/exists.ts";
import { replaceFile } from "../lib/replace-file.ts";
import { type Authority, createRequest, issue } from "../trust/authority.ts";
import { certificatesIn, createKey, publicKeyDigest, signerOf, validityOf } from "../trust/certificates.ts";
import { renewalDue } from "../trust/expiry.ts";

/** Where a member is reached on its own machine. */
export const LOOPBACK = "127.0.0.1";

/** The manager whose member it is. */
export interface EtcdOwner {
  clusterId: string;
  nodeId: string;
  /** The node's name. */
  name: string;
  /** The node's address on the underlay. */
  address: string;
}

/** What the state says of the store's CA. */
export interface StoreTrust {
  /** The CAs that are trusted, PEM. */
  bundle: readonly string[];
  /** The digest of the one that signs. */
  signer: string;
  /** That one with its key. Throws UserError 503 when this manager does not have it. */
  authority(): Authority;
}

/** What a client of this member shows and trusts, in PEM. */
interface EtcdCredentials {
  ca: string;
  certificate: string;
  key: string;
}

interface EtcdCertificateOptions {
  paths: ReturnType<typeof etcdPaths>;
  owner: EtcdOwner;
  trust: () => StoreTrust;
  clock: Clock;
}

export class EtcdCertificate {
  readonly #options: EtcdCertificateOptions;
  // BOUNDED: by the clients of this process.
  readonly #listeners = new Set<(credentials: EtcdCredentials) => void>();

  constructor(options: EtcdCertificateOptions) {
    this.#options = options;
  }

  async credentials(): Promise<EtcdCredentials> {
    const { ca, certificate, key } = this.#options.paths;
    const [caText, certificateText, keyText] = await Promise.all(
      [ca, certificate, key].map((path) => readFile(path, "utf8")),
    );
    return { ca: caText!, certificate: certificateText!, key: keyText! };
  }

  /** Calls after each change of the certificate or CAs, until the returned function is called. */
  onCredentials(listener: (credentials: EtcdCredentials) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What the state would have the member trust and show. */
  get wanted(): MemberTrust {
    const { bundle, signer } = this.#options.trust();
    return { trusts: bundle.map((ca) => publicKeyDigest(ca)), signer };
  }

  /** The CAs that a process trusts which is started now, by the digests of their public keys. */
  async trusts(): Promise<string[]> {
    return certificatesIn(await readFile(this.#options.paths.ca, "utf8")).map((ca) => publicKeyDigest(ca));
  }

  /** Which of these CAs signed the certificate; null: none, or there is no certificate. */
  async signer(): Promise<string | null> {
    const { ca, certificate } = this.#options.paths;
    const [trusted, own] = [await textIfThere(ca), await textIfThere(certificate)];
    if (trusted === undefined || own === undefined) return null;
    return signerOf(own, certificatesIn(trusted)) ?? null;
  }

  /**
   * Makes the certificate when there is none, it is of another CA than the one that signs, or two thirds of its life are
   * over. One call at a time. The CAs stay as they are without `isAnew`, unless the one that signs is not among them.
   */
  async keepGood(isAnew: boolean): Promise<void> {
    const { clock, trust, paths } = this.#options;
    const { bundle, signer, authority: find } = trust();
    const { ca, certificate, key } = paths;
    const now = clock.now();
    const [trusted, before, beforeKey] = [
      await textIfThere(ca),
      await textIfThere(certificate),
      await textIfThere(key),
    ];
    // An agent that was killed between the two renames below has a certificate of another key.
    const isWhole =
      before !== undefined && beforeKey !== undefined && publicKeyDigest(before) === publicKeyDigest(beforeKey);
    let authority: Authority;
    try {
      authority = find();
    } catch (error) {
      // Its key comes with this node's next certificate.
      if (isAnew || !isWhole || trusted === undefined) throw error;
      return;
    }
    const isTrusted = certificatesIn(trusted ?? "").some((one) => publicKeyDigest(one) === signer);
    const wanted = bundle.join("\n");
    const isOther = (isAnew || !isTrusted) && trusted !== wanted;
    if (isOther) await replaceFile(ca, wanted);
    const isGood = isWhole && signerOf(before, [authority.certificate]) !== undefined;
    if (!isGood || now >= renewalDue(validityOf(before))) await this.#issue(authority, now);
    else if (!isOther) return;
    const credentials = await this.credentials();
    for (const listener of this.#listeners) listener(credentials);
  }

  async #issue(authority: Authority, now: number): Promise<void> {
    const { owner, paths } = this.#options;
    const { certificate, key } = paths;
    const newKey = createKey();
    const issued = await issue(authority, {
      request: await createRequest(newKey, owner.name),
      subject: { kind: "node", clusterId: owner.clusterId, id: owner.nodeId, name: owner.name, role: "manager" },
      addresses: [LOOPBACK, owner.address],
      now,
    });
    // A connection between the two renames fails, and is tried again.
    await replaceFile(key, newKey);
    await replaceFile(certificate, issued);
  }
}
