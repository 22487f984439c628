// Renews this node's certificate: at two thirds of its life, when its CA changes, and when its role does. The key stays, for
// the node is known by it. Sessions go on: only new connections use the new certificate (credentials.ts).
import { Backoff } from "../lib/backoff.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Random } from "../lib/random.ts";
import { createRequest } from "./authority.ts";
import { type NodeRole, publicKeyDigest, signerOf, subjectOf, validityOf } from "./certificates.ts";
import type { Credentials } from "./credentials.ts";
import { expiryWarning, renewalDue, timeText } from "./expiry.ts";
import type { IdentityFiles } from "./identity-files.ts";
import { TrustError } from "./trust-error.ts";

/** Timers do not reach 60 days, and a machine may sleep meanwhile: the wall clock is read each hour. */
const LOOK_MS = 3_600_000;
const WARN_EACH_MS = 24 * LOOK_MS;
const FIRST_RETRY_MS = 5_000;

/** A manager's answer to a request. All in PEM. */
interface Renewed {
  readonly certificate: string;
  readonly bundle: readonly string[];
}

/** What the state says of certificates and of this node. */
export interface WantedTrust {
  readonly bundle: readonly string[];
  readonly bridges: readonly string[];
  /** The digest of the public key of the CA that signs now. */
  readonly signer: string;
  readonly role: NodeRole;
  /** Whether this node is a manager that lacks the key of a CA in the bundle: it comes with the answer to a renewal. */
  readonly lacksKey: boolean;
  /** When the CA changes, nodes renew at any moment in this time: a manager signs some hundreds a second. */
  readonly spreadMs: number;
}

interface RenewalOptions {
  readonly credentials: Credentials;
  readonly files: Pick<IdentityFiles, "writeCertificates">;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Has a manager sign the request. */
  readonly renew: (request: string) => Promise<Renewed>;
}

export class Renewal {
  readonly #options: RenewalOptions;
  readonly #backoff = new Backoff(FIRST_RETRY_MS, LOOK_MS);
  #wanted: WantedTrust | undefined;
  #timer: Timer | undefined;
  #isRenewing = false;
  #storing: Promise<void> = Promise.resolve();
  #isStopped = false;
  #warnedAt = Number.NEGATIVE_INFINITY;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  start(): void {
    this.#look();
  }

  /** The state says this now. The bundle is in force, on disk too, when this resolves. */
  async want(wanted: WantedTrust): Promise<void> {
    const { credentials, files, random } = this.#options;
    const before = this.#wanted;
    this.#wanted = wanted;
    const { bundle, bridges } = wanted;
    if (!isSame(bundle, credentials.bundle) || !isSame(bridges, credentials.bridges)) {
      await files.writeCertificates({ bundle, bridges });
      credentials.replace({ bundle, bridges });
    }
    const isOther = before?.signer !== wanted.signer;
    if (!isOther && before.role === wanted.role && before.lacksKey === wanted.lacksKey) return;
    this.#lookIn(before !== undefined && isOther ? random() * wanted.spreadMs : 0);
  }

  /** Does not wait for a manager: what one answers from now on is not used. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#timer?.cancel();
    await this.#storing.catch(() => {}); // the renewal has the failure
  }

  #lookIn(ms: number): void {
    this.#timer?.cancel();
    if (!this.#isStopped) this.#timer = this.#options.clock.after(ms, () => this.#look());
  }

  #look(): void {
    this.#warn();
    const reason = this.#reason();
    if (reason === undefined) {
      this.#lookIn(LOOK_MS);
      return;
    }
    if (this.#isRenewing) return;
    this.#isRenewing = true;
    void this.#renew(reason).then((againMs) => {
      this.#isRenewing = false;
      this.#lookIn(againMs);
    });
  }

  /** Why the certificate is to be renewed; undefined: it is not. */
  #reason(): string | undefined {
    const { credentials, clock } = this.#options;
    if (clock.now() >= renewalDue(credentials.validity)) return "two thirds of its life are over";
    if (this.#wanted === undefined) return undefined;
    const { signer, role, bundle, lacksKey } = this.#wanted;
    const { subject, certificate } = credentials;
    if (subject.kind === "node" && subject.role !== role) return `this node is a ${role} now`;
    if (lacksKey) return "this manager lacks the key of the cluster's next CA";
    return signerOf(certificate, bundle) === signer ? undefined : "the cluster's CA is another one now";
  }

  /** Returns the milliseconds to the next look. */
  async #renew(reason: string): Promise<number> {
    const { credentials, files, log, renew } = this.#options;
    try {
      const { certificate, bundle } = await renew(await createRequest(credentials.key, credentials.subject.name));
      if (this.#isStopped) return LOOK_MS;
      this.#requireOwn(certificate, bundle);
      // The state's bundle may be newer than that of the answer.
      const changed = this.#wanted === undefined ? { certificate, bundle } : { certificate };
      this.#storing = files.writeCertificates(changed);
      await this.#storing;
      credentials.replace(changed);
      log.info(`this node has a new certificate until ${timeText(validityOf(certificate).expires)}`, { reason });
    } catch (error) {
      const againMs = this.#backoff.failed();
      log.warn(`this node's certificate was not renewed: ${messageOf(error)}`, { reason, ms: againMs });
      return againMs;
    }
    // A manager that signs as before, because it is behind, must not be asked without a pause.
    if (this.#reason() !== undefined) return this.#backoff.failed();
    this.#backoff.succeeded();
    return LOOK_MS;
  }

  #requireOwn(certificate: string, bundle: readonly string[]): void {
    const { credentials } = this.#options;
    const [owner, own] = [subjectOf(certificate), credentials.subject];
    const isOwn = owner.id === own.id && owner.clusterId === own.clusterId;
    if (!isOwn || publicKeyDigest(certificate) !== publicKeyDigest(credentials.key)) {
      throw new TrustError("foreign", "the manager answered with another node's certificate");
    }
    if (signerOf(certificate, bundle) === undefined) {
      throw new TrustError("foreign", "the manager answered with a certificate that none of its CAs signed");
    }
  }

  #warn(): void {
    const { credentials, clock, log } = this.#options;
    if (clock.monotonic() - this.#warnedAt < WARN_EACH_MS) return;
    const expiring = [
      expiryWarning("this node's certificate", credentials.validity.expires, clock.now()),
      ...credentials.bundle.map((ca) => expiryWarning("the cluster's CA", validityOf(ca).expires, clock.now())),
    ].filter((warning) => warning !== undefined);
    if (expiring.length === 0) return;
    this.#warnedAt = clock.monotonic();
    for (const warning of expiring) log.warn(warning);
  }
}

function isSame(some: readonly string[], others: readonly string[]): boolean {
  return some.length === others.length && some.every((one, i) => one === others[i]);
}
