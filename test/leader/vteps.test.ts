// Which node gets an address that another node had: none before every live node has heard that the other is gone.
import test from "ava";
import { joining } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { FakeNode, identityOf } from "./fake-node.ts";

const at = (i: number, address: string) => ({ ...identityOf(i), address });
const held = ({ leader }: Cluster, address: string) => leader.state.allocations.get(address);

test("the address of a removed node is held back until every live node has applied that", async (t) => {
  const cluster = await Cluster.start(3);
  const { leader, clock, nodes } = cluster;
  const { address } = identityOf(3);
  nodes.pop();
  await leader.execute({ type: "node.remove", name: "node3", force: true });
  t.like(held(cluster, address), { address, holder: { kind: "node" } });
  let isFree = false;
  const waiting = leader.waitVtep(address).then(() => {
    isFree = true;
  });
  const refused = {
    message: /^the address 192.0.2.13 was that of another node, and is held back .* try again in a moment$/,
  };
  for (const node of nodes) {
    await clock.advance(0);
    t.false(isFree);
    await t.throwsAsync(leader.admit(joining(at(4, address))), refused);
    await node.obey();
  }
  await waiting;
  t.is((await leader.admit(joining(at(4, address)))).address, address);
  t.is(held(cluster, address), undefined);
});

test("a cluster without a live node holds no address back", async (t) => {
  const cluster = await Cluster.start(1);
  const { leader, nodes } = cluster;
  await leader.admit({ ...joining(identityOf(3)), role: "manager" }); // its session has not begun
  await leader.execute({ type: "node.remove", name: nodes.pop()!.identity.name, force: true });
  const { address } = identityOf(1);
  await leader.waitVtep(address);
  t.is((await leader.admit(joining(at(2, address)))).address, address);
});

test("the address that a node moves away from is held back from others, and not from itself", async (t) => {
  const cluster = await Cluster.start(2);
  const { leader, clock } = cluster;
  const node = cluster.nodes.pop()!;
  await clock.advance(60_000); // it is lost, so that it may move
  const moved = new FakeNode(at(2, "198.51.100.2"));
  await moved.join(leader);
  t.truthy(held(cluster, "192.0.2.12"));
  await t.throwsAsync(leader.admit(joining(at(3, "192.0.2.12"))), { message: /held back/ });
  await clock.advance(60_000);
  await node.join(leader);
  t.is(cluster.node("node2").address, "192.0.2.12");
  t.is(held(cluster, "192.0.2.12"), undefined);
  t.truthy(held(cluster, "198.51.100.2"));
});

test("a node that is up is removed by force alone", async (t) => {
  const cluster = await Cluster.start(2);
  await t.throwsAsync(cluster.leader.execute({ type: "node.remove", name: "node2" }), {
    message:
      "node 'node2' is up: run 'overlayctl leave' on it and wait until it is down, or force it out with '--force'",
  });
  await cluster.leader.execute({ type: "node.remove", name: "node2", force: true });
  t.is(cluster.leader.state.nodes.size, 1);
});
