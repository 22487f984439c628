// Which published ports can be had together, and which the leader chooses.
import test from "ava";
import type { AskedPortInput, CommandInput } from "../../src/cluster/commands.ts";
import { UserError } from "../../src/lib/errors.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { deafSink, FakeNode, identityOf } from "./fake-node.ts";

const create = (name: string, ports: AskedPortInput[], rest: object = {}): CommandInput => ({
  type: "service.create",
  name,
  workload: { runtime: "process", command: ["true"] },
  ports,
  ...rest,
});
const ON_ONE = "192.0.2.11";

const rows: [title: string, first: AskedPortInput[], second: AskedPortInput[], refusal: RegExp | undefined][] = [
  [
    "the same port",
    [{ published: 80, target: 1 }],
    [{ published: 80, target: 2 }],
    /80\/tcp is published by service 'a'/,
  ],
  ["another protocol", [{ published: 80, target: 1 }], [{ published: 80, target: 1, protocol: "udp" }], undefined],
  [
    "an address of a port that another has on all",
    [{ published: 80, target: 1 }],
    [{ published: 80, target: 1, address: ON_ONE }],
    /port 80\/tcp is published by service 'a'/,
  ],
  [
    "all addresses of a port that another has on one",
    [{ published: 80, target: 1, address: ON_ONE }],
    [{ published: 80, target: 1 }],
    /port 192.0.2.11:80\/tcp is published by service 'a'/,
  ],
  [
    "another address",
    [{ published: 80, target: 1, address: ON_ONE }],
    [{ published: 80, target: 1, address: "192.0.2.12" }],
    undefined,
  ],
  [
    "in host mode a port of the mesh",
    [{ published: 80, target: 1 }],
    [{ published: 80, target: 1, mode: "host" }],
    /port 80\/tcp is published by service 'a'/,
  ],
];
for (const [title, first, second, refusal] of rows) {
  test(`a second service asks for ${title}: ${refusal === undefined ? "it gets it" : "it is refused"}`, async (t) => {
    const cluster = await Cluster.start(1);
    await cluster.leader.execute(create("a", first));
    const asking = cluster.leader.execute(create("b", second));
    if (refusal === undefined) return t.notThrowsAsync(asking);
    const error = await t.throwsAsync(asking, { instanceOf: UserError, message: refusal });
    t.is((error as UserError).field, "ports.0.published");
    t.false([...cluster.leader.state.ports.values()].some(({ serviceId }) => serviceId !== cluster.service("a").id));
  });
}

test("one port on two addresses leads to one target only", async (t) => {
  const cluster = await Cluster.start(1);
  const asking = cluster.leader.execute(
    create("a", [
      { published: 80, target: 1, address: ON_ONE },
      { published: 80, target: 2, address: "192.0.2.12" },
    ]),
  );
  await t.throwsAsync(asking, { instanceOf: UserError, message: /leads elsewhere than 192\.0\.2\.11:80\/tcp/ });
});

for (const [address, says] of [
  ["10.192.16.1", /10\.192\.16\.1 is of network 'default': nodes answer on addresses of their own/],
  ["0.0.0.1", /0\.0\.0\.1 is no host's/],
  ["224.0.0.251", /224\.0\.0\.251 is a multicast group's/],
  ["255.255.255.255", /255\.255\.255\.255 is reserved or broadcast/],
] as const) {
  test(`${address} is none of a node: it is refused`, async (t) => {
    const cluster = await Cluster.start(1);
    const asking = cluster.leader.execute(create("a", [{ published: 80, target: 1, address }]));
    const error = await t.throwsAsync(asking, { instanceOf: UserError, message: says });
    t.is((error as UserError).field, "ports.0.address");
  });
}

test("0.0.0.0 is every address", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute(create("a", [{ published: 80, target: 1, address: "0.0.0.0" }]));
  t.is(cluster.service("a").ports[0]!.address, null);
});

test("ports that are not named are chosen from 30000 up, past those that are taken, and freed with their service", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute(create("a", [{ target: 1 }, { published: 30_000, target: 2 }, { target: 3 }]));
  t.deepEqual(
    cluster.service("a").ports.map(({ published, target }) => [published, target]),
    [
      [30_001, 1],
      [30_000, 2],
      [30_002, 3],
    ],
  );
  await cluster.leader.execute(create("b", [{ target: 1, protocol: "udp" }]));
  t.is(cluster.service("b").ports[0]!.published, 30_000);
  await cluster.leader.execute({ type: "service.remove", name: "a" });
  await cluster.leader.execute(create("c", [{ target: 1 }]));
  t.is(cluster.service("c").ports[0]!.published, 30_000);
});

test("with a port in host mode a node takes one task, and it is said why there is no place for another", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute(create("a", [{ published: 80, target: 1, mode: "host" }], { replicas: 3 }));
  await cluster.settle();
  t.deepEqual(cluster.spread("a"), [1, 1]);
  const [waiting] = cluster.tasks("a").filter(({ nodeId }) => nodeId === null);
  t.regex(waiting!.error!, /2 nodes have a task with port 80\/tcp already/);
  const { meshVip, hostVip } = cluster.service("a");
  t.is(meshVip, null);
  t.truthy(hostVip);
});

test("a node with `mesh: off` takes no task with a port in host mode, and it is said why", async (t) => {
  const cluster = await Cluster.start(1);
  const off = new FakeNode({ ...identityOf(2), mesh: false });
  cluster.nodes.push(off);
  await off.join(cluster.leader);
  await cluster.leader.execute(create("a", [{ published: 80, target: 1, mode: "host" }], { replicas: 2 }));
  await cluster.leader.execute(create("b", [{ published: 81, target: 1 }], { replicas: 2 }));
  await cluster.settle();
  t.deepEqual(cluster.spread("a"), [1, 0]);
  const [waiting] = cluster.tasks("a").filter(({ nodeId }) => nodeId === null);
  t.regex(waiting!.error!, /1 node answers no published port \('mesh: off'\)/);
  t.deepEqual(cluster.spread("b"), [1, 1]);
  await new FakeNode(identityOf(2)).join(cluster.leader);
  t.is(cluster.tasks("a").filter(({ nodeId }) => nodeId === null).length, 0, "once it is on it takes one");
});

test("a node's word about its addresses, and ports that its processes have, is in the state, and goes with them", async (t) => {
  const cluster = await Cluster.start(2);
  const session = await openSession(cluster.leader, cluster.nodes[1]!.identity, deafSink);
  const report = { statuses: [], full: true, gone: [], applied: 0 };
  const heldPorts = [{ port: 80, protocol: "tcp" as const, address: "0.0.0.0" }];
  await cluster.leader.sessions.report(session, { ...report, heldPorts, addresses: ["192.0.2.12"] });
  t.like(cluster.node("node2"), { heldPorts, addresses: ["192.0.2.12"] });
  await cluster.leader.sessions.report(session, report);
  t.deepEqual(cluster.node("node2").heldPorts, []);
});
