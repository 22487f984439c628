// Containers that were not scheduled: what the leader makes of them, and what it refuses.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import { UserError } from "../../src/lib/errors.ts";
import { Cluster } from "./cluster-fixture.ts";

type Attach = Extract<CommandInput, { type: "attach" }>;

const A = "a".repeat(64);
const B = "b".repeat(64);
const port = { published: 9200, target: 9200 };
const web: CommandInput = { type: "network.create", name: "web" };
const created: CommandInput = {
  type: "service.create",
  name: "search",
  workload: { runtime: "process", command: ["server"] },
  replicas: 2,
  networks: ["web"],
};

async function start(...commands: CommandInput[]) {
  const cluster = await Cluster.start(2);
  for (const command of [web, ...commands]) await cluster.leader.execute(command);
  await cluster.settle();
  const attach = (command: Partial<Attach> = {}, node = "node1") =>
    cluster.leader.execute({
      type: "attach",
      node: cluster.node(node).id,
      subject: A,
      subjectName: "web_1",
      network: "web",
      ...command,
    });
  return { cluster, attach };
}

test("a container without a service is an endpoint with an address of the network", async (t) => {
  const { cluster, attach } = await start();
  const { id } = await attach({ aliases: ["db"], hostNames: ["web_1", "db"], image: "postgres:16" });
  const endpoint = cluster.leader.state.endpoints.get(id)!;
  t.regex(endpoint.address, /^10\.192\.32\./);
  t.deepEqual(endpoint.attachment, {
    subject: A,
    name: "web_1",
    image: "postgres:16",
    aliases: ["db"],
    hostNames: ["web_1"],
  });
  await cluster.leader.execute({ type: "detach", id });
  t.is(cluster.leader.state.endpoints.size, 0);
});

test("the first container of a service that was not created makes it, the last one takes it away", async (t) => {
  const { cluster, attach } = await start();
  const first = await attach({ service: "search", ports: [port] });
  const second = await attach({ service: "search", ports: [port], subject: B }, "node2");
  const { vips, meshVip, ports } = cluster.service("search");
  t.is(Object.keys(vips).length, 1);
  t.truthy(meshVip);
  t.deepEqual(ports, [{ ...port, protocol: "tcp", mode: "ingress", address: null }]);
  t.deepEqual(
    cluster.tasks("search").map(({ slot }) => slot),
    [1, 2],
  );
  await cluster.leader.execute({ type: "detach", id: first.id });
  t.deepEqual(cluster.service("search").vips, vips);
  await cluster.leader.execute({ type: "detach", id: second.id });
  await cluster.settle();
  t.is(cluster.leader.state.services.size, 0);
  t.is(cluster.leader.state.ports.size, 0);
  t.is(cluster.leader.state.statuses.size, 0);
});

test("a container beside the tasks of a created service is one more, and scaling leaves it alone", async (t) => {
  const { cluster, attach } = await start(created);
  const { id } = await attach({ service: "search", network: null });
  t.is(cluster.tasks("search").length, 3);
  await cluster.leader.execute({ type: "service.scale", name: "search", replicas: 4 });
  await cluster.settle();
  t.deepEqual(
    cluster
      .tasks("search")
      .map(({ slot }) => slot)
      .toSorted(),
    [1, 2, 3, 4, 5],
  );
  await cluster.leader.execute({ type: "service.scale", name: "search", replicas: 0 });
  await cluster.settle();
  t.deepEqual(
    cluster.tasks("search").map((task) => task.id),
    [id],
  );
});

test("a node that is drained, lost and back keeps the containers that are attached to it", async (t) => {
  const { cluster, attach } = await start();
  const { id } = await attach({ service: "search" }, "node2");
  await cluster.leader.execute({ type: "node.availability", name: "node2", availability: "drain" });
  cluster.nodes[1]!.lose();
  await cluster.pass(60_000);
  t.is(cluster.node("node2").state, "down");
  t.is(cluster.leader.state.tasks.get(id)?.desired, "running");
  await cluster.nodes[1]!.join(cluster.leader);
  await cluster.settle();
  t.is(cluster.leader.state.statuses.get(id)?.state, "running");
});

test("a container may be on several networks, an address asked for is its own", async (t) => {
  const { cluster, attach } = await start({ type: "network.create", name: "back" });
  await attach({ address: "10.192.32.77" });
  await attach({ network: "back" });
  t.is(cluster.leader.state.endpoints.size, 2);
  t.is(cluster.leader.state.allocations.get("10.192.32.77")?.holder.kind, "endpoint");
});

interface Refusal {
  when: string;
  after?: CommandInput[];
  first?: Partial<Attach>;
  attach: Partial<Attach>;
  node?: string;
  code: number;
  message: RegExp;
}

const refusals: Refusal[] = [
  {
    when: "the network is not there",
    attach: { network: "wbe" },
    code: 404,
    message: /there is no network 'wbe'; did you mean 'web'\?/,
  },
  { when: "the network is the nodes' own", attach: { network: "ingress" }, code: 400, message: /nodes' own/ },
  {
    when: "an address is outside the subnet",
    attach: { address: "10.1.2.3" },
    code: 400,
    message: /10\.1\.2\.3 is not in 10\.192\.32\.0\/20 of network 'web'/,
  },
  {
    when: "an address is taken",
    first: { address: "10.192.32.9", subject: B, aliases: [] },
    attach: { address: "10.192.32.9" },
    code: 409,
    message: /10\.192\.32\.9 is in use by endpoint/,
  },
  {
    when: "it is attached already",
    first: {},
    attach: {},
    code: 409,
    message: /attached to 'web' already, by node 'node1'/,
  },
  {
    when: "another node has the container",
    first: { service: "search" },
    attach: { service: "search" },
    node: "node2",
    code: 409,
    message: /attached to 'web' already, by node 'node1'/,
  },
  {
    when: "a name is taken",
    first: { name: "db", subject: B },
    attach: { name: "db" },
    code: 409,
    message: /has an endpoint 'db'/,
  },
  {
    when: "an alias is a service's name",
    after: [created],
    attach: { aliases: ["search"] },
    code: 409,
    message: /has a service 'search'/,
  },
  { when: "a port has no service", attach: { ports: [port] }, code: 400, message: /a published port needs a service/ },
  {
    when: "the service is on another network",
    after: [created, { type: "network.create", name: "back" }],
    attach: { service: "search", network: "back" },
    code: 409,
    message: /service 'search' is on network 'web', not on 'back'/,
  },
  {
    when: "a created service does not publish the port",
    after: [created],
    attach: { service: "search", ports: [port] },
    code: 409,
    message: /service 'search' was created without publishing 9200\/tcp/,
  },
  {
    when: "another service has the port",
    first: { service: "other", ports: [port], subject: B },
    attach: { service: "search", ports: [port] },
    code: 409,
    message: /port 9200\/tcp is published by service 'other'/,
  },
  {
    when: "a task is to have a name",
    attach: { service: "search", name: "db" },
    code: 400,
    message: /give 'db' as an alias/,
  },
  {
    when: "a subject is neither",
    attach: { subject: "zz" },
    code: 400,
    message: /neither a container's id nor netns:NAME/,
  },
];

for (const { when, after = [], first, attach: asked, node, code, message } of refusals) {
  test(`attaching is refused when ${when}, and nothing is left of it`, async (t) => {
    const { cluster, attach } = await start(...after);
    if (first !== undefined) await attach(first);
    const { revision } = cluster.leader.state;
    const error = await t.throwsAsync(attach(asked, node), { instanceOf: UserError });
    t.is(error?.code, code as UserError["code"]);
    t.regex(error!.message, message);
    t.is(cluster.leader.state.revision, revision);
  });
}

test("a service with attached containers is neither removed nor scaled", async (t) => {
  const { cluster, attach } = await start();
  await attach({ service: "search" });
  const { leader } = cluster;
  await t.throwsAsync(leader.execute({ type: "service.remove", name: "search" }), {
    message: /has 1 attached container, on node1: detach or remove what is attached first/,
  });
  await t.throwsAsync(leader.execute({ type: "service.scale", name: "search", replicas: 3 }), {
    message: /attached to it/,
  });
});
