// What a session tells the agent's parts of changes, and the leader of what is in force.
import test from "ava";
import { createSearch, World } from "../sim/world.ts";

test("a session that begins anew tells only what changed meanwhile, and the leader hears what is in force all the same", async (t) => {
  const world = await World.start();
  const [node] = world.nodes;
  const { session, calls } = node!;
  const told: string[][] = [];
  session.onChanges((changes) => told.push(changes.map(({ kind, row }) => `${row === null ? "-" : "+"}${kind}`)));
  await createSearch(world);
  t.true(told.flat().filter((change) => change === "+tasks").length >= 3);
  told.length = 0;

  const { live } = session;
  await world.stopLeader();
  await world.until("it is noticed", () => !session.connected);
  await world.lead();
  await world.until("it is connected again", () => session.connected);
  t.deepEqual(told, []);
  t.is(session.live, live);
  await world.during(calls.waitApplied(session.live.revision, 10_000));

  world.wire.cut("node1");
  await world.until("it is lost", () => !session.connected);
  const { id } = await world.during(world.nodes[1]!.calls.execute({ type: "network.create", name: "web" }));
  world.wire.mend("node1");
  await world.until("it is connected again", () => session.live.networks.has(id));
  t.true(told.flat().includes("+networks"));
  t.false(told.flat().includes("+services"));
  await world.end();
});

test("the first leader that is heard is told, though it has nothing new", async (t) => {
  const world = await World.start();
  await createSearch(world);
  const node = world.nodes[1]!;
  await node.stop();
  await world.stopLeader();
  await node.start();
  const told: number[] = [];
  node.session.onChanges((changes) => told.push(changes.length));
  t.false(node.session.isHeard);
  await world.lead();
  await world.until("it is connected", () => node.session.connected);
  t.deepEqual(told, [0]);
  t.true(node.session.isHeard);
  await world.end();
});
