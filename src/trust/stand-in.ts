// Credentials of a node whose own cannot be read, by a CA of its own: no other node trusts that, and it trusts no other node.
import { createAuthority, createRequest, issue } from "./authority.ts";
import { createKey, type Subject } from "./certificates.ts";
import { Credentials } from "./credentials.ts";

/** `now`: wall-clock milliseconds. */
export async function standInCredentials(subject: Subject, now: number): Promise<Credentials> {
  const authority = await createAuthority({ clusterId: subject.clusterId, purpose: "nodes", now });
  const key = createKey();
  const certificate = await issue(authority, { request: await createRequest(key, subject.name), subject, now });
  return new Credentials({ key, certificate, bundle: [authority.certificate] });
}
