// Flows that were judged before rows came that they need: an agent that has just started has rows from its disk, and the rest comes with
// later differences, which take no ground away. Such a flow rides from then on.
import test from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Conversation } from "../fakes/conversation.ts";
import { type LaneNodes, laneNodes } from "../fakes/lane-nodes.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { A, B, CLUSTER, WEB } from "../fakes/two-nodes.ts";

const LOCAL = "10.192.32.10";
const NEIGHBOR = "10.192.32.11";
const REMOTE = "10.192.32.20";
const AGENTS = "agent agent";
const LANES = "lane lane";

const far = (lanes: LaneNodes): Conversation => new Conversation(lanes, { client: [0, LOCAL], server: [1, REMOTE] });
const rowsOfA = (): TableRow[] => rowsFor(CLUSTER, A);
const provisional = (rows: TableRow[]): TableRow[] =>
  rows.map((row) => (row.kind === "node" ? { ...row, isProvisional: true } : row));
const withoutEndpoint = (rows: TableRow[], ip: string): TableRow[] =>
  rows.filter((row) => !(row.kind === "endpoint" && row.ip === ipv4(ip)));
const olderPeers = (rows: TableRow[]): TableRow[] =>
  rows.map((row) => (row.kind === "peer" ? { ...row, lane: false } : row));

const LATER: [title: string, before: (rows: TableRow[]) => TableRow[]][] = [
  ["the endpoint of its client", (rows) => withoutEndpoint(rows, LOCAL)],
  ["the endpoint of its server", (rows) => withoutEndpoint(rows, REMOTE)],
  ["its network", (rows) => rows.filter((row) => !(row.kind === "network" && row.vni === WEB))],
  ["that the peer's agent takes lane frames", olderPeers],
];
for (const [title, before] of LATER) {
  test(`a flow that a new agent took up before it knew ${title} rides once it knows`, async (t) => {
    const lanes = await laneNodes();
    const tcp = far(lanes);
    tcp.open();
    const node = lanes.fake.restart(0);
    node.apply(provisional(before(rowsOfA())));
    await lanes.fake.advance(3000);
    tcp.exchange();
    t.not(tcp.exchange()[0], LANES, "its own lane has no entry of it");
    t.is(node.flows()[0]!.lane, null);
    node.apply(provisional(rowsOfA()));
    for (let i = 0; i < 3; i++) tcp.exchange();
    t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
  });
}

test("a flow on one node rides once its neighbor's endpoint comes", async (t) => {
  const lanes = await laneNodes();
  const tcp = new Conversation(lanes, { client: [0, LOCAL], server: [0, NEIGHBOR] });
  tcp.open();
  const node = lanes.fake.restart(0);
  node.apply(provisional(withoutEndpoint(rowsOfA(), NEIGHBOR)));
  tcp.exchange();
  t.deepEqual(tcp.exchange(), ["agent", "agent", "agent"]);
  node.apply(provisional(rowsOfA()));
  tcp.exchange();
  t.deepEqual(tcp.exchange(), ["lane", "lane", "lane"]);
});

test("what the agent before has judged under its own tables does not keep a flow out of the next one's lane", async (t) => {
  const lanes = await laneNodes();
  const peer = lanes.nodes[1]!;
  peer.apply(olderPeers(rowsFor(CLUSTER, B)));
  const first = lanes.fake.restart(0);
  first.apply(provisional(olderPeers(rowsOfA()))); // its first tables
  await lanes.fake.advance(3000);
  const tcp = far(lanes);
  t.deepEqual([...tcp.open(), ...tcp.exchange()], Array(6).fill(AGENTS));
  peer.apply(rowsFor(CLUSTER, B));
  lanes.fake.restart(0).apply(provisional(rowsOfA())); // its first tables too
  await lanes.fake.advance(3000);
  for (let i = 0; i < 3; i++) tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
});

test("a flow that may not ride is judged once for each difference, not for each packet", async (t) => {
  const lanes = await laneNodes();
  for (const node of lanes.nodes) node.apply(olderPeers(rowsFor(CLUSTER, node.vtep)));
  const tcp = far(lanes);
  tcp.open();
  const { endpoints } = lanes.nodes[0]!.engine.tables;
  let asked = 0;
  const get = endpoints.get.bind(endpoints);
  endpoints.get = (ip) => {
    asked++;
    return get(ip);
  };
  tcp.exchange();
  const once = asked;
  for (let i = 0; i < 10; i++) tcp.exchange();
  t.is(asked, once);
});
