// `overlayctl ca rotate`: a CA is changed while everything runs. The state says how far it is, so that the next leader goes
// on with it:
//   one CA  --begin-->  two, the first signs  --issue-->  two, the second signs  --end-->  one
// begin: the leader makes the second CA. All trust both; managers fetch its key with a renewal.
// issue: all get certificates of the second.
// end:   once no valid certificate of the first CA is left, none trusts it.
// Who "all" are: nodes-authority.ts for the nodes' CA, store-authority.ts for that of the managers' etcd.
import type { CommandInput } from "../cluster/commands.ts";
import type { Node } from "../cluster/schema.ts";
import type { Trust } from "../cluster/trust-rows.ts";
import { type Clock, delay } from "../lib/clock.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { AuthorityPurpose } from "../trust/authority.ts";
import { publicKeyDigest } from "../trust/certificates.ts";
import type { KeyRing } from "../trust/key-ring.ts";
import type { Leader } from "./leader.ts";

const LOOK_MS = 500;
/** How long after a step that failed it is tried again. */
const AGAIN_MS = 2000;

/** Those that show certificates of the CA and trust it. */
export interface AuthorityHolders {
  /** Throws UserError 409 when a change must not begin now, and says what to do. */
  requireReady(): Promise<void>;
  /** The names of the holders that do not trust both CAs yet. */
  notTrustingBoth(): Promise<readonly string[]>;
  /** Names of those whose certificate is not of the CA with this digest. */
  notRenewed(digest: string): Promise<readonly string[]>;
  /** The names of the holders that still trust another CA after the last step. */
  trustingAnother(): Promise<readonly string[]>;
  /** Those that have not taken the step under way, and why that needs a person, with what to type; null: it needs none. */
  behind(): Promise<{ names: readonly string[]; reason: string | null }>;
}

export interface AuthorityRotationOptions {
  /** Whose CA it is. */
  readonly purpose: AuthorityPurpose;
  readonly holders: AuthorityHolders;
  readonly leader: Pick<Leader, "state" | "execute">;
  readonly ring: KeyRing;
  /** The leader's own node has the keys. */
  readonly ownNodeId: string;
  /** Whether the manager has the key with this digest; false also when it does not answer. */
  readonly hasKey: (manager: Node, digest: string) => Promise<boolean>;
  readonly clock: Clock;
  readonly log: Log;
}

type AuthorityStep = Extract<CommandInput, { type: "authority.rotate" }>["step"];

/** How far a change of the CA came. */
interface RotationResult {
  /** The digest of the public key of the newest CA. */
  readonly signer: string;
  /** Names of the nodes that the change waits for; none: it is done. */
  readonly waitsFor: readonly string[];
  /** Why it does not go on without a person, and what to type; null: it does, or is done. */
  readonly reason: string | null;
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
    if (this.#bundle().length === 1) return;
    this.#start().catch((err) =>
      this.#options.log.warn(`the change of the ${this.#name} waits`, { reason: messageOf(err) }),
    );
  }

  /** Throws UserError 409 when a change must not begin now. One that is under way goes on. */
  async requireReady(): Promise<void> {
    if (this.#bundle().length === 1) await this.#options.holders.requireReady();
  }

  /** Changes the CA, or goes on with the change that is under way. Answers after `timeoutMs` though it is not done: it goes on. */
  async rotate(timeoutMs: number): Promise<RotationResult> {
    await this.requireReady();
    const over = new AbortController();
    this.#isAsked = true;
    const running = this.#start();
    try {
      await Promise.race([running, delay(this.#options.clock, timeoutMs, over.signal)]);
    } finally {
      over.abort();
    }
    return { signer: this.#newest(), ...(await this.#waits()) };
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
      if (this.#bundle().length > 1) await this.#giveUpWithoutKey();
      if (this.#bundle().length === 1) {
        if (!this.#isAsked) return; // it is over
        await this.#begin();
      }
      await this.#goOn();
    } finally {
      // Here and not in a finally() of the promise: a call right after this must begin anew.
      this.#running = undefined;
      this.#isAsked = false;
    }
  }

  /** What fails is tried again: a change that has begun is not left half done. */
  async #goOn(): Promise<void> {
    const { clock, log } = this.#options;
    for (;;) {
      try {
        await this.#issue();
        return await this.#end();
      } catch (error) {
        this.#requireRunning();
        log.warn(`the change of the ${this.#name} waits`, { reason: messageOf(error) });
        await delay(clock, AGAIN_MS, this.#stopped.signal);
        this.#requireRunning();
      }
    }
  }

  #requireRunning(): void {
    if (this.#stopped.signal.aborted) throw new UserError(503, "this manager is stopping; the next leader goes on");
  }

  async #begin(): Promise<void> {
    const { purpose, leader, ring, clock, log } = this.#options;
    // A change before this one may have ended under another leader.
    await ring.settle(purpose, this.#trust()?.signer ?? publicKeyDigest(ring.keys[purpose].certificate));
    const { next, bridge } = await ring.next(purpose, { clusterId: leader.state.cluster!.id, now: clock.now() });
    const before = ring.keys[purpose].certificate;
    await this.#take({ is: "begin", certificate: next.certificate, before, bridge });
    log.info(`a new ${this.#name} is made, to be trusted beside the one before`);
  }

  async #issue(): Promise<void> {
    const { holders, log } = this.#options;
    const digest = this.#newest();
    if (this.#trust()!.signer === digest) return;
    await this.#until(() => this.#lackKey(), "managers do not have the new key yet");
    await this.#until(() => holders.notTrustingBoth(), "the new one is not trusted everywhere yet");
    await this.#take({ is: "issue", digest });
    log.info(`the new ${this.#name} signs certificates`, { reason: digest });
  }

  async #end(): Promise<void> {
    const { purpose, holders, ring, log } = this.#options;
    const digest = this.#newest();
    if (this.#bundle().length > 1) {
      await this.#until(() => holders.notRenewed(digest), "there are certificates of the one before");
      await this.#take({ is: "end", certificate: this.#bundle().at(-1)! });
    }
    await ring.settle(purpose, digest);
    await this.#until(() => holders.trustingAnother(), "the one before is trusted still");
    log.info(`the one before is trusted no more: the change of the ${this.#name} is done`, { reason: digest });
  }

  async #take(step: AuthorityStep): Promise<void> {
    const { purpose: authority, leader } = this.#options;
    await leader.execute({ type: "authority.rotate", authority, step });
  }

  /** The leader that began may be gone before another manager had the new key: that CA signed nothing, and another takes its place. */
  async #giveUpWithoutKey(): Promise<void> {
    const { purpose, ring, log } = this.#options;
    const { signer, bundle } = this.#trust()!;
    if (ring.has(this.#newest())) return;
    if (signer === this.#newest()) {
      throw new UserError(503, `this manager does not have the key of the new ${this.#name}; another one is to lead`);
    }
    await this.#take({ is: "end", certificate: bundle[0]! });
    await ring.settle(purpose, signer);
    this.#isAsked = true;
    log.warn(
      `the new ${this.#name} that another manager made is dropped, for its key did not get here: one is made anew`,
    );
  }

  /** Looks again and again until `left` finds no node. It loops over the nodes twice a second, while a CA is changed. */
  async #until(left: () => Promise<readonly string[]>, what: string): Promise<void> {
    const { clock, log } = this.#options;
    let before = 0;
    for (let names = await left(); names.length > 0; names = await left()) {
      if (names.length !== before)
        log.info(`the change of the ${this.#name} waits: ${what}`, {
          count: names.length,
          reason: names.slice(0, 10).join(" "),
        });
      before = names.length;
      await delay(clock, LOOK_MS, this.#stopped.signal);
      this.#requireRunning();
    }
  }

  /** Managers without the key of the newest CA: it comes with the answer to a renewal. One that is down gets it later. */
  async #lackKey(): Promise<string[]> {
    const { leader, ownNodeId, hasKey } = this.#options;
    const others = leader.state.nodes
      .by("role", "manager")
      .filter((row) => row.id !== ownNodeId && row.state === "ready");
    const newest = this.#newest();
    const have = await Promise.all(others.map((row) => hasKey(row, newest)));
    return others.filter((_, i) => !have[i]).map(({ name }) => name);
  }

  async #waits(): Promise<Pick<RotationResult, "waitsFor" | "reason">> {
    const { holders } = this.#options;
    const isLast = this.#bundle().length === 1;
    const lackKey = isLast || this.#trust()!.signer === this.#newest() ? [] : await this.#lackKey();
    if (lackKey.length > 0) return { waitsFor: lackKey, reason: null };
    const left = isLast ? await holders.trustingAnother() : await holders.notRenewed(this.#newest());
    if (left.length === 0) return { waitsFor: [], reason: null };
    const { names, reason } = await holders.behind();
    return { waitsFor: names.length > 0 ? names : left, reason };
  }

  /** As the log calls the CA. */
  get #name(): string {
    return this.#options.purpose === "nodes" ? "CA of nodes and users" : "CA of the managers' store";
  }

  /** undefined: the CA has no row yet, for it was never changed. */
  #trust(): Trust | undefined {
    const { leader, purpose } = this.#options;
    return leader.state.trust.get(purpose);
  }

  #bundle(): readonly string[] {
    const { ring, purpose } = this.#options;
    return this.#trust()?.bundle ?? [ring.keys[purpose].certificate];
  }

  #newest(): string {
    return publicKeyDigest(this.#bundle().at(-1)!);
  }
}
