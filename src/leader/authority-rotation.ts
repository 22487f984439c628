// `overlayctl ca rotate`: the nodes' CA is changed while everything runs. The state says how far it is, so that the next
// leader goes on with it:
//   one CA  --begin-->  two, the first signs  --issue-->  two, the second signs  --end-->  one
// begin: the leader makes the second CA. Every node trusts both; managers fetch its key with a renewal.
// issue: every node renews its certificate.
// end:   once no valid certificate of the first CA is left, no node trusts it.
import { trustOf } from "../cluster/lookup.ts";
import type { Node } from "../cluster/schema.ts";
import type { Trust } from "../cluster/trust-rows.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { CERTIFICATE_LIFE_MS } from "../trust/authority.ts";
import { publicKeyDigest, validityOf } from "../trust/certificates.ts";
import { BACKDATED_MS } from "../trust/expiry.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import type { Leader } from "./leader.ts";

const LOOK_MS = 500;
/** A node that puts nothing in force for longer does not hold up the others. */
const IN_FORCE_MS = 60_000;

interface AuthorityRotationOptions {
  readonly leader: Pick<Leader, "state" | "execute" | "waitApplied">;
  readonly ring: KeyRing;
  /** The leader's own node has the keys. */
  readonly ownNodeId: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** How far a change of the CA came. */
interface RotationResult {
  /** The digest of the public key of the newest CA. */
  readonly signer: string;
  /** Names of the nodes whose certificates are still of the CA before; none: the change is done. */
  readonly waitsFor: readonly string[];
}

export class AuthorityRotation {
  readonly #options: AuthorityRotationOptions;
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;
  /** Whether a change is to begin when none is under way. */
  #isAsked = false;

  constructor(options: AuthorityRotationOptions) {
    this.#options = options;
  }

  /** Goes on with a change that another leader, or this one before it was restarted, has begun. */
  resume(): void {
    if (this.#trust().bundle.length === 1) return;
    this.#start().catch((err) => this.#options.log.warn("the change of the CA waits", { reason: messageOf(err) }));
  }

  /** Changes the CA, or goes on with the change that is under way. Answers after `timeoutMs` though it is not done: it goes on. */
  async rotate(timeoutMs: number): Promise<RotationResult> {
    const over = new AbortController();
    this.#isAsked = true;
    const running = this.#start();
    try {
      await Promise.race([running, delay(this.#options.clock, timeoutMs, over.signal)]);
    } finally {
      over.abort();
    }
    const signer = newestDigest(this.#trust());
    return { signer, waitsFor: this.#trust().bundle.length === 1 ? [] : this.#notRenewed(signer) };
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running?.catch(() => {});
  }

  #start(): Promise<void> {
    if (this.#running !== undefined) return this.#running;
    const running = this.#run();
    running.catch(() => {}); // each caller that waits for it handles it
    this.#running = running;
    return running;
  }

  async #run(): Promise<void> {
    try {
      if (this.#trust().bundle.length > 1) await this.#giveUpWithoutKey();
      if (this.#trust().bundle.length === 1) {
        if (!this.#isAsked) return;
        await this.#begin();
      }
      await this.#issue();
      await this.#end();
    } finally {
      // Here and not in a finally() of the promise: a call right after this must begin anew.
      this.#running = undefined;
      this.#isAsked = false;
    }
  }

  async #begin(): Promise<void> {
    const { leader, ring, clock, log } = this.#options;
    await ring.settle(this.#trust().signer); // a change before this one may have ended under another leader
    const { next, bridge } = await ring.next(leader.state.cluster!.id, clock.now());
    const step = { is: "begin", certificate: next.certificate, bridge } as const;
    const { revision } = await leader.execute({ type: "authority.rotate", step });
    log.info("a new CA is made; every node is to trust it beside the one before");
    const behind = await leader.waitApplied(revision, IN_FORCE_MS);
    if (behind.length > 0)
      log.warn("the change of the CA goes on without nodes that are behind", { reason: behind.join(" ") });
  }

  async #issue(): Promise<void> {
    const { leader, log } = this.#options;
    const digest = newestDigest(this.#trust());
    if (this.#trust().signer === digest) return;
    await this.#until(() => this.#lackKey(), "managers do not have the key of the new CA yet");
    await leader.execute({ type: "authority.rotate", step: { is: "issue", digest } });
    log.info("the new CA signs certificates; every node renews its own", { reason: digest });
  }

  async #end(): Promise<void> {
    const { leader, ring, log } = this.#options;
    const digest = newestDigest(this.#trust());
    await this.#until(() => this.#notRenewed(digest), "nodes have certificates of the CA before");
    const certificate = this.#trust().bundle.at(-1)!;
    await leader.execute({ type: "authority.rotate", step: { is: "end", certificate } });
    await ring.settle(digest);
    log.info("the cluster has a new CA, and trusts the one before no more", { reason: digest });
  }

  /** The leader that began may be gone before another manager had the new key: that CA signed nothing and is dropped. */
  async #giveUpWithoutKey(): Promise<void> {
    const { leader, ring, log } = this.#options;
    const trust = this.#trust();
    if (ring.has(newestDigest(trust))) return;
    if (trust.signer === newestDigest(trust)) {
      throw new UserError(
        503,
        "this manager does not have the key of the cluster's new CA; another manager is to lead",
      );
    }
    await leader.execute({ type: "authority.rotate", step: { is: "end", certificate: trust.bundle[0]! } });
    await ring.settle(trust.signer);
    log.warn("a change of the CA that another manager began is dropped: its key did not get here");
  }

  /** Looks again and again until `left` finds no node. It loops over the nodes twice a second, while a CA is changed. */
  async #until(left: () => readonly string[], what: string): Promise<void> {
    const { clock, log } = this.#options;
    let before = 0;
    for (let names = left(); names.length > 0; names = left()) {
      if (names.length !== before)
        log.info(`the change of the CA waits: ${what}`, { count: names.length, reason: names.slice(0, 10).join(" ") });
      before = names.length;
      await delay(clock, LOOK_MS, this.#stopped.signal);
      if (this.#stopped.signal.aborted) throw new UserError(503, "this manager is stopping; the next leader goes on");
    }
  }

  /** Managers that have not renewed since the newest CA was made: its key comes with the answer. One that is down gets it later. */
  #lackKey(): string[] {
    const { leader, ownNodeId } = this.#options;
    const madeAt = validityOf(this.#trust().bundle.at(-1)!).begins + BACKDATED_MS;
    const lacks = ({ id, role, state, certificateExpires }: Node) =>
      role === "manager" &&
      id !== ownNodeId &&
      state === "ready" &&
      (certificateExpires ?? 0) - CERTIFICATE_LIFE_MS < madeAt;
    return namesOf(leader.state.nodes.values(), lacks);
  }

  /** Nodes with a valid certificate that another CA signed. */
  #notRenewed(digest: string): string[] {
    const { leader, clock } = this.#options;
    const now = clock.now();
    const isOld = ({ certificateExpires, certificateSigner }: Node) =>
      (certificateExpires ?? 0) > now && certificateSigner !== digest;
    return namesOf(leader.state.nodes.values(), isOld);
  }

  #trust(): Trust {
    return trustOf(this.#options.leader.state)!;
  }
}

function newestDigest({ bundle }: Trust): string {
  return publicKeyDigest(bundle.at(-1)!);
}

function namesOf(nodes: Iterable<Node>, matches: (node: Node) => boolean): string[] {
  return [...nodes].filter(matches).map(({ name }) => name);
}
