// What containers, nodes and forgers of either reach: the node's own services, managers, and what the ingress network
// may bring.
import test from "ava";
import { rowKey, type TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { frame } from "../fakes/frames.ts";
import { ACK, type Described, type Fields, icmpError, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import { type FakeNodes, INGRESS_VNI, rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, cluster, exchange, send, WEB } from "../fakes/two-nodes.ts";

const OPEN = "10.192.32.10";
const INTERNAL = "10.192.48.10";
const OUTSIDE = "198.51.100.7";
const PUBLISHED_TASK = "10.192.32.10"; // port 80, as 9201
const UNPUBLISHED_TASK = "10.192.32.11";
const MANAGEMENT = "172.16.0.11";

/** Node A, where these rows replace those with the same keys, or are added. */
function change(fake: FakeNodes, ...changed: TableRow[]): void {
  const keys = new Set(changed.map(rowKey));
  fake.nodes[0]!.apply([...rowsFor(CLUSTER, A).filter((row) => !keys.has(rowKey(row))), ...changed]);
}

const isReset = ({ protocol, flags }: Described): boolean => protocol === 6 && (flags & RST) !== 0;

const deniedAt = (address: string): TableRow => ({
  kind: "denied",
  ip: ipv4(address),
  ports: [{ protocol: 6, port: 2377 }],
});

/** What a node, or a forger of its VTEP, sends to node A on the ingress VNI. */
function fromIngress(fake: FakeNodes, fields: Fields, vtep = B) {
  const payload = frame(ipPacket(fields), { vni: INGRESS_VNI });
  const addresses = { from: ipv4(vtep), fromPort: 50_000, to: ipv4(A), toPort: 4789 };
  return exchange(fake, () => fake.wire.carry({ ...addresses, tos: 0, payload }));
}

test("a container does not reach a denied port of an address that is no VTEP, and its other ports it does", async (t) => {
  const fake = await cluster();
  change(fake, deniedAt(MANAGEMENT));
  const packet: Fields = { source: OPEN, destination: MANAGEMENT, destinationPort: 2377 };
  t.deepEqual(send(fake, 0, packet).drops[0], { "not-allowed": 1 });
  t.deepEqual(send(fake, 0, { ...packet, destinationPort: 2378 }).drops[0], {});
  t.deepEqual(send(fake, 0, { ...packet, protocol: "udp" }).drops[0], {});
});

test("a connection to a port that is denied since then ends", async (t) => {
  const fake = await cluster();
  const packet: Fields = { source: OPEN, destination: MANAGEMENT, destinationPort: 2377 };
  t.is(send(fake, 0, packet).out[0]!.length, 1);
  change(fake, deniedAt(MANAGEMENT));
  const after = send(fake, 0, { ...packet, flags: ACK });
  t.deepEqual(
    after.out[0]!.filter((packet) => packet.protocol === 6 && !isReset(packet)),
    [],
  );
});

const GATEWAY_ROWS: { name: string; from: string; fields: Partial<Fields>; passes: boolean }[] = [
  { name: "DNS by UDP", from: INTERNAL, fields: { protocol: "udp", destinationPort: 53 }, passes: true },
  { name: "DNS by TCP", from: INTERNAL, fields: { destinationPort: 53 }, passes: true },
  { name: "a ping", from: INTERNAL, fields: { protocol: "icmp" }, passes: true },
  { name: "another question by ICMP", from: INTERNAL, fields: { protocol: "icmp", type: 13 }, passes: false },
  { name: "sshd", from: INTERNAL, fields: { destinationPort: 22 }, passes: false },
  { name: "another port by UDP", from: INTERNAL, fields: { protocol: "udp", destinationPort: 161 }, passes: false },
  { name: "a published port", from: INTERNAL, fields: { destinationPort: 9201 }, passes: false },
  { name: "sshd", from: OPEN, fields: { destinationPort: 22 }, passes: true },
  { name: "a published port", from: OPEN, fields: { destinationPort: 9200 }, passes: true },
];
for (const { name, from, fields, passes } of GATEWAY_ROWS) {
  const network = from === INTERNAL ? "an internal" : "an open";
  test(`${name} at the gateway of ${network} network ${passes ? "passes" : "does not pass"}`, async (t) => {
    const fake = await cluster();
    const gateway = from.replace(/\d+$/, "1");
    const { drops, out } = send(fake, 0, { source: from, destination: gateway, ...fields });
    t.deepEqual(drops[0], passes ? {} : { "not-allowed": 1 });
    t.is(out.flat().filter(({ source }) => source === from).length, passes ? 1 : 0);
  });
}

test("with the node's services off, an open network has DNS, pings and published ports on the node's addresses", async (t) => {
  const fake = await cluster();
  const node = rowsFor(CLUSTER, A).find((row) => row.kind === "node")!;
  change(fake, { ...node, nodeServices: false });
  const gateway = "10.192.32.1";
  for (const destination of [gateway, A]) {
    const sshd = send(fake, 0, { source: OPEN, destination, destinationPort: 22 });
    t.deepEqual(sshd.drops[0], { "not-allowed": 1 }, destination);
    t.deepEqual(send(fake, 0, { source: OPEN, destination, destinationPort: 9200 }).drops[0], {}, destination);
  }
  const dns: Fields = { source: OPEN, destination: gateway, protocol: "udp", destinationPort: 53 };
  t.deepEqual(send(fake, 0, dns).drops[0], {});
  t.deepEqual(send(fake, 0, { source: OPEN, destination: gateway, protocol: "icmp" }).drops[0], {});
  t.deepEqual(send(fake, 0, { source: OPEN, destination: OUTSIDE, destinationPort: 22 }).drops[0], {}, "the outside");
});

const INGRESS_ROWS: { name: string; fields: Fields; drop?: string }[] = [
  { name: "a client outside: a published port", fields: { source: OUTSIDE, destination: PUBLISHED_TASK } },
  {
    name: "a client outside: another port of that task",
    fields: { source: OUTSIDE, destination: PUBLISHED_TASK, destinationPort: 22 },
    drop: "not-allowed",
  },
  {
    name: "a client outside: the published port by another protocol",
    fields: { source: OUTSIDE, destination: PUBLISHED_TASK, protocol: "udp" },
    drop: "not-allowed",
  },
  {
    name: "a client outside: an endpoint that publishes nothing",
    fields: { source: OUTSIDE, destination: UNPUBLISHED_TASK },
    drop: "not-allowed",
  },
  {
    name: "a client outside: an internal network",
    fields: { source: OUTSIDE, destination: INTERNAL },
    drop: "not-allowed",
  },
  {
    name: "a container of another node and network: an unpublished port",
    fields: { source: "10.192.48.20", destination: UNPUBLISHED_TASK },
    drop: "not-allowed",
  },
  { name: "a node: a published port", fields: { source: "10.192.0.3", destination: PUBLISHED_TASK } },
  {
    name: "a node: another port",
    fields: { source: "10.192.0.3", destination: PUBLISHED_TASK, destinationPort: 22 },
    drop: "not-allowed",
  },
  {
    name: "a node: an endpoint that publishes nothing",
    fields: { source: "10.192.0.3", destination: UNPUBLISHED_TASK },
    drop: "not-allowed",
  },
  { name: "a node: a ping", fields: { source: "10.192.0.3", destination: "10.192.0.2", protocol: "icmp" } },
  {
    name: "a node: this node's services",
    fields: { source: "10.192.0.3", destination: "10.192.0.2", destinationPort: 22 },
    drop: "not-allowed",
  },
  {
    name: "a client outside: this node",
    fields: { source: OUTSIDE, destination: "10.192.0.2", protocol: "icmp" },
    drop: "not-allowed",
  },
  {
    name: "a client outside: an endpoint that publishes nothing, by a ping",
    fields: { source: OUTSIDE, destination: UNPUBLISHED_TASK, protocol: "icmp" },
    drop: "not-allowed",
  },
];
for (const { name, fields, drop } of INGRESS_ROWS) {
  test(`by the ingress network, from ${name} ${drop === undefined ? "passes" : "does not pass"}`, async (t) => {
    const fake = await cluster();
    const { drops, out } = fromIngress(fake, fields);
    t.deepEqual(drops[0], drop === undefined ? {} : { [drop]: 1 });
    t.is(out[0]!.length, drop === undefined ? 1 : 0);
  });
}

test("an ICMP error about a published port's connection goes on to the client", async (t) => {
  const fake = await cluster();
  const client: Fields = { source: OUTSIDE, destination: "10.192.0.100", destinationPort: 9200, flags: SYN };
  t.is(send(fake, 0, client).out[1]!.length, 1);
  const arrived = ipPacket({ ...client, destination: "10.192.32.20", destinationPort: 80 });
  const error = icmpError({ source: "10.192.32.20", type: 3, code: 3, about: arrived, quoted: 8 });
  const { out, drops } = exchange(fake, () => fake.nodes[1]!.device.inject(error));
  t.deepEqual(drops, [{}, {}]);
  t.is(out[0]![0]!.destination, OUTSIDE);
});

test("the host reaches by a virtual IP and on other nodes only what is published", async (t) => {
  const fake = await cluster();
  const host = "10.192.0.2";
  for (const destination of ["10.192.32.2", "10.192.32.20"]) {
    t.deepEqual(send(fake, 0, { source: host, destination, destinationPort: 80 }).drops, [{}, {}], destination);
    const other = send(fake, 0, { source: host, destination, destinationPort: 22 });
    t.deepEqual(other.drops, [{ "not-allowed": 1 }, {}], destination);
  }
  t.deepEqual(send(fake, 0, { source: host, destination: UNPUBLISHED_TASK, destinationPort: 22 }).drops, [{}, {}]);
  t.deepEqual(send(fake, 0, { source: host, destination: "10.192.0.3", destinationPort: 22 }).drops[0], {
    "not-allowed": 1,
  });
});

test("a connection by the ingress network to a port that is published no more ends at the task's node", async (t) => {
  const fake = await cluster();
  const fields: Fields = { source: OUTSIDE, destination: PUBLISHED_TASK };
  t.deepEqual(fromIngress(fake, fields).out[0]!.map(brief), [`${OUTSIDE}:40000 > ${PUBLISHED_TASK}:80`]);
  const row = rowsFor(CLUSTER, A).find((found) => found.kind === "endpoint" && found.ip === ipv4(PUBLISHED_TASK));
  const { published: _, ...endpoint } = row as TableRow & { kind: "endpoint" };
  change(fake, endpoint);
  t.true(fromIngress(fake, { ...fields, flags: ACK }).out[0]!.every(isReset));
});

test("a packet from another node to a gateway goes nowhere: every node answers its own containers", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({ source: "10.192.32.20", destination: "10.192.32.1", destinationPort: 22 });
  const addresses = { from: ipv4(B), fromPort: 50_000, to: ipv4(A), toPort: 4789 };
  const payload = frame(packet, { vni: WEB });
  const { drops } = exchange(fake, () => fake.wire.carry({ ...addresses, tos: 0, payload }));
  t.deepEqual(drops[0], { "no-route": 1 });
});
