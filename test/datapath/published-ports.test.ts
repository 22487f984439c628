// Published ports as containers meet them, and clients whose addresses tasks are not to see.
import test from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import type { Fields } from "../fakes/ip-packets.ts";
import { type FakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, cluster, send } from "../fakes/two-nodes.ts";

const CLIENT = "198.51.100.7";
/** Publishes 9201; its task is 10.192.32.10, on node A. */
const VIP = ipv4("10.192.0.101");

async function clusterWith(change: (row: TableRow) => TableRow): Promise<FakeNodes> {
  const fake = await cluster();
  for (const node of fake.nodes) node.apply(rowsFor(CLUSTER, node.vtep).map(change));
  return fake;
}

const onVip = (change: object) => (row: TableRow) =>
  row.kind === "vip" && row.ip === VIP ? { ...row, ...change } : row;
const onNode = (change: object) => (row: TableRow) => (row.kind === "node" ? { ...row, ...change } : row);
const onPeer = (change: object) => (row: TableRow) => (row.kind === "peer" ? { ...row, ...change } : row);
const published = { protocol: 6, published: 9201, target: 80 };
const held = (address: string) => ({ protocol: 6, port: 9201, address: ipv4(address) });
const TASK = "10.192.32.10:80";

const rows: [title: string, change: (row: TableRow) => TableRow, destination: string, reached: string][] = [
  ["every port of every node is answered", (row) => row, B, TASK],
  ["a port on one address is answered there", onVip({ ports: [{ ...published, address: ipv4(B) }] }), B, TASK],
  [
    "a port on one address is not answered on another",
    onVip({ ports: [{ ...published, address: ipv4(B) }] }),
    A,
    `${A}:9201`,
  ],
  ["in host mode a node answers for its own tasks", onVip({ hostMode: true }), A, TASK],
  ["in host mode a node does not answer for another", onVip({ hostMode: true }), B, `${B}:9201`],
  [
    "a port that a process has on all addresses is the process's",
    onNode({ heldPorts: [held("0.0.0.0")] }),
    A,
    `${A}:9201`,
  ],
  ["and on the gateway", onNode({ heldPorts: [held("0.0.0.0")] }), "10.192.32.1", "10.192.32.1:9201"],
  ["another node's is not this one's", onNode({ heldPorts: [held("0.0.0.0")] }), B, TASK],
  [
    "a port that a process has on one address is ours on the others",
    onNode({ heldPorts: [held(A)] }),
    "10.192.32.1",
    TASK,
  ],
  ["a port that another node's process has is that node's affair", onNode({ heldPorts: [held(B)] }), B, `${B}:9201`],
  ["a node with `mesh: off` does not answer", onNode({ mesh: false }), A, `${A}:9201`],
  ["nor is it answered for", onPeer({ mesh: false }), B, `${B}:9201`],
  ["an external VTEP publishes nothing", onPeer({ agent: false, mesh: false }), B, `${B}:9201`],
];
test("from a container: a published port 53 leaves the DNS on the gateway alone", async (t) => {
  const fake = await clusterWith(onVip({ ports: [{ protocol: 17, published: 53, target: 53, address: 0 }] }));
  const question: Fields = { source: "10.192.32.11", destination: "10.192.32.1", protocol: "udp", destinationPort: 53 };
  t.deepEqual(send(fake, 0, question).out[0]!.map(brief), ["10.192.32.11:40000 > 10.192.32.1:53"]);
  const toNode = send(fake, 0, { ...question, destination: A, sourcePort: 40001 });
  t.deepEqual(toNode.out[0]!.map(brief), ["10.192.32.11:40001 > 10.192.32.10:53"]);
});

for (const [title, change, destination, reached] of rows) {
  test(`from a container: ${title}`, async (t) => {
    const fake = await clusterWith(change);
    const { out } = send(fake, 0, { source: "10.192.32.11", destination, destinationPort: 9201 });
    t.deepEqual(out[0]!.map(brief), [`10.192.32.11:40000 > ${reached}`]);
  });
}

const HIDING = (row: TableRow): TableRow => (row.kind === "endpoint" ? { ...row, sourceNat: true } : row);
const fromOutside = (destinationPort: number): Fields => ({
  source: CLIENT,
  destination: destinationPort === 9200 ? "10.192.0.100" : "10.192.0.101",
  destinationPort,
});

for (const [where, port, at, task] of [
  ["on this node", 9201, 0, "10.192.32.10"],
  ["on another node", 9200, 1, "10.192.32.20"],
] as const) {
  test(`source NAT: a task ${where} sees its gateway, and its answer finds the client`, async (t) => {
    const fake = await clusterWith(HIDING);
    t.deepEqual(send(fake, 0, fromOutside(port)).out[at]!.map(brief), [`10.192.32.1:40000 > ${task}:80`]);
    const { out } = send(fake, at, {
      source: task,
      sourcePort: 80,
      destination: "10.192.32.1",
      destinationPort: 40_000,
    });
    t.deepEqual(out[0]!.map(brief), [`${fromOutside(port).destination}:${port} > ${CLIENT}:40000`]);
  });
}

test("source NAT: two clients with the same port stay apart", async (t) => {
  const fake = await clusterWith(HIDING);
  send(fake, 0, fromOutside(9200));
  const second = send(fake, 0, { ...fromOutside(9200), source: "198.51.100.8" }).out[1]![0]!;
  t.is(second.source, "10.192.32.1");
  t.not(second.sourcePort, 40_000);
  const reply = { source: "10.192.32.20", sourcePort: 80, destination: "10.192.32.1" };
  const { out } = send(fake, 1, { ...reply, destinationPort: second.sourcePort });
  t.deepEqual(out[0]!.map(brief), ["10.192.0.100:9200 > 198.51.100.8:40000"]);
});

test("source NAT: neighbours in the network are seen as they are", async (t) => {
  const fake = await clusterWith(HIDING);
  const { out } = send(fake, 0, { source: "10.192.32.11", destination: "10.192.32.20" });
  t.deepEqual(out[1]!.map(brief), ["10.192.32.11:40000 > 10.192.32.20:80"]);
});
