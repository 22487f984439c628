// What this process shows others and whom it trusts: one live object. A renewal changes it while connections go on.
import type { X509Certificate } from "node:crypto";
import { parseCertificate, type Subject, subjectOf, validityOf } from "./certificates.ts";

interface CredentialsOptions {
  /** In PEM, as the two below. */
  readonly certificate: string;
  readonly key: string;
  /** The CAs that are trusted: one, or two while a cluster changes its CA. */
  readonly bundle: readonly string[];
  /** Certificates that are sent after the own one, so that those who trust an older CA find the way from it. */
  readonly bridges?: readonly string[];
}

export class Credentials {
  #options: Required<CredentialsOptions>;
  #parsed: X509Certificate;
  /** BOUNDED: by the servers and clients of this process. */
  readonly #listeners = new Set<() => void>();

  /** Throws TrustError when the certificate is not one of a node or user. */
  constructor(options: CredentialsOptions) {
    this.#options = { bridges: [], ...options };
    this.#parsed = parseCertificate(options.certificate);
    subjectOf(this.#parsed);
  }

  get certificate(): string {
    return this.#options.certificate;
  }

  get key(): string {
    return this.#options.key;
  }

  get bundle(): readonly string[] {
    return this.#options.bundle;
  }

  get bridges(): readonly string[] {
    return this.#options.bridges;
  }

  get subject(): Subject {
    return subjectOf(this.#parsed);
  }

  get validity(): { begins: number; expires: number } {
    return validityOf(this.#parsed);
  }

  /** From now on new connections are made with these. Connections that are open stay. */
  replace(changed: Partial<CredentialsOptions>): void {
    const options = { ...this.#options, ...changed };
    const parsed = parseCertificate(options.certificate);
    subjectOf(parsed);
    this.#options = options;
    this.#parsed = parsed;
    for (const listener of this.#listeners) listener();
  }

  /** Calls after each change. Returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
