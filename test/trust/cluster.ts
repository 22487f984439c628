// A cluster's CA for tests, and certificates of it.
import { type Authority, createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { createKey, type NodeRole, type Subject } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
export const CLUSTER = "c".repeat(25);
const now = Date.now();

function idOf(name: string): string {
  return `id${name.replace(/[^a-z0-9]/g, "")}`;
}

export function node(name: string, role: NodeRole = "worker", clusterId = CLUSTER): Subject {
  return { kind: "node", clusterId, id: idOf(name), name, role };
}

export function user(name: string): Subject {
  return { kind: "user", clusterId: CLUSTER, id: idOf(name), name };
}

export async function certificateOf(authority: Authority, subject: Subject, at = now, key = createKey()) {
  const request = await createRequest(key, subject.name);
  return { key, certificate: await issue(authority, { request, subject, now: at }) };
}

export async function credentialsOf(authority: Authority, subject: Subject, at = now): Promise<Credentials> {
  return new Credentials({ ...(await certificateOf(authority, subject, at)), bundle: [authority.certificate] });
}

/** The first block of the text in PEM with one bit changed; `at`: the byte of its content, from the end if negative. */
export function flipped(pem: string, at: number): string {
  const [block, begin, body, end] = /(-----BEGIN [A-Z ]+-----)([^-]+)(-----END [A-Z ]+-----)/.exec(pem)!;
  const bytes = Buffer.from(body!, "base64");
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = bytes[index]! ^ 1;
  const lines = bytes
    .toString("base64")
    .match(/.{1,64}/g)!
    .join("\n");
  return pem.replace(block, `${begin}\n${lines}\n${end}`);
}

export function nodesAuthority(clusterId = CLUSTER, at = now): Promise<Authority> {
  return createAuthority({ clusterId, purpose: "nodes", now: at });
}
