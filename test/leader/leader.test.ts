// What the leader accepts and refuses, and what its words are.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { Service } from "../../src/cluster/schema.ts";
import { stateToJson } from "../../src/cluster/state.ts";
import { UserError } from "../../src/lib/errors.ts";
import { Cluster } from "./cluster-fixture.ts";
import { FakeNode, identityOf } from "./fake-node.ts";

const search: CommandInput = {
  type: "service.create",
  name: "search",
  workload: { runtime: "process", command: ["server"] },
  replicas: 3,
  networks: ["web"],
  ports: [{ published: 9200, target: 9200 }],
};
const web: CommandInput = { type: "network.create", name: "web" };

interface Refusal {
  when: string;
  after: CommandInput[];
  command: CommandInput;
  code: number;
  message: RegExp;
  field?: string;
}

const create = (change: Partial<Extract<CommandInput, { type: "service.create" }>>): CommandInput =>
  ({ ...search, name: "other", ports: [], ...change }) as CommandInput;

const refusals: Refusal[] = [
  {
    when: "a service asks for the PROXY protocol",
    after: [web],
    command: { ...search, proxyProtocol: true },
    code: 400,
    message: /^proxyProtocol: .*a task sees the client's own address/,
    field: "proxyProtocol",
  },
  {
    when: "a name is none of DNS",
    after: [],
    command: { ...web, name: "a b" },
    code: 400,
    message: /^name: a name has letters/,
    field: "name",
  },
  {
    when: "a network exists",
    after: [web],
    command: { ...web, name: "WEB" },
    code: 409,
    message: /a network 'WEB' exists already/,
  },
  {
    when: "a network is named like a task's number",
    after: [],
    command: { ...web, name: "12" },
    code: 400,
    message: /names that end in a number are those of tasks/,
    field: "name",
  },
  {
    when: "a subnet is not in the pool",
    after: [],
    command: { ...web, subnet: "10.0.0.0/24" },
    code: 400,
    message: /10\.0\.0\.0\/24 is not in the pool 10\.192\.0\.0\/10/,
    field: "subnet",
  },
  {
    when: "a subnet holds the pool",
    after: [],
    command: { ...web, subnet: "10.0.0.0/8" },
    code: 400,
    message: /not in the pool/,
    field: "subnet",
  },
  {
    when: "a subnet overlaps another",
    after: [web],
    command: { ...web, name: "x", subnet: "10.192.33.0/24" },
    code: 409,
    message: /overlaps 10\.192\.32\.0\/20 of network 'web'/,
  },
  {
    when: "a subnet is too small",
    after: [],
    command: { ...web, subnet: "10.193.0.0/30" },
    code: 400,
    message: /too small/,
    field: "subnet",
  },
  {
    when: "a subnet has host bits",
    after: [],
    command: { ...web, subnet: "10.193.0.1/24" },
    code: 400,
    message: /^subnet: .* is not an IPv4 prefix .*no host bits/,
    field: "subnet",
  },
  {
    when: "a network to remove is missing",
    after: [],
    command: { type: "network.remove", name: "web" },
    code: 404,
    message: /no network 'web'/,
  },
  {
    when: "ingress is to be removed",
    after: [],
    command: { type: "network.remove", name: "ingress" },
    code: 409,
    message: /belongs to the cluster/,
  },
  {
    when: "a network is in use",
    after: [web, search],
    command: { type: "network.remove", name: "web" },
    code: 409,
    message: /network 'web' is used by service 'search'/,
  },
  {
    when: "a service exists",
    after: [web, search],
    command: create({ name: "search" }),
    code: 409,
    message: /a service 'search' exists already/,
  },
  { when: "a service's network is missing", after: [], command: create({}), code: 404, message: /no network 'web'/ },
  {
    when: "a service wants the ingress network",
    after: [],
    command: create({ networks: ["ingress"] }),
    code: 400,
    message: /nodes' own/,
    field: "networks",
  },
  {
    when: "an alias is another service's name",
    after: [web, search],
    command: create({ name: "store", networks: [{ name: "web", aliases: ["Search"] }] }),
    code: 409,
    message: /network 'web' has a service 'search' already/,
    field: "aliases",
  },
  {
    when: "a service's name is another's alias",
    after: [web, create({ name: "store", networks: [{ name: "web", aliases: ["db"] }] })],
    command: create({ name: "DB" }),
    code: 409,
    message: /'DB' is an alias of service 'store' on network 'web' already/,
    field: "name",
  },
  {
    when: "an alias is no name of DNS",
    after: [web],
    command: create({ networks: [{ name: "web", aliases: ["a..b"] }] }),
    code: 400,
    message: /an alias has letters, digits/,
    field: "networks.0.aliases.0",
  },
  {
    when: "a TTL is longer than a day",
    after: [web],
    command: create({ dnsTtlSeconds: 86_401 }),
    code: 400,
    message: /a TTL is a day at most/,
    field: "dnsTtlSeconds",
  },
  {
    when: "a port is published already",
    after: [web, search],
    command: create({ ports: [{ published: 9200, target: 80 }] }),
    code: 409,
    message: /port 9200\/tcp is published by service 'search'/,
    field: "ports.0.published",
  },
  {
    when: "a port is named twice",
    after: [web],
    command: create({
      ports: [
        { published: 80, target: 80 },
        { published: 80, target: 81 },
      ],
    }),
    code: 400,
    message: /port 80\/tcp is named twice/,
    field: "ports.1.published",
  },
  {
    when: "a port is the cluster's",
    after: [web],
    command: create({ ports: [{ published: 2377, target: 80 }] }),
    code: 400,
    message: /port 2377\/tcp is the cluster port/,
    field: "ports.0.published",
  },
  {
    when: "a port is a node's VXLAN port",
    after: [web],
    command: create({ ports: [{ published: 4789, target: 80, protocol: "udp" }] }),
    code: 400,
    message: /port 4789\/udp is the VXLAN port of node 'node1'/,
    field: "ports.0.published",
  },
  {
    when: "a port is out of range",
    after: [web],
    command: create({ ports: [{ published: 70000, target: 80 }] }),
    code: 400,
    message: /a port is 1 to 65535/,
    field: "ports.0.published",
  },
  {
    when: "a constraint cannot be read",
    after: [web],
    command: create({ constraints: ["node.rack==1"] }),
    code: 400,
    message: /a constraint is/,
    field: "constraints.0",
  },
  {
    when: "a service to scale is missing",
    after: [],
    command: { type: "service.scale", name: "search", replicas: 1 },
    code: 404,
    message: /no service 'search'/,
  },
  {
    when: "a service to remove is missing",
    after: [],
    command: { type: "service.remove", name: "search" },
    code: 404,
    message: /no service 'search'/,
  },
  {
    when: "an endpoint to remove is missing",
    after: [],
    command: { type: "endpoint.remove", id: "x" },
    code: 404,
    message: /no endpoint 'x'/,
  },
  {
    when: "a node to drain is missing",
    after: [],
    command: { type: "node.availability", name: "node9", availability: "drain" },
    code: 404,
    message: /no node 'node9'/,
  },
  {
    when: "a node to remove is up",
    after: [],
    command: { type: "node.remove", name: "node1" },
    code: 409,
    message:
      /node 'node1' is up: run 'overlayctl leave' on it and wait until it is down, or force it out with '--force'/,
  },
  {
    when: "the only manager is to be a worker",
    after: [],
    command: { type: "node.demote", name: "node1" },
    code: 409,
    message: /node 'node1' is the only manager: 'overlayctl node promote NAME' makes another one first/,
  },
  {
    when: "the only manager is to be removed, with force too",
    after: [],
    command: { type: "node.remove", name: "node1", force: true },
    code: 409,
    message: /node 'node1' is the only manager: 'overlayctl node promote NAME' makes another one first/,
  },
];

for (const { when, after, command, code, message, field } of refusals) {
  test(`refused when ${when}`, async (t) => {
    const cluster = await Cluster.start(3);
    for (const earlier of after) await cluster.leader.execute(earlier);
    const before = stateToJson(cluster.leader.state);
    const error = await t.throwsAsync(cluster.leader.execute(command), { instanceOf: UserError, message });
    t.deepEqual([(error as UserError).code, (error as UserError).field], [code, field]);
    t.deepEqual(stateToJson(cluster.leader.state), before);
  });
}

test("ingress and default exist from the start, with the pool's first subnets and VNIs of their own", async (t) => {
  const cluster = await Cluster.start(0);
  const networks = [...cluster.leader.state.networks.values()];
  t.deepEqual(
    networks.map(({ name, subnet, gateway, vni }) => [name, subnet, gateway, vni]),
    [
      ["ingress", "10.192.0.0/20", "10.192.0.1", 2],
      ["default", "10.192.16.0/20", "10.192.16.1", 3],
    ],
  );
});

test("a network gets the next subnet and a VNI from 4096 up", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.leader.execute(web);
  const network = [...cluster.leader.state.networks.values()].find(({ name }) => name === "web")!;
  t.is(network.subnet, "10.192.32.0/20");
  t.is(network.gateway, "10.192.32.1");
  t.true(network.vni >= 4096);
});

test("a service gets a VIP, a mesh VIP for its port, and its tasks one a node", async (t) => {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(web);
  const { id, revision } = await cluster.leader.execute(search);
  const service = cluster.service("search");
  t.is(service.id, id);
  t.true(Object.values(service.vips)[0]!.startsWith("10.192.32."));
  t.true(service.meshVip!.startsWith("10.192.0."));
  t.deepEqual(cluster.spread("search"), [1, 1, 1]);
  t.deepEqual(
    cluster.tasks("search").map(({ slot }) => slot),
    [1, 2, 3],
  );
  t.is(cluster.leader.state.revision, revision);
  t.deepEqual(Service.parse(service), service, "the row has what a row has, and nothing of the command besides");
});

test("a removed service's port and name are free at once, its network once its tasks are stopped", async (t) => {
  const cluster = await Cluster.start(3);
  await cluster.leader.execute(web);
  await cluster.leader.execute(search);
  await cluster.settle();
  await cluster.leader.execute({ type: "service.remove", name: "search" });
  await t.throwsAsync(cluster.leader.execute({ type: "network.remove", name: "web" }), {
    message: /network 'web' is used by a task of a removed service that still stops on node 'node1'/,
  });
  await cluster.settle();
  t.is(cluster.leader.state.tasks.size, 0);
  await cluster.leader.execute({ type: "network.remove", name: "web" });
  await cluster.leader.execute(web);
  await cluster.leader.execute(search);
});

test("a removed network's subnet is not given again before every node knows of the removal", async (t) => {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute({ ...web, subnet: "10.200.0.0/24" });
  await cluster.settle();
  await cluster.leader.execute({ type: "network.remove", name: "web" });
  const again: CommandInput = { type: "network.create", name: "x", subnet: "10.200.0.0/24" };
  await t.throwsAsync(cluster.leader.execute(again), { message: /a network that is being removed/ });
  await cluster.nodes[0]!.obey();
  await t.throwsAsync(cluster.leader.execute(again), { message: /a network that is being removed/ });
  await cluster.nodes[1]!.obey();
  await t.notThrowsAsync(cluster.leader.execute(again));
});

test("an address that was released is not the next one that is handed out", async (t) => {
  const cluster = await Cluster.start(1);
  const addresses = new Set<string>();
  for (let i = 0; i < 20; i++) {
    const node = cluster.nodes[0]!.id!;
    const { id } = await cluster.leader.execute({ type: "endpoint.create", node, network: "default" });
    addresses.add(cluster.leader.state.endpoints.get(id)!.address);
    await cluster.leader.execute({ type: "endpoint.remove", id });
    await cluster.settle();
  }
  t.is(addresses.size, 20);
});

test("an endpoint gets the address that it asks for, if that is free and for endpoints", async (t) => {
  const cluster = await Cluster.start(1);
  const ask = (address: string) =>
    cluster.leader.execute({ type: "endpoint.create", node: cluster.nodes[0]!.id!, network: "default", address });
  await ask("10.192.20.20");
  await t.throwsAsync(ask("10.192.20.20"), { message: /10\.192\.20\.20 is in use by endpoint/ });
  await t.throwsAsync(ask("10.192.16.1"), { message: /gateway or broadcast/ });
  await t.throwsAsync(ask("10.192.16.0"), { message: /gateway or broadcast/ });
  await t.throwsAsync(ask("10.192.31.255"), { message: /gateway or broadcast/ });
  await t.throwsAsync(ask("10.192.32.5"), { message: /not in 10\.192\.16\.0\/20 of network 'default'/ });
});

test("a full store refuses, changes nothing, and goes on when there is room", async (t) => {
  const cluster = await Cluster.start(1);
  cluster.store.full = true;
  const before = stateToJson(cluster.leader.state);
  const error = await t.throwsAsync(cluster.leader.execute(web), { instanceOf: UserError });
  t.is((error as UserError).code, 507);
  t.deepEqual(stateToJson(cluster.leader.state), before);
  cluster.store.full = false;
  await t.notThrowsAsync(cluster.leader.execute(web));
});

test("a leader whose leadership is lost refuses, and ends its sessions", async (t) => {
  const cluster = await Cluster.start(1);
  await cluster.store.campaign();
  const error = await t.throwsAsync(cluster.leader.execute(web), { instanceOf: UserError });
  t.deepEqual(
    [(error as UserError).code, error!.message],
    [503, "this manager leads no longer: another manager leads"],
  );
  t.false(cluster.nodes[0]!.joined);
});

test("a leader that is not certain of leading answers nothing, and goes on when it is", async (t) => {
  const cluster = await Cluster.start(1);
  cluster.store.isUncertain = true;
  const refused = { message: "this manager may lead no longer" };
  await t.throwsAsync(cluster.leader.execute(web), refused);
  await t.throwsAsync(cluster.leader.waitApplied(1, 10), refused);
  await t.throwsAsync(new FakeNode(identityOf(2)).join(cluster.leader), refused);
  cluster.store.isUncertain = false;
  await cluster.leader.execute(web);
});

test("a leader that stops gives its leadership back once nothing is being written", async (t) => {
  const cluster = new Cluster();
  const campaign = cluster.store.campaign.bind(cluster.store);
  let resigned = false;
  cluster.store.campaign = async () => {
    const resign = async () => {
      resigned = true;
    };
    return { ...(await campaign()), resign };
  };
  await cluster.lead();
  const created = cluster.leader.execute(web);
  const stopped = cluster.leader.stop();
  t.false(resigned);
  await Promise.allSettled([created, stopped]);
  t.true(resigned);
  t.true(cluster.leader.over.aborted);
});

test("a leader that is stopped while it starts never leads", async (t) => {
  const cluster = await Cluster.start(0);
  await cluster.leader.stop();
  const load = cluster.store.load.bind(cluster.store);
  cluster.store.load = async () => {
    const state = await load();
    await cluster.leader.stop();
    return state;
  };
  await cluster.lead();
  t.true(cluster.leader.over.aborted);
  t.throws(() => cluster.leader.requireLeading(), { message: "this manager is stopping" });
});

test("a node that registers again gets its id and address back", async (t) => {
  const cluster = await Cluster.start(2);
  const before = cluster.node("node2");
  const again = new FakeNode(identityOf(2));
  await again.join(cluster.leader);
  t.is(again.id, before.id);
  t.deepEqual(cluster.node("node2"), before);
  t.false(cluster.nodes[1]!.joined);
});

test("a name that another living address has is refused; once that is lost, the name moves and keeps its id", async (t) => {
  const cluster = await Cluster.start(3);
  const { id } = cluster.node("node3");
  const impostor = new FakeNode({ ...identityOf(3), address: "192.0.2.99" });
  await t.throwsAsync(impostor.join(cluster.leader), {
    message: /the name 'node3' is in use by the node at 192\.0\.2\.13/,
  });
  cluster.nodes[2]!.lose();
  await cluster.pass(20_000);
  await impostor.join(cluster.leader);
  t.is(impostor.id, id);
  t.is(cluster.node("node3").address, "192.0.2.99");
});

test("a node's address may be neither another node's nor the overlay's", async (t) => {
  const cluster = await Cluster.start(1);
  const twin = new FakeNode({ ...identityOf(1), name: "twin" });
  await t.throwsAsync(twin.join(cluster.leader), { message: /192\.0\.2\.11 is that of node 'node1'.*node rm node1/ });
  const inside = new FakeNode({ ...identityOf(2), address: "10.192.0.77" });
  await t.throwsAsync(inside.join(cluster.leader), { message: /in the overlay's pool 10\.192\.0\.0\/10/ });
});

test("the barrier names the nodes that are behind, and resolves when the last one has applied", async (t) => {
  const cluster = await Cluster.start(2);
  const { revision } = await cluster.leader.execute(web);
  t.deepEqual(await timedOut(cluster, revision), ["node1", "node2"]);
  const waiting = cluster.leader.waitApplied(revision, 60_000);
  await cluster.nodes[0]!.obey();
  t.deepEqual(await timedOut(cluster, revision), ["node2"]);
  await cluster.nodes[1]!.obey();
  t.deepEqual(await waiting, []);
});

async function timedOut(cluster: Cluster, revision: number): Promise<string[]> {
  const waiting = cluster.leader.waitApplied(revision, 10);
  await cluster.clock.advance(20);
  return waiting;
}
