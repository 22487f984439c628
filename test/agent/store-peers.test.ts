// Who reaches a manager's part of the store, while managers come and go.
import test from "ava";
import { StorePeers } from "../../src/agent/store-peers.ts";
import type { Node } from "../../src/cluster/schema.ts";
import { LiveState } from "../../src/cluster/state.ts";
import { nodeRow, put } from "../api/fake-backend.ts";
import { VirtualClock } from "../fakes/virtual-clock.ts";

const [one, two] = [nodeRow("node1"), nodeRow("node2")];
const ID = one.id;

/** Two managers, and what one of them lets in. */
function world() {
  const clock = new VirtualClock();
  const peers = new StorePeers(clock);
  const state = new LiveState();
  let revision = 0;
  const set = (node: Node): unknown => state.apply([put.node(node)], ++revision);
  for (const node of [one, two]) set({ ...node, role: "manager" });
  return { clock, state, set, addresses: () => peers.addresses(state, ID), next: () => ++revision };
}

test("managers reach a manager's store, and a worker has none", (t) => {
  const { set, addresses } = world();
  t.deepEqual(addresses(), [one.address, two.address]);
  set({ ...one, role: "worker" });
  t.is(addresses(), null);
});

test("a manager that was demoted reaches it until its member is removed, and no longer", async (t) => {
  const { clock, set, addresses } = world();
  addresses();
  set({ ...two, role: "worker" });
  t.deepEqual(addresses(), [one.address, two.address]);
  await clock.advance(61_000);
  t.deepEqual(addresses(), [one.address]);
});

test("a node that was removed reaches it no longer at once", (t) => {
  const { state, addresses, next } = world();
  addresses();
  state.apply([{ kind: "nodes", key: two.id, row: null }], next());
  t.deepEqual(addresses(), [one.address]);
});
