// The life of a cluster: services come and go, nodes and the leader are lost and come back.
import test from "ava";
import type { Task } from "../../src/cluster/schema.ts";
import { UserError } from "../../src/lib/errors.ts";
import { createSearch, MANAGER, World } from "./world.ts";

test("create, scale up, scale down, remove: each node runs its share, and reads what it wrote", async (t) => {
  const world = await World.start();
  await createSearch(world);
  t.deepEqual(world.spread(), [1, 1, 1]);
  const { session, calls } = world.nodes[2]!;
  const scaled = await world.during(calls.execute({ type: "service.scale", name: "search", replicas: 7 }));
  t.true(session.state!.revision >= scaled.revision);
  await world.during(calls.waitApplied(scaled.revision, 10_000));
  t.deepEqual(world.spread(), [3, 2, 2]);
  await world.during(calls.execute({ type: "service.scale", name: "search", replicas: 2 }));
  await world.until("two are left", () => session.state!.tasks.size === 2);
  await world.during(calls.execute({ type: "service.remove", name: "search" }));
  await world.until("none is left", () => session.state!.tasks.size === 0 && world.spread().every((n) => n === 0));
  await world.end();
});

test("a node is cut off: it runs on, others stand in; it comes back and takes its place again", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const lost = world.nodes[2]!;
  const [kept] = lost.running;
  world.wire.cut("node3");
  await world.until("another stands in", () => world.spread()[0]! + world.spread()[1]! === 3);
  await world.until("it knows that it is alone", () => !lost.session.connected);
  t.deepEqual([...lost.running], [kept]);
  world.wire.mend("node3");
  await world.until("all is as before", () => world.spread().join() === "1,1,1" && lost.session.connected);
  t.deepEqual([...lost.running], [kept]);
  await world.until("the stand-in is gone", () => world.leader!.state.tasks.size === 3);
  await world.end();
});

test("a machine reboots while it counts as lost: its task is started there again", async (t) => {
  const world = await World.start();
  await createSearch(world);
  await world.nodes[2]!.stop();
  world.nodes[2]!.reboot();
  await world.until("others stand in", () => world.spread()[0]! + world.spread()[1]! === 3);
  await world.nodes[2]!.start();
  t.is(world.nodes[2]!.running.size, 1);
  await world.until("all is as before", () => world.spread().join() === "1,1,1");
  t.pass();
  await world.end();
});

test("without a leader agents go on, refuse writes clearly, and start from their snapshots; the leader has all of it back", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const before = [...world.nodes[1]!.session.state!.tasks.values()].map(({ id, addresses }: Task) => ({
    id,
    addresses,
  }));
  const { revision } = world.nodes[1]!.session.state!;
  await world.stopLeader();
  await world.until("it is noticed", () => world.nodes.every(({ session }) => !session.connected));
  await world.clock.advance(120_000);
  t.deepEqual(world.spread(), [1, 1, 1]);
  const [node] = world.nodes.slice(1);
  const error = await t.throwsAsync(node!.calls.execute({ type: "network.create", name: "web" }), {
    instanceOf: UserError,
  });
  t.is((error as UserError).code, 503);
  t.is(error!.message, `no leader answers (${MANAGER}: ECONNREFUSED)`);
  await node!.stop();
  node!.reboot();
  await node!.start();
  t.is(node!.session.state!.revision, revision);
  t.is(node!.running.size, 1);
  await world.lead();
  await world.until("all are back", () => world.nodes.every(({ session }) => session.connected));
  await world.clock.advance(60_000);
  const after = [...world.leader!.state.tasks.values()].map(({ id, addresses }) => ({ id, addresses }));
  t.deepEqual(after, before);
  await world.during(node!.calls.execute({ type: "network.create", name: "web" }));
  await world.end();
});

test("the barrier names the node that is behind", async (t) => {
  const world = await World.start();
  world.wire.cut("node3");
  const { calls } = world.nodes[0]!;
  const { revision } = await world.during(calls.execute({ type: "network.create", name: "web" }));
  const error = await t.throwsAsync(world.during(calls.waitApplied(revision, 2000)), { instanceOf: UserError });
  t.is(error!.message, `revision ${revision} is not in force on node3 after 2000 ms`);
  await world.end();
});
