// A manager's keys while the CA is changed: two at most, and the one that signs is the one that the state names.
import test from "ava";
import { createAuthority } from "../../src/trust/authority.ts";
import { publicKeyDigest } from "../../src/trust/certificates.ts";
import type { ManagerKeys } from "../../src/trust/identity-files.ts";
import { KeyRing } from "../../src/trust/key-ring.ts";
import { createSealKey } from "../../src/trust/sealed-text.ts";
import { CLUSTER, nodesAuthority } from "./cluster.ts";

async function setUp() {
  const nodes = await nodesAuthority();
  const store = await createAuthority({ clusterId: CLUSTER, purpose: "store", now: Date.now() });
  const keys = { nodes, store, sealKey: createSealKey() };
  const written: ManagerKeys[] = [];
  const ring = new KeyRing({ keys, write: async (changed) => void written.push(changed) });
  return { keys, ring, written, digest: publicKeyDigest(nodes.certificate) };
}

test("the next CA is made once, is on the disk before it is known, and follows when the cluster trusts it alone", async (t) => {
  const { keys, ring, written, digest } = await setUp();
  const made = await Promise.all([
    ring.next("nodes", { clusterId: CLUSTER, now: Date.now() }),
    ring.next("nodes", { clusterId: CLUSTER, now: Date.now() }),
  ]);
  t.is(made[0].next, made[1].next);
  t.deepEqual(written, [{ ...keys, next: made[0].next }]);
  const nextDigest = publicKeyDigest(made[0].next.certificate);
  t.is(ring.signer(digest), keys.nodes);
  t.is(ring.signer(nextDigest), made[0].next);
  await ring.settle("nodes", nextDigest);
  t.deepEqual(ring.keys, { ...keys, nodes: made[0].next });
  t.throws(() => ring.signer(digest), { name: "UserError", message: /does not have the key/ });
});

test("a next CA that was dropped is forgotten, and another one is made", async (t) => {
  const { keys, ring, digest } = await setUp();
  const { next } = await ring.next("nodes", { clusterId: CLUSTER, now: Date.now() });
  await ring.settle("nodes", digest);
  t.deepEqual(ring.keys, keys);
  t.not((await ring.next("nodes", { clusterId: CLUSTER, now: Date.now() })).next.certificate, next.certificate);
});

test("a manager keeps its keys while the state names one that it lacks", async (t) => {
  const { keys, ring } = await setUp();
  const { next } = await ring.next("nodes", { clusterId: CLUSTER, now: Date.now() });
  await ring.settle("nodes", "another");
  t.deepEqual(ring.keys, { ...keys, next });
});

test("keys that could not be written are not used", async (t) => {
  const { keys, digest } = await setUp();
  const ring = new KeyRing({
    keys,
    write: async () => {
      throw new Error("no space left on device");
    },
  });
  await t.throwsAsync(ring.next("nodes", { clusterId: CLUSTER, now: Date.now() }), { message: /no space left/ });
  t.deepEqual(ring.keys, keys);
  t.is(ring.signer(digest), keys.nodes);
});

test("the two CAs of a manager are changed apart from each other", async (t) => {
  const { keys, ring } = await setUp();
  const { next } = await ring.next("store", { clusterId: CLUSTER, now: Date.now() });
  t.deepEqual(ring.keys, { ...keys, nextStore: next });
  const digest = publicKeyDigest(next.certificate);
  t.is(ring.signer(digest), next);
  await ring.settle("nodes", publicKeyDigest(keys.nodes.certificate));
  t.deepEqual(ring.keys, { ...keys, nextStore: next });
  await ring.settle("store", digest);
  t.deepEqual(ring.keys, { ...keys, store: next });
});
