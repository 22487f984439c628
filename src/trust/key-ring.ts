// The keys of a manager while it runs. During a change of a CA it holds two of it; the state says which of them signs.
import { UserError } from "../lib/errors.ts";
import { Turns } from "../lib/turns.ts";
import { type Authority, type AuthorityPurpose, bridge, createAuthority } from "./authority.ts";
import { publicKeyDigest } from "./certificates.ts";
import type { ManagerKeys } from "./identity-files.ts";

/** Where the keys have the CA that follows. */
const NEXT = { nodes: "next", store: "nextStore" } as const;

interface KeyRingOptions {
  readonly keys: ManagerKeys;
  /** Keeps the keys on the manager's disk. */
  readonly write: (keys: ManagerKeys) => Promise<void>;
}

export class KeyRing {
  readonly #write: KeyRingOptions["write"];
  /** A change of the CA and a renewal may both change the keys. */
  readonly #changes = new Turns();
  #keys: ManagerKeys;

  constructor({ keys, write }: KeyRingOptions) {
    this.#keys = keys;
    this.#write = write;
  }

  get keys(): ManagerKeys {
    return this.#keys;
  }

  /** The digests of all CAs whose keys it has. */
  get digests(): string[] {
    return this.#all().map(({ certificate }) => publicKeyDigest(certificate));
  }

  /** Whether it has the key with the digest. */
  has(digest: string): boolean {
    return this.#find(digest) !== undefined;
  }

  /** The CA that signs now: `digest` is that of its public key. Throws UserError 503 when this manager lacks its key. */
  signer(digest: string): Authority {
    const found = this.#find(digest);
    if (found !== undefined) return found;
    throw new UserError(
      503,
      "this manager does not have the key of the cluster's new CA yet; try again, or ask another one",
    );
  }

  /** What another manager answered. It is on this one's disk when this resolves. */
  replace(keys: ManagerKeys): Promise<void> {
    return this.#changes.run(() => this.#put(keys));
  }

  /** The CA that is to follow, made at the first call. It is on the disk when this resolves. `bridge` leads from the present one to it. */
  next(
    purpose: AuthorityPurpose,
    { clusterId, now }: { clusterId: string; now: number },
  ): Promise<{ next: Authority; bridge: string }> {
    return this.#changes.run(async () => {
      const known = this.#keys[NEXT[purpose]];
      const next = known ?? (await createAuthority({ clusterId, purpose, now }));
      if (known === undefined) await this.#put({ ...this.#keys, [NEXT[purpose]]: next });
      return { next, bridge: await bridge(this.#keys[purpose], next, now) };
    });
  }

  /** The cluster trusts one CA for this, whose public key has the digest: the key of the other is forgotten. */
  settle(purpose: AuthorityPurpose, digest: string): Promise<void> {
    return this.#changes.run(async () => {
      const { [NEXT[purpose]]: next, ...rest } = this.#keys;
      if (next !== undefined && this.has(digest)) await this.#put({ ...rest, [purpose]: this.signer(digest) });
    });
  }

  async #put(keys: ManagerKeys): Promise<void> {
    await this.#write(keys);
    this.#keys = keys;
  }

  #find(digest: string): Authority | undefined {
    return this.#all().find(({ certificate }) => publicKeyDigest(certificate) === digest);
  }

  #all(): Authority[] {
    const { nodes, next, store, nextStore } = this.#keys;
    return [nodes, next, store, nextStore].filter((one) => one !== undefined);
  }
}
