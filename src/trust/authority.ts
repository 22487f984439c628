// A CA, and what it signs: ECDSA P-256 with SHA-256 (RFC 5280). @peculiar/x509 is loaded at the first use: it takes 70 ms.
import { createPrivateKey, createPublicKey, type KeyObject, webcrypto } from "node:crypto";
import type { Extension, Name } from "@peculiar/x509";
import { UserError } from "../lib/errors.ts";
import { createKey, publicKeyDigest, type Subject, uriOf, validityOf } from "./certificates.ts";
import { BACKDATED_MS } from "./expiry.ts";

/** A CA: its certificate and its private key, both in PEM. */
export interface Authority {
  readonly certificate: string;
  readonly key: string;
}

/** Two CAs, because etcd trusts every certificate of its own. */
export type AuthorityPurpose = "nodes" | "store";

const DAY_MS = 86_400_000;
/** The life of a node's certificate. A node renews it at two thirds. */
export const CERTIFICATE_LIFE_MS = 90 * DAY_MS;
/** The life of a user's certificate. It is not renewed: the user is added again. */
export const USER_CERTIFICATE_LIFE_MS = 365 * DAY_MS;
const AUTHORITY_LIFE_MS = 20 * 365 * DAY_MS;
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };
const P256 = { name: "ECDSA", namedCurve: "P-256" };

/** A new CA with a new key. */
export async function createAuthority(options: {
  clusterId: string;
  purpose: AuthorityPurpose;
  now: number;
}): Promise<Authority> {
  const { clusterId, purpose, now } = options;
  const key = createKey();
  // The name has the key in it, so that of two CAs of one cluster none is taken for the other.
  const name = await authorityName(clusterId, purpose, publicKeyDigest(key));
  const certificate = await sign({ key, issuer: name }, { ...authorityFields(name, now), publicKey: publicOf(key) });
  return { certificate, key };
}

/** A certificate for the key of `younger`, signed by `older`: who trusts `older` alone can trust what `younger` signs. */
export async function bridge(older: Authority, younger: Authority, now: number): Promise<string> {
  const issuer = await subjectName(older.certificate);
  const subject = await subjectName(younger.certificate);
  const fields = authorityFields(subject, now);
  const expires = Math.min(fields.expires, validityOf(older.certificate).expires);
  return sign({ key: older.key, issuer }, { ...fields, expires, publicKey: publicOf(younger.key) });
}

/** A request for a certificate (PKCS #10), signed with `key`. The authority takes nothing from it but the key. */
export async function createRequest(key: string, name: string): Promise<string> {
  const x509 = await loadX509();
  const keys = { privateKey: await privateKeyOf(key), publicKey: await publicKeyOf(publicOf(key)) };
  const names = [{ CN: [name] }];
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: names,
    keys,
    signingAlgorithm: SIGNATURE,
  });
  return request.toString("pem");
}

/** The public key of a request that its owner signed. Throws UserError 400 when it cannot be used. */
export async function requestedKey(request: string): Promise<KeyObject> {
  const x509 = await loadX509();
  const fail = (message: string, cause?: unknown) => new UserError(400, message, { field: "request", cause });
  let isSigned: boolean;
  let key: KeyObject;
  try {
    const parsed = new x509.Pkcs10CertificateRequest(request);
    key = createPublicKey({ key: Buffer.from(parsed.publicKey.rawData), format: "der", type: "spki" });
    if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1") throw fail("the key of a request is of ECDSA P-256");
    isSigned = await parsed.verify();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw fail("this is no certificate request (PKCS #10 in PEM)", error);
  }
  if (!isSigned) throw fail("the certificate request is not signed with the key that it names");
  return key;
}

interface Issue {
  /** The certificate request, in PEM. */
  readonly request: string;
  readonly subject: Subject;
  readonly now: number;
  /** IPv4 addresses that the certificate names too: etcd checks them. */
  readonly addresses?: readonly string[];
}

/** A certificate for the key of the request. Throws UserError 400 when the request cannot be used. */
export async function issue(authority: Authority, { request, subject, now, addresses = [] }: Issue): Promise<string> {
  const isUser = subject.kind === "user";
  const lifeMs = isUser ? USER_CERTIFICATE_LIFE_MS : CERTIFICATE_LIFE_MS;
  const publicKey = await requestedKey(request);
  return sign(
    { key: authority.key, issuer: await subjectName(authority.certificate) },
    {
      name: await nameOf({ CN: subject.name, OU: isUser ? "user" : subject.role }),
      begins: now - BACKDATED_MS,
      expires: Math.min(now + lifeMs, validityOf(authority.certificate).expires),
      publicKey,
      uri: uriOf(subject),
      addresses,
      usages: isUser ? ["clientAuth"] : ["clientAuth", "serverAuth"],
    },
  );
}

interface Fields {
  readonly name: Name;
  readonly begins: number;
  readonly expires: number;
  readonly publicKey: KeyObject;
  /** undefined: the certificate is a CA's. */
  readonly uri?: string;
  readonly addresses?: readonly string[];
  readonly usages?: readonly ("clientAuth" | "serverAuth")[];
}

function authorityName(clusterId: string, purpose: AuthorityPurpose, digest: string): Promise<Name> {
  return nameOf({ CN: `overlayd ${purpose} ${digest.slice(0, 10)}`, O: clusterId });
}

/** The values are taken as they are: a string alone would be read for quotes and escapes. */
async function nameOf(parts: Record<string, string>): Promise<Name> {
  const x509 = await loadX509();
  return new x509.Name(Object.entries(parts).map(([type, utf8String]) => ({ [type]: [{ utf8String }] })));
}

function authorityFields(name: Name, now: number): Omit<Fields, "publicKey"> {
  return { name, begins: now - BACKDATED_MS, expires: now + AUTHORITY_LIFE_MS };
}

async function sign(signer: { key: string; issuer: Name }, fields: Fields): Promise<string> {
  const x509 = await loadX509();
  const { uri, usages = [], addresses = [] } = fields;
  const publicKey = await publicKeyOf(fields.publicKey);
  const extensions: Extension[] = [
    await x509.SubjectKeyIdentifierExtension.create(publicKey),
    await x509.AuthorityKeyIdentifierExtension.create(await publicKeyOf(publicOf(signer.key))),
    new x509.BasicConstraintsExtension(uri === undefined, undefined, true),
    new x509.KeyUsagesExtension(
      uri === undefined
        ? x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign
        : x509.KeyUsageFlags.digitalSignature,
      true,
    ),
  ];
  if (uri !== undefined) {
    const names = [{ type: "url" as const, value: uri }, ...addresses.map((value) => ({ type: "ip" as const, value }))];
    extensions.push(
      new x509.ExtendedKeyUsageExtension(usages.map((usage) => x509.ExtendedKeyUsage[usage])),
      new x509.SubjectAlternativeNameExtension(names),
    );
  }
  const certificate = await x509.X509CertificateGenerator.create({
    subject: fields.name,
    issuer: signer.issuer,
    notBefore: new Date(fields.begins),
    notAfter: new Date(fields.expires),
    publicKey,
    signingKey: await privateKeyOf(signer.key),
    signingAlgorithm: SIGNATURE,
    extensions,
  });
  return `${certificate.toString("pem")}\n`;
}

async function subjectName(certificate: string): Promise<Name> {
  const x509 = await loadX509();
  return new x509.X509Certificate(certificate).subjectName;
}

function publicOf(key: string): KeyObject {
  return createPublicKey(key);
}

function privateKeyOf(pem: string): Promise<webcrypto.CryptoKey> {
  const pkcs8 = createPrivateKey(pem).export({ format: "der", type: "pkcs8" });
  return webcrypto.subtle.importKey("pkcs8", pkcs8, P256, false, ["sign"]);
}

function publicKeyOf(key: KeyObject): Promise<webcrypto.CryptoKey> {
  return webcrypto.subtle.importKey("spki", key.export({ format: "der", type: "spki" }), P256, true, ["verify"]);
}

/** The package needs the metadata of its decorators before it is loaded. */
async function loadX509() {
  await import("reflect-metadata");
  return import("@peculiar/x509");
}
