// Hosts behind VTEPs that are no nodes, and how services balance: what the leader accepts, refuses and keeps.
import test from "ava";
import type { CommandInput } from "../../src/cluster/commands.ts";
import type { EndpointRow, PeerRow, VipRow } from "../../src/datapath/rows.ts";
import { UserError } from "../../src/lib/errors.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { compileTables } from "../fakes/compile-tables.ts";
import { openSession } from "../fakes/founding.ts";
import { Cluster } from "./cluster-fixture.ts";
import { deafSink, identityOf } from "./fake-node.ts";

const WEB: CommandInput = { type: "network.create", name: "web", subnet: "10.200.0.0/20" };
const ADD = {
  ...{ type: "external.add", network: "web", name: "printer", address: "10.200.0.50" },
  ...{ mac: "00:1B:21:0a:0b:0c", vtep: "192.0.2.50" },
} as const satisfies CommandInput;

async function withWeb(): Promise<Cluster> {
  const cluster = await Cluster.start(2);
  await cluster.leader.execute(WEB);
  return cluster;
}

const rowsOn = (cluster: Cluster, node: string) =>
  compileTables(cluster.leader.state, {
    ...{ nodeId: cluster.node(node).id, pool: "10.192.0.0/10", hostAddresses: [], mtu: 1450 },
    ...{ meshOn: true, heldPorts: [], managers: [], nodeServices: true, isProvisional: false },
  });

test("an external endpoint is a row on every node, behind a peer that runs no agent", async (t) => {
  const cluster = await withWeb();
  await cluster.leader.execute({ ...ADD, port: 8472 });
  for (const node of ["node1", "node2"]) {
    const rows = rowsOn(cluster, node);
    const endpoint = rows.get(`endpoint ${ipv4("10.200.0.50")}`) as EndpointRow;
    t.is(endpoint.vtep, ipv4("192.0.2.50"));
    t.deepEqual(endpoint.mac, { high: 0x001b, low: 0x210a0b0c });
    const peer = rows.get(`peer ${ipv4("192.0.2.50")}`) as PeerRow;
    t.like(peer, { port: 8472, agent: false, ingress: 0 });
  }
});

for (const word of ["printer", "PRINTER", "10.200.0.50"]) {
  test(`an external endpoint is removed by '${word}', and its address is free again`, async (t) => {
    const cluster = await withWeb();
    await cluster.leader.execute(ADD);
    await cluster.leader.execute({ type: "external.remove", name: word });
    t.is(rowsOn(cluster, "node1").get(`peer ${ipv4("192.0.2.50")}`), undefined);
    await cluster.settle();
    await cluster.pass(3000);
    await t.notThrowsAsync(cluster.leader.execute({ ...ADD, name: "another" }));
  });
}

test("two hosts behind one VTEP are one peer", async (t) => {
  const cluster = await withWeb();
  await cluster.leader.execute(ADD);
  await cluster.leader.execute({ ...ADD, name: "scanner", address: "10.200.0.51" });
  const peers = [...rowsOn(cluster, "node1").values()].filter((row) => row.kind === "peer" && !row.agent);
  t.is(peers.length, 1);
});

const refusals: [when: string, change: object, code: UserError["code"], message: RegExp][] = [
  ["the network is missing", { network: "nets" }, 404, /no network 'nets'/],
  ["the address is outside the subnet", { address: "10.201.0.1" }, 400, /10\.201\.0\.1 is not in 10\.200\.0\.0\/20/],
  ["the address is the gateway", { address: "10.200.0.1" }, 400, /gateway/],
  ["the address is none", { address: "10.200.0.300" }, 400, /address: not an IPv4 address/],
  ["the MAC is a group's", { mac: "01:00:5e:00:00:01" }, 400, /mac: not an Ethernet address of one host/],
  ["the MAC is none", { mac: "00:1b:21" }, 400, /mac: not an Ethernet address/],
  ["the VTEP is a node", { vtep: "192.0.2.11" }, 409, /192\.0\.2\.11 is node 'node1'/],
  ["the VTEP is on a network of the overlay", { vtep: "10.200.0.9" }, 400, /not of the underlay/],
  ["the port is none", { port: 70_000 }, 400, /port: a port is 1 to 65535/],
  ["the name is no label", { name: "a b" }, 400, /name: /],
  ["the name is taken", { name: "PRINTER", address: "10.200.0.60" }, 409, /has an endpoint 'PRINTER' already/],
  ["the address is taken", { name: "other" }, 409, /10\.200\.0\.50 is in use by endpoint 'printer'/],
  [
    "the network is encrypted",
    { network: "sealed" },
    409,
    /network 'sealed' is encrypted: a VTEP that is no node has no keys/,
  ],
  ["its VTEP has another port", { name: "b", address: "10.200.0.60", port: 1 }, 409, /has port 4789 already/],
];
for (const [when, change, code, message] of refusals) {
  test(`an external endpoint is refused when ${when}`, async (t) => {
    const cluster = await withWeb();
    await cluster.leader.execute({ type: "network.create", name: "sealed", encrypted: true });
    await cluster.leader.execute(ADD);
    const before = cluster.leader.state.revision;
    const fresh = { name: "fresh", address: "10.200.0.99" };
    const error = await t.throwsAsync(
      cluster.leader.execute({ ...ADD, ...(when.includes("taken") ? {} : fresh), ...change } as CommandInput),
      { instanceOf: UserError },
    );
    t.is(error.code, code);
    t.regex(error.message, message);
    t.is(cluster.leader.state.revision, before, "nothing half-made");
  });
}

test("a node does not join with the address of an external VTEP", async (t) => {
  const cluster = await withWeb();
  await cluster.leader.execute(ADD);
  const identity = { ...identityOf(5), address: "192.0.2.50" };
  await t.throwsAsync(openSession(cluster.leader, identity, deafSink), {
    message: /the VTEP of the external endpoint 'printer'/,
  });
});

test("an endpoint on a node is not removed as an external one", async (t) => {
  const cluster = await withWeb();
  await cluster.leader.execute({
    type: "endpoint.create",
    node: cluster.node("node1").id,
    network: "web",
    name: "box",
  });
  await t.throwsAsync(cluster.leader.execute({ type: "external.remove", name: "box" }), {
    message: /'box' is a container on node 'node1'/,
  });
});

// How services balance.

const SERVICE = {
  ...{ type: "service.create", name: "search", replicas: 4, networks: ["web"] },
  workload: { runtime: "process", command: ["server"] },
  ports: [{ published: 9200, target: 9200 }],
} as const satisfies CommandInput;

test("balancing options reach the rows of both VIPs, weights by the node of each task", async (t) => {
  const cluster = await withWeb();
  const balancing = {
    scheduler: "wrr",
    affinity: "client-ip",
    affinityTimeoutSeconds: 60,
    locality: "prefer-local",
    weights: { node2: 5 },
  } as const;
  await cluster.leader.execute({ ...SERVICE, balancing });
  await cluster.settle();
  const { vips, meshVip } = cluster.service("search");
  for (const vip of [Object.values(vips)[0]!, meshVip!]) {
    const row = rowsOn(cluster, "node1").get(`vip ${ipv4(vip)}`) as VipRow;
    t.like(row.balancing, { scheduler: "wrr", affinitySeconds: 60, preferLocal: true });
    t.deepEqual([...row.balancing.weights].sort(), [1, 1, 5, 5]);
    t.is(row.tasks.length, 4);
  }
});

test("without options a service is balanced in turn", async (t) => {
  const cluster = await withWeb();
  await cluster.leader.execute(SERVICE);
  await cluster.settle();
  const row = rowsOn(cluster, "node1").get(`vip ${ipv4(cluster.service("search").meshVip!)}`) as VipRow;
  t.deepEqual(row.balancing, { scheduler: "rr", weights: [1, 1, 1, 1], affinitySeconds: 0, preferLocal: false });
});

for (const [balancing, message] of [
  [{ scheduler: "wlc" }, /balancing\.scheduler/],
  [{ weights: { node1: -1 } }, /balancing\.weights\.node1: a weight is 0 or more/],
  [{ weights: { node1: 1001 } }, /a weight is at most 1000/],
  [{ affinityTimeoutSeconds: 0 }, /an affinity lasts a second at least/],
] as const) {
  test(`refused: ${JSON.stringify(balancing)}`, async (t) => {
    const cluster = await withWeb();
    const error = await t.throwsAsync(cluster.leader.execute({ ...SERVICE, balancing } as unknown as CommandInput));
    t.regex(error.message, message);
  });
}
