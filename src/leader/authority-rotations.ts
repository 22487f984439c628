// The changes of both CAs, which the leader carries out. Each goes its own way (authority-rotation.ts).
import type { AuthorityPurpose } from "../trust/authority.ts";
import { type AuthorityHolders, AuthorityRotation, type AuthorityRotationOptions } from "./authority-rotation.ts";
import type { Leader } from "./leader.ts";
import { nodesAuthority } from "./nodes-authority.ts";

interface AuthorityRotationsOptions extends Omit<AuthorityRotationOptions, "purpose" | "holders"> {
  readonly leader: Pick<Leader, "state" | "execute" | "waitApplied">;
  /** The members of etcd. */
  readonly store: AuthorityHolders;
}

interface AuthorityProgress {
  readonly authority: AuthorityPurpose;
  /** The digest of the public key of the newest CA. */
  readonly signer: string;
  /** Names of the nodes that the change waits for; none: it is done. */
  readonly waitsFor: readonly string[];
  /** Why it does not go on without a person, and what to type; null: it does, or is done. */
  readonly reason: string | null;
}

export class AuthorityRotations {
  readonly #all: Readonly<Record<AuthorityPurpose, AuthorityRotation>>;

  constructor({ store, ...options }: AuthorityRotationsOptions) {
    this.#all = {
      nodes: new AuthorityRotation({ ...options, purpose: "nodes", holders: nodesAuthority(options) }),
      store: new AuthorityRotation({ ...options, purpose: "store", holders: store }),
    };
  }

  /** Goes on with what another leader, or this one before it was restarted, has begun. */
  resume(): void {
    this.#all.nodes.resume();
    this.#all.store.resume();
  }

  /**
   * Changes the CAs one after the other, or goes on with the changes that are under way. Answers each after `timeoutMs` though
   * it is not done: it goes on. Throws UserError 409 before anything is changed when one of them must not begin.
   */
  async rotate(purposes: readonly AuthorityPurpose[], timeoutMs: number): Promise<AuthorityProgress[]> {
    for (const purpose of purposes) await this.#all[purpose].requireReady();
    const progress: AuthorityProgress[] = [];
    for (const authority of purposes) progress.push({ authority, ...(await this.#all[authority].rotate(timeoutMs)) });
    return progress;
  }

  async stop(): Promise<void> {
    await Promise.all([this.#all.nodes.stop(), this.#all.store.stop()]);
  }
}
