// What a certificate of this cluster says, read with node:crypto alone. Signing is in authority.ts, whose package is slow to load.
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { TrustError } from "./trust-error.ts";

export type NodeRole = "manager" | "worker";

interface NodeSubject {
  readonly kind: "node";
  readonly clusterId: string;
  readonly id: string;
  readonly name: string;
  /** The role at the time of signing. Authority follows the node's row. */
  readonly role: NodeRole;
}

interface UserSubject {
  readonly kind: "user";
  readonly clusterId: string;
  readonly id: string;
  readonly name: string;
}

/** The owner of a certificate. */
export type Subject = NodeSubject | UserSubject;

const SUBJECT_URI = /^URI:overlayd:\/\/([a-z0-9]+)\/(node|user)\/([a-z0-9]+)$/;

/** The one name by which a certificate is known; host names and addresses mean nothing. */
export function uriOf({ clusterId, kind, id }: Subject): string {
  return `overlayd://${clusterId}/${kind}/${id}`;
}

/** The owner, as the certificate says; whether a CA of this cluster signed it is for TLS to check. Throws TrustError. */
export function subjectOf(certificate: X509Certificate | string): Subject {
  const parsed = parseCertificate(certificate);
  const { CN: name, OU: unit } = parsed.toLegacyObject().subject as unknown as Record<string, unknown>;
  const uris = (parsed.subjectAltName ?? "").split(", ").flatMap((one) => SUBJECT_URI.exec(one) ?? []);
  const [whole, clusterId, kind, id] = uris;
  if (whole === undefined || uris.length !== 4 || typeof name !== "string") {
    throw new TrustError("foreign", "the certificate names no node or user of an overlayd cluster");
  }
  if (kind === "user" && unit === "user") return { kind, clusterId: clusterId!, id: id!, name };
  if (kind === "node" && (unit === "manager" || unit === "worker")) {
    return { kind, clusterId: clusterId!, id: id!, name, role: unit };
  }
  throw new TrustError("foreign", `the certificate of '${name}' says no role that overlayd knows`);
}

/** Throws TrustError when the text is no certificate. */
export function parseCertificate(certificate: X509Certificate | string): X509Certificate {
  if (typeof certificate !== "string") return certificate;
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw new TrustError("foreign", "this is no certificate in PEM", { cause });
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g;

/** The certificates of a PEM file. */
export function certificatesIn(text: string): string[] {
  return text.match(CERTIFICATE) ?? [];
}

/** The time span in which a certificate is valid, in wall-clock milliseconds. */
export function validityOf(certificate: X509Certificate | string): { begins: number; expires: number } {
  const { validFrom, validTo } = parseCertificate(certificate);
  return { begins: Date.parse(validFrom), expires: Date.parse(validTo) };
}

/** A new private key, ECDSA P-256, PKCS #8 in PEM. */
export function createKey(): string {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ format: "pem", type: "pkcs8" }) as string;
}

/** Characters of a digest: 256 bits to the base of 36. */
export const DIGEST_LENGTH = 50;

/** The SHA-256 of a public key (SPKI), as 50 characters of a-z0-9. `pem` is a certificate, a public or a private key. */
export function publicKeyDigest(pem: string | KeyObject | X509Certificate): string {
  const key = pem instanceof X509Certificate ? pem.publicKey : typeof pem === "string" ? createPublicKey(pem) : pem;
  const spki = key.export({ format: "der", type: "spki" });
  const digest = createHash("sha256").update(spki).digest("hex");
  return BigInt(`0x${digest}`).toString(36).padStart(DIGEST_LENGTH, "0");
}

/** Whether the certificate is a CA's, signed by itself, and as it was signed. Throws TrustError when the text is no certificate. */
export function isAuthority(certificate: string): boolean {
  const parsed = parseCertificate(certificate);
  return parsed.ca && parsed.verify(parsed.publicKey);
}

/** The digest of the public key of the CA that signed the certificate; undefined when it is none of `authorities`. */
export function signerOf(certificate: X509Certificate | string, authorities: readonly string[]): string | undefined {
  const parsed = parseCertificate(certificate);
  const signer = authorities.map(parseCertificate).find(({ publicKey }) => parsed.verify(publicKey));
  return signer && publicKeyDigest(signer);
}
