// The renewal of a node's certificate, on a virtual clock.
import test, { type ExecutionContext } from "ava";
import type { Log } from "../../src/lib/log.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type Authority, issue } from "../../src/trust/authority.ts";
import { publicKeyDigest, type Subject } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import { Renewal, type WantedTrust } from "../../src/trust/renewal.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { CLUSTER, certificateOf, DAY_MS, node, nodesAuthority } from "./cluster.ts";

const OWN = node("node1");

/** A node whose certificate was just signed, and the manager that it asks. */
async function setUp(t: ExecutionContext) {
  const clock = new VirtualClock();
  const older = await nodesAuthority(CLUSTER, clock.now());
  const younger = await nodesAuthority(CLUSTER, clock.now());
  const credentials = new Credentials({
    ...(await certificateOf(older, OWN, clock.now())),
    bundle: [older.certificate],
  });
  const manager = {
    signs: older,
    subject: OWN as Subject,
    isThere: true,
    asked: 0,
    answered: 0,
    holds: Promise.resolve(),
  };
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (message) => warnings.push(message) };
  const stored: string[] = [];
  const renewal = new Renewal({
    ...{ credentials, clock, log, random: () => 0.5 },
    files: { writeCertificates: async (changed) => void stored.push(...Object.keys(changed)) },
    renew: async (request) => {
      manager.asked++;
      if (!manager.isThere) throw new Error("no manager answers");
      const certificate = await issue(manager.signs, { request, subject: manager.subject, now: clock.now() });
      await manager.holds;
      manager.answered++;
      return { certificate, bundle: bundle() };
    },
  });
  const bundle = () => [...new Set([older.certificate, manager.signs.certificate])];
  t.teardown(() => renewal.stop());
  renewal.start();
  return { clock, older, younger, credentials, manager, warnings, renewal, stored };
}

function wanted(signer: Authority, bundle: Authority[], changes: Partial<WantedTrust> = {}): WantedTrust {
  const certificates = bundle.map(({ certificate }) => certificate);
  const digest = publicKeyDigest(signer.certificate);
  const others = { role: "worker", lacksKey: false, spreadMs: 10_000 } as const;
  return { bundle: certificates, bridges: [], signer: digest, ...others, ...changes };
}

/** Signing takes real time, which the virtual clock does not see. `pass`: how that one goes on meanwhile. */
async function until(t: ExecutionContext, condition: () => boolean, pass = async () => {}): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition() && Date.now() < deadline) {
    await pass();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.true(condition());
}

test("a certificate is renewed at two thirds of its life, with the same key, and no earlier", async (t) => {
  const { clock, credentials, manager, stored } = await setUp(t);
  const { certificate, key } = credentials;
  await clock.advance(59 * DAY_MS);
  t.is(manager.asked, 0);
  await clock.advance(DAY_MS);
  await until(t, () => credentials.certificate !== certificate);
  t.is(credentials.key, key);
  t.is(publicKeyDigest(credentials.certificate), publicKeyDigest(key));
  t.true(credentials.validity.expires > clock.now() + 89 * DAY_MS);
  t.true(stored.includes("certificate"));
  await clock.advance(59 * DAY_MS);
  t.is(manager.asked, 1);
});

test("while no manager answers, renewal is tried again, and the last 14 days warn each day", async (t) => {
  const { clock, credentials, manager, warnings } = await setUp(t);
  const { certificate } = credentials;
  manager.isThere = false;
  await clock.advance(60 * DAY_MS);
  await until(t, () => warnings.length > 0);
  t.regex(warnings[0]!, /was not renewed: no manager answers/);
  t.is(credentials.certificate, certificate);
  const pass = () => clock.advance(3_600_000);
  await until(t, () => warnings.some((text) => /certificate expire/.test(text)), pass);
  manager.isThere = true;
  await until(t, () => credentials.certificate !== certificate, pass);
});

test("a new CA is trusted at once, and signs this node when the state says so", async (t) => {
  const { clock, older, younger, credentials, manager, renewal } = await setUp(t);
  await renewal.want(wanted(older, [older]));
  await renewal.want(wanted(older, [older, younger]));
  t.deepEqual(credentials.bundle, [older.certificate, younger.certificate]);
  await clock.advance(20_000);
  t.is(manager.asked, 0);
  manager.signs = younger;
  await renewal.want(wanted(younger, [older, younger]));
  await clock.advance(4_999);
  t.is(manager.asked, 0);
  await clock.advance(1);
  await until(t, () => credentials.validity.begins === clock.now() - 3_600_000);
  await renewal.want(wanted(younger, [younger]));
  t.deepEqual(credentials.bundle, [younger.certificate]);
});

test("a manager that is behind and signs with the earlier CA is asked again after a pause", async (t) => {
  const { clock, older, younger, credentials, manager, renewal } = await setUp(t);
  const { certificate } = credentials;
  await renewal.want(wanted(younger, [older, younger]));
  await clock.advance(0);
  await until(t, () => manager.asked === 1);
  await until(t, () => credentials.certificate !== certificate);
  t.is(manager.asked, 1);
  manager.signs = younger;
  await until(
    t,
    () => manager.asked === 2,
    () => clock.advance(1_000),
  );
});

test("a node that becomes a manager gets a certificate that says so", async (t) => {
  const { clock, older, credentials, manager, renewal } = await setUp(t);
  await renewal.want(wanted(older, [older]));
  manager.subject = node("node1", "manager");
  await renewal.want(wanted(older, [older], { role: "manager" }));
  await clock.advance(0);
  await until(t, () => credentials.subject.kind === "node" && credentials.subject.role === "manager");
});

test("a stop waits for no manager, and what that answers later is not used", async (t) => {
  const { clock, credentials, manager, renewal } = await setUp(t);
  const { certificate } = credentials;
  let answer = () => {};
  manager.holds = new Promise((resolve) => {
    answer = resolve;
  });
  await clock.advance(60 * DAY_MS);
  await until(t, () => manager.asked === 1);
  await renewal.stop();
  answer();
  await until(t, () => manager.answered === 1);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(credentials.certificate, certificate);
});

test("a manager that lacks the next CA's key asks at once, and again until it has it", async (t) => {
  const { clock, older, younger, manager, renewal } = await setUp(t);
  await renewal.want(wanted(older, [older]));
  await renewal.want(wanted(older, [older, younger], { lacksKey: true }));
  await until(
    t,
    () => manager.asked === 2,
    () => clock.advance(1_000),
  );
  await renewal.want(wanted(older, [older, younger]));
  await clock.advance(DAY_MS);
  t.is(manager.asked, 2);
});

for (const [what, subject] of [
  ["another node's certificate", node("node2")],
  ["a certificate of another cluster", node("node1", "worker", "d".repeat(25))],
] as const) {
  test(`an answer with ${what} is refused`, async (t) => {
    const { clock, credentials, manager, warnings } = await setUp(t);
    const { certificate } = credentials;
    manager.subject = subject;
    await clock.advance(60 * DAY_MS);
    await until(t, () => warnings.length === 1);
    t.regex(warnings.at(-1)!, /another node's certificate/);
    t.is(credentials.certificate, certificate);
  });
}
