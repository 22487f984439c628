// What OpenSSL and Node say of certificates, in words: who is refused, why, and what to do.
import type { X509Certificate } from "node:crypto";
import { subjectOf, validityOf } from "./certificates.ts";
import { timeText } from "./expiry.ts";
import { TrustError } from "./trust-error.ts";

const CLOCK_HINT = "check both clocks with 'timedatectl'";

/** Why a server refuses a client's certificate. `code`: Node's `authorizationError`. */
export function clientRefusal(code: string, certificate: X509Certificate, clusterId: string | undefined): TrustError {
  const { begins, expires } = validityOf(certificate);
  const owner = ownerOf(certificate);
  switch (code) {
    case "CERT_HAS_EXPIRED":
      return new TrustError(
        "expired",
        `the certificate of ${owner.text} expired on ${timeText(expires)}: ${renewHint(owner.kind)}, or ${CLOCK_HINT}`,
      );
    case "CERT_NOT_YET_VALID":
      return new TrustError(
        "not-yet-valid",
        `the certificate of ${owner.text} is not valid before ${timeText(begins)}, by this manager's clock: ${CLOCK_HINT}`,
      );
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
      if (certificate.issuer === certificate.subject) {
        return new TrustError("foreign", "the certificate is signed by itself, and not by this cluster's CA");
      }
  }
  if (/\bCN=overlayd store /.test(certificate.issuer)) {
    return new TrustError("foreign", "the certificate is one of the store's CA, which is for etcd alone");
  }
  if (owner.clusterId !== undefined && owner.clusterId !== clusterId) {
    return new TrustError("foreign", `the certificate of ${owner.text} is of another cluster (${owner.clusterId})`);
  }
  return new TrustError("foreign", `the certificate of ${owner.text} is not signed by this cluster's CA (${code})`);
}

interface Owner {
  readonly text: string;
  readonly kind: "node" | "user" | undefined;
  readonly clusterId?: string;
}

/** The owner that a certificate names, which may be a lie. */
function ownerOf(certificate: X509Certificate): Owner {
  try {
    const { kind, name, clusterId } = subjectOf(certificate);
    return { text: `${kind} '${name}'`, kind, clusterId };
  } catch {
    return { text: "an unknown owner", kind: undefined };
  }
}

function renewHint(kind: "node" | "user" | undefined): string {
  if (kind === "user") return "'overlayctl user add' on a manager makes another";
  return "'overlayctl join' with a token lets the node in again, with its id and tasks";
}

/** Node's and OpenSSL's codes for a server's certificate, and what they mean to a client. */
const SERVER_REFUSALS = new Map<string, (now: number) => TrustError>([
  [
    "CERT_HAS_EXPIRED",
    (now) => new TrustError("expired", `its certificate has expired, if it is ${timeText(now)} now: ${CLOCK_HINT}`),
  ],
  [
    "CERT_NOT_YET_VALID",
    (now) =>
      new TrustError(
        "not-yet-valid",
        `its certificate is not valid yet, if it is ${timeText(now)} now: this machine's clock is behind, or the manager's ahead; ${CLOCK_HINT}`,
      ),
  ],
  ["INVALID_PURPOSE", () => new TrustError("role", "its certificate is a user's, and no node's")],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", () => new TrustError("foreign", "its certificate is signed by itself")],
]);

/** Codes that say that no CA of the bundle signed the server's certificate. */
const FOREIGN_CODES = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "CERT_SIGNATURE_FAILURE",
]);

/**
 * Why a client refuses a server: a TrustError without the server's name; undefined for an error that is not about trust, nor
 * are its causes. `now` is this machine's wall clock.
 */
export function serverRefusal(error: unknown, now: number): TrustError | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof TrustError) return error;
  const { code = "" } = error as NodeJS.ErrnoException;
  if (FOREIGN_CODES.has(code)) return new TrustError("foreign", "its certificate is not signed by this cluster's CA");
  return SERVER_REFUSALS.get(code)?.(now) ?? serverRefusal(error.cause, now);
}
