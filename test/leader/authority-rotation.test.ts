// A change of the nodes' CA, step by step, with nodes that renew as the state says, and real TLS between them.
import test, { type ExecutionContext } from "ava";
import { Command, type CommandInput } from "../../src/cluster/commands.ts";
import { trustOf } from "../../src/cluster/lookup.ts";
import type { Node } from "../../src/cluster/schema.ts";
import { Draft, emptyState } from "../../src/cluster/state.ts";
import type { Trust } from "../../src/cluster/trust-rows.ts";
import { type AuthorityHolders, AuthorityRotation } from "../../src/leader/authority-rotation.ts";
import { rotateAuthority } from "../../src/leader/members.ts";
import { nodesAuthority } from "../../src/leader/nodes-authority.ts";
import { UserError } from "../../src/lib/errors.ts";
import { silentLog } from "../../src/lib/log.ts";
import { type Authority, createAuthority, createRequest, issue } from "../../src/trust/authority.ts";
import { publicKeyDigest, signerOf, validityOf } from "../../src/trust/certificates.ts";
import { Credentials } from "../../src/trust/credentials.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { KeyRing } from "../../src/trust/key-ring.ts";
import { pinnedTls } from "../../src/trust/pinned.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { clientTls } from "../../src/trust/tls.ts";
import { id, nodeRow } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";
import { CLUSTER, certificateOf, DAY_MS, HOUR_MS, node } from "../trust/cluster.ts";
import { get, serve } from "../trust/tls-server.ts";

/** The rows of a cluster and its managers' disks. */
class Fixture {
  readonly clock = new VirtualClock(Date.now());
  readonly state = emptyState();
  readonly first: Authority;
  /** By the name of the manager. */
  readonly rings = new Map<string, KeyRing>();
  readonly steps: string[] = [];
  /** Nodes that do not renew. */
  readonly off = new Set<string>();
  #isLeading = true;

  constructor(keys: ManagerKeys, names: { managers: readonly string[]; workers: readonly string[] }) {
    this.first = keys.nodes;
    this.state.cluster = { id: CLUSTER, epoch: 1 };
    for (const name of names.managers) this.rings.set(name, new KeyRing({ keys, write: async () => {} }));
    const signer = publicKeyDigest(keys.nodes.certificate);
    this.write((draft) => {
      draft.put("trust", { bundle: [keys.nodes.certificate], signer });
      for (const name of [...names.managers, ...names.workers]) {
        const role = names.managers.includes(name) ? "manager" : "worker";
        const certificateExpires = this.clock.now() + 45 * DAY_MS;
        draft.put("nodes", nodeRow(name, { role, certificateExpires, certificateSigner: signer }));
      }
    });
  }

  static async make(managers: readonly string[], workers: readonly string[]): Promise<Fixture> {
    const now = Date.now();
    const nodes = await createAuthority({ clusterId: CLUSTER, purpose: "nodes", now });
    const store = await createAuthority({ clusterId: CLUSTER, purpose: "store", now });
    return new Fixture({ nodes, store, sealKey: createSealKey() }, { managers, workers });
  }

  get trust(): Trust {
    return trustOf(this.state)!;
  }

  /** `store`: the members of etcd, whose CA is changed; left out: the nodes' CA is. */
  rotation(leader: string, store?: AuthorityHolders): AuthorityRotation {
    const { state, clock } = this;
    const nodes = nodesAuthority({ leader: { state, waitApplied: async () => [] }, clock, log: silentLog });
    return new AuthorityRotation({
      purpose: store === undefined ? "nodes" : "store",
      holders: store ?? nodes,
      leader: { state, execute: async (input) => this.#execute(input) },
      hasKey: async ({ name }, digest) => this.rings.get(name)!.has(digest),
      ...{ ring: this.rings.get(leader)!, ownNodeId: id(leader), clock, log: silentLog },
    });
  }

  /** The leader's next command fails, as it does when another one leads. */
  stopLeading(): void {
    this.#isLeading = false;
  }

  lead(): void {
    this.#isLeading = true;
  }

  write(change: (draft: Draft) => void): void {
    const draft = new Draft(this.state);
    change(draft);
    this.state.apply(draft.changes, draft.revision);
  }

  /** Every node that is on renews, if the state says so or it is a manager that lacks a key. `keysOf`: the leader. */
  async obey(keysOf: string): Promise<void> {
    const { bundle, signer } = this.trust;
    const newest = publicKeyDigest(bundle.at(-1)!);
    for (const row of [...this.state.nodes.values()].filter(({ name }) => !this.off.has(name))) {
      const ring = this.rings.get(row.name);
      const lacksKey = ring !== undefined && !ring.has(newest) && this.rings.get(keysOf)!.has(newest);
      if (lacksKey) await ring.replace(this.rings.get(keysOf)!.keys);
      if (lacksKey || row.certificateSigner !== signer) this.renew(row, signer);
    }
  }

  renew(row: Node, certificateSigner: string): void {
    const certificateExpires = this.clock.now() + 90 * DAY_MS;
    this.write((draft) => draft.put("nodes", { ...row, certificateExpires, certificateSigner }));
  }

  #execute(input: CommandInput) {
    if (!this.#isLeading) throw new UserError(503, "this manager leads no longer");
    const command = Command.parse(input);
    if (command.type !== "authority.rotate") throw new Error(`no step: ${command.type}`);
    this.write((draft) => rotateAuthority(draft, command));
    this.steps.push(command.step.is);
    return { revision: this.state.revision, id: "" };
  }
}

/** Lets virtual and real time pass until the condition holds. */
async function until(t: ExecutionContext, fixture: Fixture, condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 120_000;
  while (!condition() && Date.now() < deadline) {
    await fixture.clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  t.true(condition());
}

test("a change of the CA waits for managers' keys, then for every node's certificate", async (t) => {
  const fixture = await Fixture.make(["node1", "node2"], ["node3"]);
  const { steps, first, rings } = fixture;
  const rotation = fixture.rotation("node1");
  t.teardown(() => rotation.stop());
  const done = rotation.rotate(DAY_MS);
  await until(t, fixture, () => steps.length === 1);
  await fixture.clock.advance(10_000);
  t.deepEqual(steps, ["begin"]);
  t.is(fixture.trust.bundle.length, 2);
  t.is(fixture.trust.signer, publicKeyDigest(first.certificate));
  fixture.off.add("node3");
  await fixture.obey("node1");
  await until(t, fixture, () => steps.length === 2);
  await fixture.obey("node1");
  await fixture.clock.advance(10_000);
  t.deepEqual(steps, ["begin", "issue"]);
  fixture.off.clear();
  await fixture.obey("node1");
  await until(t, fixture, () => steps.length === 3);
  const { signer, waitsFor } = await done;
  t.deepEqual(waitsFor, []);
  t.is(signer, fixture.trust.signer);
  t.not(signer, publicKeyDigest(first.certificate));
  t.deepEqual(fixture.trust.bundle, [rings.get("node1")!.signer(signer).certificate]);
  t.is(rings.get("node1")!.keys.next, undefined);
});

test("a node that is off is named, and its certificate's end ends the wait", async (t) => {
  const fixture = await Fixture.make(["node1"], ["node2"]);
  fixture.off.add("node2");
  const node2 = fixture.state.nodes.get(id("node2"))!;
  fixture.write((draft) => draft.put("nodes", { ...node2, certificateExpires: fixture.clock.now() + HOUR_MS }));
  const rotation = fixture.rotation("node1");
  t.teardown(() => rotation.stop());
  const answer = rotation.rotate(5_000);
  await until(t, fixture, () => fixture.steps.length === 2);
  await fixture.obey("node1");
  await fixture.clock.advance(5_000);
  t.deepEqual((await answer).waitsFor, ["node2"]);
  await fixture.clock.advance(HOUR_MS);
  await until(t, fixture, () => fixture.steps.length === 3);
});

test("another leader goes on with a change whose key it has", async (t) => {
  const fixture = await Fixture.make(["node1", "node2"], []);
  const earlier = fixture.rotation("node1");
  earlier.rotate(DAY_MS).catch(() => {}); // it is stopped
  await until(t, fixture, () => fixture.steps.length === 1);
  await fixture.obey("node1");
  fixture.stopLeading();
  await earlier.stop();
  fixture.lead();
  const later = fixture.rotation("node2");
  t.teardown(() => later.stop());
  later.resume();
  // The manager that made the key is back, and has no reason to renew: the change does not wait for that.
  fixture.off.add("node1");
  await until(t, fixture, () => fixture.steps.length === 2);
  fixture.off.clear();
  await fixture.obey("node2");
  await until(t, fixture, () => fixture.steps.length === 3);
  t.is(fixture.trust.signer, publicKeyDigest(fixture.trust.bundle[0]!));
});

test("another leader drops a CA whose key did not get to it, and makes one anew", async (t) => {
  const fixture = await Fixture.make(["node1", "node2"], []);
  const earlier = fixture.rotation("node1");
  earlier.rotate(DAY_MS).catch(() => {}); // it is stopped
  await until(t, fixture, () => fixture.steps.length === 1);
  await earlier.stop();
  const later = fixture.rotation("node2");
  t.teardown(() => later.stop());
  later.resume();
  await until(t, fixture, () => fixture.steps.length === 3);
  t.deepEqual(fixture.steps, ["begin", "end", "begin"]);
  const { bundle, bridges } = fixture.trust;
  t.is(bundle[0], fixture.first.certificate);
  t.true(fixture.rings.get("node2")!.has(publicKeyDigest(bundle[1]!)));
  t.is(bridges!.at(-1), fixture.first.certificate);
  t.is(bridges!.length, 2);
});

/** Members of etcd of which the test says how far they are. */
class StoreHolders implements AuthorityHolders {
  refusal: UserError | undefined;
  held: { names: string[]; reason: string | null } = { names: [], reason: null };
  left = { notTrustingBoth: ["node2"], notRenewed: ["node2"], trustingAnother: ["node2"] };

  async requireReady(): Promise<void> {
    if (this.refusal !== undefined) throw this.refusal;
  }

  async notTrustingBoth(): Promise<string[]> {
    return this.left.notTrustingBoth;
  }

  async notRenewed(): Promise<string[]> {
    return this.left.notRenewed;
  }

  async trustingAnother(): Promise<string[]> {
    return this.left.trustingAnother;
  }

  async behind(): Promise<{ names: string[]; reason: string | null }> {
    return this.held;
  }
}

test("the store's CA is changed as the members of etcd follow, also by the next leader, and the nodes' stays", async (t) => {
  const fixture = await Fixture.make(["node1", "node2"], []);
  const { steps, rings, state, clock } = fixture;
  const holders = new StoreHolders();
  const before = fixture.trust;
  const earlier = fixture.rotation("node1", holders);
  earlier.rotate(DAY_MS).catch(() => {}); // it is stopped
  await until(t, fixture, () => steps.length === 1);
  const newest = state.trust.get("store")!.bundle[1]!;
  const digest = publicKeyDigest(newest);
  // It comes with the answer to a renewal.
  await rings.get("node2")!.replace(rings.get("node1")!.keys);
  await clock.advance(10_000);
  t.deepEqual(steps, ["begin"]);
  await earlier.stop();

  const later = fixture.rotation("node2", holders);
  t.teardown(() => later.stop());
  const done = later.rotate(DAY_MS);
  holders.left.notTrustingBoth = [];
  await until(t, fixture, () => steps.length === 2);
  t.is(state.trust.get("store")!.signer, digest);
  await clock.advance(10_000);
  t.deepEqual(steps, ["begin", "issue"]);
  holders.left.notRenewed = [];
  await until(t, fixture, () => steps.length === 3);
  t.deepEqual(state.trust.get("store")!.bundle, [newest]);
  holders.left.trustingAnother = [];
  await clock.advance(1000);
  t.deepEqual(await done, { signer: digest, waitsFor: [], reason: null });
  t.is(publicKeyDigest(rings.get("node2")!.keys.store.certificate), digest);
  t.deepEqual(fixture.trust, before);
});

test("a change of the store's CA that must not begin changes nothing, and one that is under way goes on", async (t) => {
  const fixture = await Fixture.make(["node1"], []);
  const holders = new StoreHolders();
  holders.refusal = new UserError(409, "the etcd of node2 is not well");
  const rotation = fixture.rotation("node1", holders);
  t.teardown(() => rotation.stop());
  await t.throwsAsync(rotation.rotate(DAY_MS), { message: /etcd of node2/ });
  t.deepEqual(fixture.steps, []);
  t.is(fixture.rings.get("node1")!.keys.nextStore, undefined);
  holders.refusal = undefined;
  t.deepEqual((await asked(rotation.rotate(1000), fixture)).waitsFor, ["node2"]);
  holders.refusal = new UserError(409, "the etcd of node2 is not well");
  holders.held = { names: ["node3"], reason: "node3 is off" };
  const { waitsFor, reason } = await asked(rotation.rotate(1000), fixture);
  t.deepEqual({ waitsFor, reason }, { waitsFor: ["node3"], reason: "node3 is off" });
});

async function asked<T>(answer: Promise<T>, { clock }: Fixture): Promise<T> {
  const over = new AbortController();
  answer.then(
    () => over.abort(),
    () => over.abort(),
  );
  while (!over.signal.aborted) {
    await clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return answer;
}

test("while the CA changes, old and new certificates and tokens work, and a node that was off finds its way back", async (t) => {
  const fixture = await Fixture.make(["node1"], []);
  const { first, rings, steps } = fixture;
  const ring = rings.get("node1")!;
  const bundle = [first.certificate];
  const manager = new Credentials({ ...(await certificateOf(first, node("node1", "manager"))), bundle });
  const server = await serve(manager);
  t.teardown(() => server.close());
  const worker = new Credentials({ ...(await certificateOf(first, node("node2"))), bundle });
  const absent = new Credentials({ ...(await certificateOf(first, node("node3"))), bundle });
  const at = { host: "127.0.0.1", port: server.port };
  const connects = (by: Credentials) => get(server.port, clientTls(by, { role: "manager" }));
  const joins = async (digest: string) => get(server.port, await pinnedTls(at, digest, { timeoutMs: 10_000 }));
  /** As a renewal does. */
  const follow = async (credentials: Credentials) => {
    const { signer, bridges = [], ...trust } = fixture.trust;
    credentials.replace({ bundle: trust.bundle, bridges });
    if (signerOf(credentials.certificate, trust.bundle) === signer) return;
    const { subject, key } = credentials;
    const request = await createRequest(key, subject.name);
    credentials.replace({ certificate: await issue(ring.signer(signer), { request, subject, now: Date.now() }) });
  };
  const digest = publicKeyDigest(first.certificate);
  t.is(await connects(worker), "node2");
  t.is(await joins(digest), "no name");

  const rotation = fixture.rotation("node1");
  t.teardown(() => rotation.stop());
  rotation.rotate(DAY_MS).catch(() => {}); // it may be stopped
  await until(t, fixture, () => steps.length === 2);
  await follow(manager);
  t.is(await connects(worker), "node2", "a node that has not heard of the change yet");
  await follow(worker);
  t.is(await connects(worker), "node2");
  for (const printed of [digest, fixture.trust.signer]) t.is(await joins(printed), "no name");

  await fixture.obey("node1");
  await until(t, fixture, () => steps.length === 3);
  await follow(manager);
  await follow(worker);
  t.is(await connects(worker), "node2");
  for (const printed of [digest, fixture.trust.signer]) t.is(await joins(printed), "no name");
  t.regex(await connects(absent), /'node3' is not signed by this cluster's CA/);
  t.true(validityOf(worker.certificate).expires > Date.now());
});

test("tokens of earlier CAs work after several changes", async (t) => {
  const fixture = await Fixture.make(["node1"], []);
  const ring = fixture.rings.get("node1")!;
  const digests = [publicKeyDigest(fixture.first.certificate)];
  for (let round = 1; round <= 3; round++) {
    const rotation = fixture.rotation("node1");
    rotation.rotate(DAY_MS).catch(() => {}); // it may be stopped
    await until(t, fixture, () => fixture.steps.length === 3 * round - 1);
    await fixture.obey("node1");
    await until(t, fixture, () => fixture.steps.length === 3 * round);
    await rotation.stop();
    digests.push(fixture.trust.signer);
  }
  const { bundle, bridges, signer } = fixture.trust;
  const shown = await certificateOf(ring.signer(signer), node("node1", "manager"));
  const server = await serve(new Credentials({ ...shown, bundle, bridges: bridges! }));
  t.teardown(() => server.close());
  for (const digest of digests) {
    const pinned = await pinnedTls({ host: "127.0.0.1", port: server.port }, digest, { timeoutMs: 10_000 });
    t.is(await get(server.port, pinned), "no name");
  }
});
