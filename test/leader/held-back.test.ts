// A command that needs an address which was released a moment ago waits until every node knows of that, and the nodes are
// asked to tell at once.
import test from "ava";
import { PeerCalls } from "../../src/leader/peer-calls.ts";
import { silentLog } from "../../src/lib/log.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { identityOf } from "./fake-node.ts";

const HELD_MS = 2000;

/** A network whose addresses are all in use by endpoints; `create` asks for one more, through the calls of the first node. */
async function fullNetwork() {
  const cluster = await Cluster.start(2);
  const { leader, clock } = cluster;
  const { id, name, role } = cluster.node("node1");
  const peer = { subject: { kind: "node", clusterId: leader.state.cluster!.id, id, name, role }, from: null } as const;
  const calls = new PeerCalls({ leader, clock, log: silentLog });
  await leader.execute({ type: "network.create", name: "tiny", subnet: "10.201.0.0/29" });
  const create = (address?: string) =>
    calls.execute(peer, { type: "endpoint.create", node: id, network: "tiny", ...(address && { address }) });
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push((await create()).id);
  await cluster.settle();
  const remove = (id: string) => leader.execute({ type: "endpoint.remove", id });
  return { cluster, create, ids, remove };
}

test("a full network has no address for a command, which is refused at once", async (t) => {
  const { create } = await fullNetwork();
  await t.throwsAsync(create(), { code: 409, message: /network 'tiny' .* has no free address/ } as object);
});

for (const asks of ["any address", "that address"]) {
  test(`a command that asks for ${asks} when one was just released waits for the nodes, and gets it`, async (t) => {
    const { cluster, create, ids, remove } = await fullNetwork();
    const { address } = cluster.leader.state.endpoints.get(ids[0]!)!;
    const { revision } = await remove(ids[0]!);
    const created = create(asks === "any address" ? undefined : address);
    await cluster.clock.advance(0);
    t.deepEqual(
      cluster.nodes.map(({ awaited }) => awaited),
      [revision, revision],
      "what each node is asked to tell at once",
    );
    await cluster.settle();
    await cluster.clock.advance(0);
    t.is(cluster.leader.state.endpoints.get((await created).id)!.address, address);
  });
}

test("a command whose address a node holds back for longer is refused", async (t) => {
  const { cluster, create, ids, remove } = await fullNetwork();
  const { address } = cluster.leader.state.endpoints.get(ids[0]!)!;
  await remove(ids[0]!);
  const refused = create(address);
  await cluster.clock.advance(0);
  await cluster.nodes[0]!.obey();
  await cluster.clock.advance(HELD_MS);
  await t.throwsAsync(refused, { message: /is held back until every node knows that it was released/ });
});

test("nodes that told nothing new for a second are not asked, and those that tell an older revision are asked then", async (t) => {
  const cluster = await Cluster.start(2);
  const { leader, clock } = cluster;
  const make = async (name: string) => (await leader.execute({ type: "network.create", name })).revision;
  const awaited = () => cluster.nodes.map((node) => node.awaited);
  const before = awaited();
  await clock.advance(1000);
  const first = await make("one");
  const waiting = leader.waitApplied(first, 10_000);
  t.deepEqual(awaited(), before, "they tell by themselves");
  await cluster.settle();
  t.deepEqual(await waiting, []);
  const second = await make("two");
  void leader.waitApplied(second, 10_000);
  t.deepEqual(awaited(), [second, second], "they told a moment ago");

  await cluster.settle();
  await clock.advance(1000);
  await make("three");
  for (const node of cluster.nodes) node.apply();
  const fourth = await make("four");
  void leader.waitApplied(fourth, 10_000);
  t.deepEqual(awaited(), [second, second]);
  await cluster.nodes[0]!.report();
  t.deepEqual(awaited(), [fourth, second], "it told the revision before, and would wait now");
});

test("while changes come the nodes are sent nothing else to show that the leader lives", async (t) => {
  const cluster = await Cluster.start(1);
  const { leader, clock } = cluster;
  let alive = 0;
  const sink = {
    send: (line: Buffer) => {
      if (line.toString().includes('"alive"')) alive++;
    },
    sendSnapshot: () => {},
    close: () => {},
  };
  await openSession(leader, identityOf(2), sink);
  for (let i = 0; i < 10; i++) {
    await leader.execute({ type: "network.create", name: `net${i}` });
    await clock.advance(2000);
  }
  t.is(alive, 0);
  await clock.advance(9000);
  t.is(alive, 3, "one each three seconds since the last change");
});
