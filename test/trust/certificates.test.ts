// What CAs sign, and what is read of it.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { bridge, CERTIFICATE_LIFE_MS, createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { createKey, parseCertificate, publicKeyDigest, subjectOf, validityOf } from "../../src/trust/certificates.ts";
import { temporaryDirectory } from "../temporary.ts";
import { CLUSTER, certificateOf, HOUR_MS, node, nodesAuthority, user } from "./cluster.ts";

const NOW = Date.UTC(2026, 10, 30, 12);

for (const subject of [node("node1", "manager"), node("node2"), user("alice"), node('a "b", c=d\\e')]) {
  test(`a certificate says its owner: ${subject.kind} ${subject.name}`, async (t) => {
    const { certificate } = await certificateOf(await nodesAuthority(), subject);
    t.deepEqual(subjectOf(certificate), subject);
  });
}

test("a certificate begins an hour back and lives 90 days, but not longer than its CA", async (t) => {
  const authority = await nodesAuthority(CLUSTER, NOW);
  const { certificate } = await certificateOf(authority, node("node1"), NOW);
  t.deepEqual(validityOf(certificate), { begins: NOW - HOUR_MS, expires: NOW + CERTIFICATE_LIFE_MS });
  const { expires } = validityOf(authority.certificate);
  const late = await certificateOf(authority, node("node1"), expires - 5 * HOUR_MS);
  t.is(validityOf(late.certificate).expires, expires);
});

test("the key of a certificate is that of the request, and its digest is the same in each form", async (t) => {
  const { key, certificate } = await certificateOf(await nodesAuthority(), node("node1"));
  t.is(publicKeyDigest(certificate), publicKeyDigest(key));
  t.regex(publicKeyDigest(key), /^[a-z0-9]{50}$/);
  t.not(publicKeyDigest(key), publicKeyDigest(createKey()));
});

test("nothing of a request but its key gets into the certificate", async (t) => {
  const request = await createRequest(createKey(), "manager1");
  const certificate = await issue(await nodesAuthority(), { request, subject: node("worker1"), now: NOW });
  t.deepEqual(subjectOf(certificate), node("worker1"));
});

test("a request that is none, is cut, or is signed with another key is refused", async (t) => {
  const authority = await nodesAuthority();
  const refused = async (request: string, message: RegExp) =>
    t.throwsAsync(issue(authority, { request, subject: node("node1"), now: NOW }), { name: "UserError", message });
  const request = await createRequest(createKey(), "node1");
  await refused("hello", /no certificate request/);
  await refused(request.slice(0, 200), /no certificate request/);
  await refused(withOtherSignature(request), /is not signed with the key that it names/);
  const home = temporaryDirectory("request");
  const arguments_ = ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", join(home, "key"), "-subj", "/CN=x"];
  await refused(execFileSync("openssl", arguments_, { encoding: "utf8", stdio: "pipe" }), /ECDSA P-256/);
});

/** The request with the last byte of its signature changed. */
function withOtherSignature(request: string): string {
  const bytes = Buffer.from(request.replace(/-----[^-]+-----|\s/g, ""), "base64");
  bytes[bytes.length - 1]! ^= 1;
  return `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString("base64")}\n-----END CERTIFICATE REQUEST-----\n`;
}

test("openssl finds a CA, its certificate and a bridge in order", async (t) => {
  const older = await nodesAuthority();
  const younger = await nodesAuthority();
  const { certificate } = await certificateOf(younger, node("node1", "manager"));
  const home = temporaryDirectory("openssl");
  const file = (name: string, text: string) => {
    writeFileSync(join(home, name), text);
    return join(home, name);
  };
  const verify = (...words: string[]) =>
    execFileSync("openssl", ["verify", "-x509_strict", ...words], { stdio: "pipe" });
  const leaf = file("leaf", certificate);
  t.regex(String(verify("-CAfile", file("younger", younger.certificate), leaf)), /OK/);
  const between = file("bridge", await bridge(older, younger, Date.now()));
  t.regex(String(verify("-CAfile", file("older", older.certificate), "-untrusted", between, leaf)), /OK/);
  t.throws(() => verify("-CAfile", join(home, "older"), leaf));
});

test("a certificate of the store's CA names addresses, and is good for servers and clients", async (t) => {
  const store = await createAuthority({ clusterId: CLUSTER, purpose: "store", now: NOW });
  const request = await createRequest(createKey(), "node1");
  const subject = node("node1", "manager");
  const pem = await issue(store, { request, subject, now: NOW, addresses: ["127.0.0.1", "192.0.2.11"] });
  const certificate = parseCertificate(pem);
  t.is(certificate.checkIP("127.0.0.1"), "127.0.0.1");
  t.is(certificate.checkIP("192.0.2.11"), "192.0.2.11");
  t.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"]);
  t.deepEqual(subjectOf(certificate), subject);
});

for (const [what, text, message] of [
  ["is no certificate", "hello", /no certificate in PEM/],
  ["is a CA's", undefined, /names no node or user/],
] as const) {
  test(`a text that ${what} has no owner`, async (t) => {
    const pem = text ?? (await nodesAuthority()).certificate;
    t.throws(() => subjectOf(pem), { name: "TrustError", message });
  });
}
