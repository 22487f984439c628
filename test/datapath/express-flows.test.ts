// When flows enter the express lane and leave it, by what their packets do: who carries each packet, and what is left in the lane.
import test from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4, OUTSIDE as OUTSIDE_WAYS } from "../../src/lib/ip.ts";
import { Conversation } from "../fakes/conversation.ts";
import { frame } from "../fakes/frames.ts";
import { ACK, FIN, type Fields, ipPacket, PSH, RST, SYN } from "../fakes/ip-packets.ts";
import { type LaneNodes, laneNodes } from "../fakes/lane-nodes.ts";
import { INGRESS_VNI, rowsFor } from "../fakes/nodes.ts";
import { A, B, CLUSTER, WEB } from "../fakes/two-nodes.ts";

const LOCAL = "10.192.32.10";
const NEIGHBOR = "10.192.32.11";
const REMOTE = "10.192.32.20";
/** Whose only task is the remote one. */
const REMOTE_VIP = "10.192.32.4";
const REMOTE_SERVICE = { ...CLUSTER, vips: { ...CLUSTER.vips, [REMOTE_VIP]: { vni: WEB, tasks: [REMOTE] } } };

const far = (lanes: LaneNodes, sourcePort = 40_000, vip?: string): Conversation =>
  new Conversation(lanes, { client: [0, LOCAL], server: [1, REMOTE], sourcePort, ...(vip !== undefined && { vip }) });
const near = (lanes: LaneNodes): Conversation => new Conversation(lanes, { client: [0, LOCAL], server: [0, NEIGHBOR] });
const states = (lanes: LaneNodes): string[] => lanes.nodes.flatMap((node) => node.flows().map(({ state }) => state));
const sizes = (lanes: LaneNodes): number[] => lanes.nodes.map(({ lane }) => lane!.entries.size);

/** The third byte of the VNI of probes; the two before are 0. */
const MANAGEMENT_VNI = 1;

/** The notes of agents, in a reserved byte of the VXLAN header. */
const ASKS_LANE = 1;
const TAKES_LANE = 2;

const AGENTS = "agent agent";
const LANES = "lane lane";

for (const [title, vip] of [
  ["directly", undefined],
  ["through a VIP", REMOTE_VIP],
] as const) {
  test(`a connection to another node, ${title}: agents open and close it, lanes carry the rest`, async (t) => {
    const lanes = await laneNodes({}, REMOTE_SERVICE);
    const tcp = far(lanes, 40_000, vip);
    t.deepEqual(tcp.open(), [AGENTS, AGENTS, LANES]);
    t.deepEqual(sizes(lanes), [2, 2], "both nodes had their entries before the SYN-ACK went on");
    const { by, out } = tcp.client(ACK | PSH, 500);
    t.deepEqual([by, out], [LANES, [`${LOCAL}:40000 > ${REMOTE}:80`]]);
    t.deepEqual(tcp.server(ACK | PSH, 900).out, [`${vip ?? REMOTE}:80 > ${LOCAL}:40000`]);
    t.is(lanes.nodes[0]!.flows()[0]!.lane, "both");
    t.is(tcp.client(FIN | ACK).by, AGENTS);
    t.deepEqual(sizes(lanes), [1, 1], "that direction is out");
    t.is(lanes.nodes[0]!.flows()[0]!.lane, "server");
    t.is(tcp.server(ACK | PSH, 900).by, LANES, "the other one may go on for long");
    t.is(tcp.client(ACK).by, AGENTS);
    t.is(tcp.server(FIN | ACK).by, AGENTS);
    t.is(tcp.client(ACK).by, AGENTS);
    t.deepEqual(states(lanes), ["time-wait", "time-wait"]);
    t.deepEqual(sizes(lanes), [0, 0]);
  });
}

test("a connection on one node is carried by its lane, once it is answered", async (t) => {
  const lanes = await laneNodes();
  const tcp = near(lanes);
  t.deepEqual(tcp.open(), ["agent", "agent", "lane"]);
  t.deepEqual(tcp.exchange(), ["lane", "lane", "lane"]);
  t.deepEqual(tcp.close(), ["agent", "agent", "agent"]);
  t.deepEqual([states(lanes), sizes(lanes)], [["time-wait"], [0, 0]]);
});

test("a SYN-ACK that acknowledges another SYN opens no lane", async (t) => {
  const lanes = await laneNodes();
  const fields: Fields = { source: LOCAL, destination: REMOTE, sourcePort: 40_000, destinationPort: 80 };
  lanes.send(0, { ...fields, flags: SYN, sequence: 1000 });
  const back = { source: REMOTE, destination: LOCAL, sourcePort: 80, destinationPort: 40_000 };
  lanes.send(1, { ...back, flags: SYN | ACK, sequence: 1, acknowledgment: 999 });
  t.deepEqual(sizes(lanes), [0, 0]);
  lanes.send(1, { ...back, flags: SYN | ACK, sequence: 1, acknowledgment: 1001 });
  t.deepEqual(sizes(lanes), [2, 2]);
});

test("a reset takes both directions out of both lanes", async (t) => {
  for (const who of ["client", "server"] as const) {
    const lanes = await laneNodes();
    const tcp = far(lanes);
    tcp.open();
    tcp.exchange();
    t.is(tcp[who](RST).by, AGENTS);
    t.deepEqual(
      [sizes(lanes), states(lanes)],
      [
        [0, 0],
        ["closed", "closed"],
      ],
      `by the ${who}, with the number that the lane came to`,
    );
  }
});

test("a reset that is out of turn ends nothing, and the flow goes on in the lane", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  tcp.exchange();
  const stray = { source: LOCAL, destination: REMOTE, sourcePort: 40_000, destinationPort: 80, flags: RST };
  lanes.send(0, { ...stray, sequence: 77 });
  t.false(states(lanes).includes("closed"));
  tcp.exchange();
  tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
});

test("UDP to another node: the inbound entry enters first, the outbound one after a packet of the peer", async (t) => {
  const lanes = await laneNodes();
  const ask: Fields = { source: LOCAL, destination: REMOTE, protocol: "udp", sourcePort: 5000, destinationPort: 53 };
  const answer: Fields = { source: REMOTE, destination: LOCAL, protocol: "udp", sourcePort: 53, destinationPort: 5000 };
  t.is(lanes.send(0, ask).by, AGENTS);
  t.deepEqual(
    lanes.nodes.map(({ lane }) => lane!.keys),
    [[`${WEB} udp ${REMOTE}:53 > ${LOCAL}:5000`], [`${WEB} udp ${LOCAL}:5000 > ${REMOTE}:53`]],
    "each node takes what the other one sends",
  );
  t.is(lanes.send(0, ask).by, "agent lane", "no answer yet: it may be that the other node takes none of it");
  t.is(lanes.send(1, answer).by, "agent lane", "the agent sees that the client's node has sent something");
  t.is(lanes.send(1, answer).by, LANES);
  t.is(lanes.send(0, ask).by, "agent lane", "now it asks the lane, and the answer is there");
  t.is(lanes.send(0, ask).by, LANES);
  t.deepEqual(states(lanes), ["replied", "replied"]);
});

test("UDP on one node rides once there is a reply", async (t) => {
  const lanes = await laneNodes();
  const ask: Fields = { source: LOCAL, destination: NEIGHBOR, protocol: "udp", sourcePort: 5000, destinationPort: 53 };
  const answer: Fields = {
    source: NEIGHBOR,
    destination: LOCAL,
    protocol: "udp",
    sourcePort: 53,
    destinationPort: 5000,
  };
  t.deepEqual([lanes.send(0, ask).by, lanes.send(0, ask).by], ["agent", "agent"]);
  t.deepEqual(sizes(lanes), [0, 0]);
  t.is(lanes.send(0, answer).by, "agent");
  t.deepEqual([lanes.send(0, ask).by, lanes.send(0, answer).by], ["lane", "lane"]);
});

const ONE_WAY: Fields = { source: LOCAL, destination: REMOTE, protocol: "udp", sourcePort: 5000, destinationPort: 9 };

/** Sends datagrams until both lanes carry one; returns how many the agents had a part in. */
function untilBothLanes(lanes: LaneNodes, fields: Fields, most = 200): number {
  for (let sent = 0; sent < most; sent++) if (lanes.send(0, fields).by === LANES) return sent;
  return most;
}

for (const [title, destination, rows] of [
  ["directly", REMOTE, CLUSTER],
  ["through a VIP", REMOTE_VIP, REMOTE_SERVICE],
] as const) {
  test(`UDP in one direction, ${title}: the peer's agent is asked, and both lanes carry it once it has answered`, async (t) => {
    const lanes = await laneNodes({}, rows);
    const fields = { ...ONE_WAY, destination };
    for (let i = 0; i < 7; i++) t.not(lanes.send(0, fields).by, LANES);
    t.true(untilBothLanes(lanes, fields) <= 32);
    t.deepEqual(lanes.send(0, fields).out, [`${LOCAL}:5000 > ${REMOTE}:9`]);
    t.deepEqual(sizes(lanes), [2, 1], "the sender's node takes answers, too");
    t.deepEqual(states(lanes), ["unreplied", "unreplied"]);
    t.deepEqual(
      lanes.nodes.map((node) => node.written()),
      [[], []],
      "no container sees the agents' notes",
    );
  });
}

test("UDP in one direction on one node enters after some packets", async (t) => {
  const lanes = await laneNodes();
  const fields = { ...ONE_WAY, destination: NEIGHBOR };
  for (let i = 0; i < 8; i++) t.is(lanes.send(0, fields).by, "agent");
  t.is(lanes.send(0, fields).by, "lane");
});

test("a note that is lost is followed by another one", async (t) => {
  const lanes = await laneNodes();
  const carries = lanes.fake.wire.filter!;
  let lost = 0;
  lanes.fake.wire.filter = (datagram) => {
    if (datagram.payload[7] !== TAKES_LANE) return carries(datagram);
    lost++;
    return [];
  };
  t.is(untilBothLanes(lanes, ONE_WAY, 100), 100);
  t.true(lost >= 3, `${lost} answers`);
  lanes.fake.wire.filter = carries;
  t.true(untilBothLanes(lanes, ONE_WAY) <= 32);
});

test("an agent that does not know the notes carries what bears them, and the flow stays with the agents", async (t) => {
  const lanes = await laneNodes();
  const carries = lanes.fake.wire.filter!;
  let asked = 0;
  lanes.fake.wire.filter = (datagram) => {
    if (datagram.payload[7] === ASKS_LANE) asked++;
    datagram.payload[7] = 0; // it looks at no reserved byte
    return carries(datagram);
  };
  t.is(untilBothLanes(lanes, ONE_WAY, 100), 100);
  t.true(asked >= 3, `asked ${asked} times`);
});

test("a node whose lane is off, or full, does not say that its lane takes the flow", async (t) => {
  for (const lack of [{ isOn: false }, { room: 0 }]) {
    const lanes = await laneNodes();
    Object.assign(lanes.nodes[1]!.lane!, lack);
    let told = 0;
    const carries = lanes.fake.wire.filter!;
    lanes.fake.wire.filter = (datagram) => {
      if (datagram.payload[7] === TAKES_LANE) told++;
      return carries(datagram);
    };
    for (let i = 0; i < 100; i++) t.is(lanes.send(0, ONE_WAY).arrived.length, 1);
    t.deepEqual([told, lanes.nodes[0]!.lane!.entries.size], [0, 1], JSON.stringify(lack));
  }
});

test("a note counts only from the VTEP that the flow goes to, and only for a flow that there is", async (t) => {
  const other = "192.0.2.13";
  const lanes = await laneNodes({}, { ...CLUSTER, nodes: { ...CLUSTER.nodes, [other]: "10.192.0.4" } });
  lanes.send(0, ONE_WAY);
  const note = (destinationPort: number, from: string): void => {
    const head = { source: REMOTE, destination: LOCAL, protocol: "udp", sourcePort: 9, destinationPort } as const;
    const payload = frame(ipPacket(head), { vni: WEB });
    payload[7] = TAKES_LANE;
    const ends = { from: ipv4(from), fromPort: 50_000, to: ipv4(A), toPort: 4789 };
    lanes.fake.wire.carry({ ...ends, tos: 0, payload });
    lanes.fake.settle();
  };
  const node1 = lanes.nodes[0]!;
  note(5000, other);
  t.is(node1.drops()["spoofed-source"], 1);
  note(5001, B);
  t.deepEqual(node1.written(), []);
  lanes.send(0, ONE_WAY);
  t.is(node1.lane!.entries.size, 1, "neither note has let the flow enter");
  note(5000, B);
  lanes.send(0, ONE_WAY);
  t.is(lanes.send(0, ONE_WAY).by, LANES);
});

test("UDP in one direction leaves the sender's lane when its grounds are lost, and asks again", async (t) => {
  const lanes = await laneNodes();
  untilBothLanes(lanes, ONE_WAY);
  const rows = rowsFor(CLUSTER, A);
  lanes.nodes[0]!.apply(peerRow(rows, { port: 4790 }));
  lanes.nodes[0]!.apply(rows);
  t.not(lanes.send(0, ONE_WAY).by, LANES);
  const after = untilBothLanes(lanes, ONE_WAY);
  t.true(after > 0 && after <= 33, `${after}`);
});

test("UDP in one direction that the receiver's lane has lost is taken by its agent, and enters again", async (t) => {
  const lanes = await laneNodes();
  untilBothLanes(lanes, ONE_WAY);
  lanes.nodes[1]!.lane!.loseAll();
  t.is(lanes.send(0, ONE_WAY).by, "lane agent");
  t.is(lanes.send(0, ONE_WAY).by, LANES);
});

const GATEWAY = "10.192.32.1";
const NO_RIDERS: [title: string, from: number, fields: Fields][] = [
  ["a ping", 0, { source: LOCAL, destination: REMOTE, protocol: "icmp" }],
  ["a question to the gateway's DNS", 0, { source: LOCAL, destination: GATEWAY, protocol: "udp", destinationPort: 53 }],
  ["a packet that leaves the overlay", 0, { source: LOCAL, destination: "198.51.100.7", protocol: "udp" }],
  ["a packet of the node itself", 0, { source: "10.192.0.2", destination: LOCAL, protocol: "udp" }],
  [
    "a client of a published port, led by nftables",
    0,
    { source: "198.51.100.7", destination: "10.192.0.101", destinationPort: 9201 },
  ],
  ["a task that reaches itself", 0, { source: "10.192.48.10", destination: "10.192.48.2", protocol: "udp" }],
];
for (const [title, from, fields] of NO_RIDERS) {
  test(`${title} has no entry in the lane`, async (t) => {
    const own = { "10.192.48.2": { vni: 4097, tasks: ["10.192.48.10"] } };
    const lanes = await laneNodes({}, { ...CLUSTER, vips: { ...CLUSTER.vips, ...own } });
    const { arrived } = lanes.send(from, { flags: SYN, ...fields });
    t.is(arrived.length, 1, "it passes");
    const [{ source, destination, sourcePort, destinationPort, protocol }] = arrived as [(typeof arrived)[0]];
    const node = lanes.nodes.findIndex((each) => each.flows().some(({ serverVtep }) => serverVtep === null));
    if (protocol !== 1 && destinationPort !== 0) {
      const back = {
        source: destination,
        destination: source,
        sourcePort: destinationPort,
        destinationPort: sourcePort,
      };
      const answers = { protocol: protocol === 6 ? "tcp" : "udp", flags: SYN | ACK, acknowledgment: 1001 } as const;
      lanes.send(node, { ...back, ...answers });
    }
    lanes.send(from, { ...fields, flags: ACK });
    t.deepEqual(sizes(lanes), [0, 0]);
  });
}

const OUTSIDE = "198.51.100.7";
/** The mesh VIP of port 9200, to which nftables lead clients outside. */
const MESH_VIP = "10.192.0.100";

/** A client of node 1's published port, whose task is on node 2; `client` may be node 1 itself. */
function openByMesh(
  lanes: LaneNodes,
  client = OUTSIDE,
): { ask: (flags: number) => string; answer: (flags: number) => string } {
  const ports = { sourcePort: 40_000, destinationPort: 9200 };
  const ask = (flags: number): string => {
    const numbers = { sequence: flags === SYN ? 1000 : 1001, acknowledgment: flags === SYN ? 0 : 5001 };
    return lanes.send(0, { source: client, destination: MESH_VIP, ...ports, flags, ...numbers }).by;
  };
  const back = { source: REMOTE, destination: client, sourcePort: 80, destinationPort: 40_000 };
  const answer = (flags: number): string => {
    const numbers = { sequence: (flags & SYN) !== 0 ? 5000 : 5001, acknowledgment: 1001 };
    return lanes.send(1, { ...back, flags, ...numbers }).by;
  };
  return { ask, answer };
}

for (const [title, client] of [
  ["a client outside", OUTSIDE],
  ["the other node itself", "10.192.0.2"],
] as const) {
  test(`${title}, by a published port of another node: the task's node has the flow in its lane`, async (t) => {
    const lanes = await laneNodes();
    const { ask, answer } = openByMesh(lanes, client);
    t.deepEqual([ask(SYN), answer(SYN | ACK)], [AGENTS, AGENTS]);
    t.deepEqual(sizes(lanes), [0, 2]);
    t.deepEqual([ask(ACK), answer(ACK | PSH), ask(ACK)], ["agent lane", "lane agent", "agent lane"]);
    t.is(lanes.nodes[1]!.flows()[0]!.lane, "both");
    t.deepEqual([ask(FIN | ACK), sizes(lanes)[1]], [AGENTS, 1]);
    t.is(answer(ACK | PSH), "lane agent", "the other direction may go on");
  });
}

/** A client of node 1's published port, by the node's own address: the task is on node 2, or on node 1 itself. */
function openByEntrance(lanes: LaneNodes, isNear: boolean) {
  const [task, at] = isNear ? [LOCAL, 0] : [REMOTE, 1];
  const destinationPort = isNear ? 9201 : 9200;
  const ask = (flags: number) => {
    const numbers = { sequence: flags === SYN ? 1000 : 1001, acknowledgment: flags === SYN ? 0 : 5001 };
    return lanes.send(0, { source: OUTSIDE, destination: A, sourcePort: 40_000, destinationPort, flags, ...numbers });
  };
  const answer = (flags: number) => {
    const numbers = { sequence: (flags & SYN) !== 0 ? 5000 : 5001, acknowledgment: 1001 };
    const back = { source: task, destination: OUTSIDE, sourcePort: 80, destinationPort: 40_000 };
    return lanes.send(at, { ...back, flags, ...numbers });
  };
  const own = `${A}:${destinationPort}`;
  return { ask, answer, seen: `${OUTSIDE}:40000 > ${task}:80`, answered: `${own} > ${OUTSIDE}:40000` };
}

test("a client outside, by the node's address: both nodes' lanes carry what its handshake does not", async (t) => {
  const lanes = await laneNodes();
  const { ask, answer, seen, answered } = openByEntrance(lanes, false);
  t.deepEqual([ask(SYN).by, answer(SYN | ACK).by, ask(ACK).by], [AGENTS, AGENTS, LANES]);
  t.deepEqual(sizes(lanes), [2, 2]);
  const [there, back] = [ask(ACK | PSH), answer(ACK | PSH)];
  t.deepEqual([there.by, there.out, back.by, back.out], [LANES, [seen], LANES, [answered]]);
  for (const node of lanes.nodes) t.is(node.flows()[0]!.lane, "both");
  t.deepEqual([ask(FIN | ACK).by, sizes(lanes)], [AGENTS, [1, 1]]);
  t.is(answer(ACK | PSH).by, LANES, "the other direction may go on");
  t.deepEqual([answer(FIN | ACK).by, sizes(lanes)], [AGENTS, [0, 0]]);
});

test("a client outside and a task of the node that it asks: its lane alone carries them", async (t) => {
  const lanes = await laneNodes();
  const { ask, answer, seen, answered } = openByEntrance(lanes, true);
  t.deepEqual([ask(SYN).by, answer(SYN | ACK).by, ask(ACK).by], ["agent", "agent", "lane"]);
  const [there, back] = [ask(ACK | PSH), answer(ACK | PSH)];
  t.deepEqual([there.by, there.out, back.by, back.out], ["lane", [seen], "lane", [answered]]);
  t.deepEqual([ask(RST).by, sizes(lanes)], ["agent", [0, 0]]);
});

test("datagrams of a client outside are in the lanes once they were answered", async (t) => {
  const lanes = await laneNodes();
  const rows = { source: OUTSIDE, destination: A, sourcePort: 5000, destinationPort: 9200, protocol: "udp" as const };
  for (const node of lanes.nodes)
    node.apply(
      rowsFor(CLUSTER, node.vtep).map((row): TableRow => {
        if (row.kind === "endpoint" && row.ip === ipv4(REMOTE))
          return { ...row, published: [...(row.published ?? []), { protocol: 17, port: 80 }] };
        if (row.kind !== "vip" || row.ip !== ipv4(MESH_VIP)) return row;
        return { ...row, ports: row.ports!.flatMap((port) => [port, { ...port, protocol: 17 }]) };
      }),
    );
  const back = {
    source: REMOTE,
    destination: OUTSIDE,
    sourcePort: 80,
    destinationPort: 5000,
    protocol: "udp" as const,
  };
  t.is(lanes.send(0, rows).by, AGENTS);
  lanes.send(1, back);
  lanes.send(0, rows);
  lanes.send(1, back);
  t.deepEqual([lanes.send(0, rows).by, lanes.send(1, back).by], [LANES, LANES]);
});

/** What ends the right of a client's flow to be in the lane of the node that it asks. */
const ENDS: [title: string, change: (row: TableRow) => TableRow][] = [
  [
    "the address that it asked is the node's no more",
    (row) => (row.kind === "node" ? { ...row, hostAddresses: [] } : row),
  ],
  ["the node is no entrance any more", (row) => (row.kind === "node" ? { ...row, mesh: false } : row)],
  ["the task's node takes no lane frames", (row) => (row.kind === "peer" ? { ...row, lane: false } : row)],
];
for (const [title, change] of ENDS) {
  test(`${title}: a client's flow leaves that lane`, async (t) => {
    const lanes = await laneNodes();
    const { ask, answer } = openByEntrance(lanes, false);
    ask(SYN);
    answer(SYN | ACK);
    t.is(ask(ACK).by, LANES);
    lanes.nodes[0]!.apply(rowsFor(CLUSTER, A).map(change));
    t.regex(ask(ACK).by, /^agent/);
    t.is(sizes(lanes)[0], 0);
    lanes.nodes[0]!.apply(rowsFor(CLUSTER, A));
    for (const send of [ask, answer, ask]) send(ACK);
    t.deepEqual([ask(ACK).by, answer(ACK).by], [LANES, LANES]);
  });
}

test("a way to clients that changes sends their flows through the agent, and no others", async (t) => {
  const lanes = await laneNodes();
  const { ask, answer } = openByEntrance(lanes, false);
  ask(SYN);
  answer(SYN | ACK);
  const tcp = far(lanes, 40_001);
  tcp.open();
  lanes.nodes[0]!.lane!.lose(OUTSIDE_WAYS);
  t.is(tcp.client(ACK).by, LANES);
  t.deepEqual([ask(ACK).by, answer(ACK).by], ["agent lane", LANES]);
  t.deepEqual([ask(ACK).by, ask(ACK).by], ["agent lane", LANES], "once the peer's lane was heard");
});

test("a published port that its task's service gives up takes its clients out of the lane", async (t) => {
  const lanes = await laneNodes();
  const { ask, answer } = openByMesh(lanes);
  ask(SYN);
  answer(SYN | ACK);
  t.is(ask(ACK), "agent lane");
  const rows = rowsFor(CLUSTER, B).map((row) => {
    if (row.kind !== "endpoint" || row.ip !== ipv4(REMOTE)) return row;
    const { published: _, ...closed } = row;
    return closed;
  });
  lanes.nodes[1]!.apply(rows);
  t.deepEqual([lanes.nodes[1]!.flows(), lanes.nodes[1]!.lane!.entries.size], [[], 0], "it is reset at once");
});

test("a client outside that comes in by another node is its flow's no more: the lane carries none of that", async (t) => {
  const lanes = await laneNodes();
  const { ask, answer } = openByMesh(lanes);
  ask(SYN);
  answer(SYN | ACK);
  const segment = { source: OUTSIDE, destination: REMOTE, sourcePort: 40_000, destinationPort: 80, flags: ACK };
  const packet = ipPacket({ ...segment, sequence: 1001, acknowledgment: 5001 });
  t.is(lanes.nodes[1]!.lane!.carry(INGRESS_VNI, ipv4("192.0.2.13"), packet), undefined);
  t.not(lanes.nodes[1]!.lane!.carry(INGRESS_VNI, ipv4(A), packet), undefined);
});

test("fragments neither enter a flow nor ride", async (t) => {
  const lanes = await laneNodes();
  const ask: Fields = { source: LOCAL, destination: REMOTE, protocol: "udp", sourcePort: 5000, destinationPort: 53 };
  for (let i = 0; i < 3; i++) lanes.send(0, { ...ask, fragment: 0x2000, payload: new Uint8Array(64) });
  t.deepEqual(sizes(lanes), [0, 0]);
});

test("a container that reaches a task of its network by a published port rides like any other", async (t) => {
  const lanes = await laneNodes();
  const fields = { source: LOCAL, destination: A, sourcePort: 40_000, destinationPort: 9200 };
  t.deepEqual(lanes.send(0, { ...fields, flags: SYN }).out, [`${LOCAL}:40000 > ${REMOTE}:80`]);
  const back = { source: REMOTE, destination: LOCAL, sourcePort: 80, destinationPort: 40_000 };
  lanes.send(1, { ...back, flags: SYN | ACK, sequence: 5000, acknowledgment: 1001 });
  t.is(lanes.send(0, { ...fields, flags: ACK, sequence: 1001, acknowledgment: 5001 }).by, LANES);
  const { by, out } = lanes.send(1, { ...back, flags: ACK, sequence: 5001, acknowledgment: 1001 });
  t.deepEqual([by, out], [LANES, [`${A}:9200 > ${LOCAL}:40000`]]);
});

test("flows with a node whose agent takes no lane frames stay with the agents", async (t) => {
  const lanes = await laneNodes();
  for (const node of lanes.nodes)
    node.apply(rowsFor(CLUSTER, node.vtep).map((row) => (row.kind === "peer" ? { ...row, lane: false } : row)));
  const tcp = far(lanes);
  t.deepEqual([...tcp.open(), ...tcp.exchange()], Array(6).fill(AGENTS));
  for (const node of lanes.nodes) node.apply(rowsFor(CLUSTER, node.vtep));
  tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES], "until they are upgraded");
});

const peerRow = (rows: TableRow[], fields: object): TableRow[] =>
  rows.map((row) => (row.kind === "peer" ? ({ ...row, ...fields } as TableRow) : row));
const nodeRow = (rows: TableRow[], fields: object): TableRow[] =>
  rows.map((row) => (row.kind === "node" ? ({ ...row, ...fields } as TableRow) : row));
const without = (rows: TableRow[], ip: string): TableRow[] =>
  rows.filter((row) => !(row.kind === "endpoint" && row.ip === ipv4(ip)));

const CHANGES: [title: string, change: (rows: TableRow[]) => TableRow[], falls: boolean][] = [
  ["a new endpoint", (rows) => [...rows, { kind: "endpoint", ip: ipv4("10.192.32.30"), vni: WEB, vtep: 0 }], false],
  ["another endpoint that goes", (rows) => without(rows, NEIGHBOR), false],
  ["the peer's port", (rows) => peerRow(rows, { port: 4790 }), true],
  ["the peer's ingress address", (rows) => peerRow(rows, { ingress: ipv4("10.192.0.9") }), true],
  ["the overlay's MTU", (rows) => nodeRow(rows, { mtu: 1400 }), true],
  ["this node's addresses", (rows) => nodeRow(rows, { hostAddresses: [ipv4("198.51.100.1")] }), false],
];
for (const [title, change, falls] of CHANGES) {
  test(`${title} changes: a flow between two containers ${falls ? "passes the agent once" : "stays in the lane"}`, async (t) => {
    const lanes = await laneNodes();
    const tcp = far(lanes);
    tcp.open();
    tcp.exchange();
    lanes.nodes[0]!.apply(change(rowsFor(CLUSTER, A)));
    t.is(tcp.client(ACK | PSH, 10).by, falls ? "agent lane" : LANES);
    tcp.exchange();
    lanes.nodes[0]!.apply(change(rowsFor(CLUSTER, A)));
    t.is(tcp.server(ACK | PSH, 10).by, LANES);
    t.is(tcp.client(ACK | PSH, 10).by, LANES, "and is in it again");
  });
}

test("an endpoint that goes: what the lane had of its flows carries nothing from that moment", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  tcp.exchange();
  lanes.nodes[1]!.apply(without(rowsFor(CLUSTER, B), REMOTE));
  t.deepEqual(lanes.nodes[1]!.flows(), []);
  const { by, arrived } = tcp.client(ACK | PSH, 10);
  t.true(by.startsWith("lane agent"));
  t.deepEqual(
    arrived.map(({ icmp }) => icmp),
    ["3/1"],
    "no host there",
  );
  t.is(lanes.nodes[1]!.lane!.entries.size, 0);
});

test("a link or route that is another than before: its flows pass the agent once", async (t) => {
  for (const address of [LOCAL, B]) {
    const lanes = await laneNodes();
    const tcp = far(lanes);
    tcp.open();
    lanes.nodes[0]!.engine.loseWays([ipv4(NEIGHBOR)]);
    t.is(tcp.client(ACK | PSH, 10).by, LANES);
    lanes.nodes[0]!.engine.loseWays([ipv4(address)]);
    t.is(tcp.client(ACK | PSH, 10).by, "agent lane");
  }
});

test("a flow that fell back on both nodes is in both lanes again, the receiver's entry first", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  for (const node of lanes.nodes) node.engine.loseWays([ipv4(REMOTE)]);
  t.is(tcp.client(ACK | PSH, 10).by, AGENTS);
  t.is(tcp.client(ACK | PSH, 10).by, "agent lane", "this node has heard nothing of the other one since");
  t.is(tcp.server(ACK | PSH, 10).by, "agent lane");
  t.is(tcp.client(ACK | PSH, 10).by, "agent lane");
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
});

test("a flow whose nodes' lanes pass on what the other's agent sends, as on links without a card, is in both lanes again", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  let isByLane = true; // whether the sender's lane has sent the frame that comes next
  for (const { lane } of lanes.nodes) {
    const carry = lane!.carry.bind(lane);
    lane!.carry = (zone, from, packet) => {
      if (zone !== 0 && !isByLane) return undefined;
      const carried = carry(zone, from, packet);
      if (zone === 0) isByLane = carried !== undefined;
      return carried;
    };
  }
  for (const node of lanes.nodes) node.engine.loseWays([ipv4(REMOTE)]);
  const { filter } = lanes.fake.wire;
  lanes.fake.wire.filter = () => []; // each node sends before it hears the other, and has the inbound entry then
  tcp.client(ACK | PSH, 10);
  tcp.server(ACK | PSH, 10);
  lanes.fake.wire.filter = filter;
  t.deepEqual(sizes(lanes), [1, 1]);
  tcp.exchange();
  tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
});

test("a lane that is turned off carries nothing, no flow is lost, and their ends are judged by the lane's numbers", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  tcp.exchange(1000);
  tcp.exchange(1000);
  for (const { lane } of lanes.nodes) lane!.isOn = false;
  t.deepEqual(tcp.exchange(), [AGENTS, AGENTS, AGENTS]);
  t.deepEqual(sizes(lanes), [0, 0]);
  t.deepEqual(
    [tcp.close(), states(lanes)],
    [
      [AGENTS, AGENTS, AGENTS],
      ["time-wait", "time-wait"],
    ],
  );
});

test("a lane that is turned on takes up the flows that there are", async (t) => {
  const lanes = await laneNodes();
  for (const { lane } of lanes.nodes) lane!.isOn = false;
  const tcp = far(lanes);
  t.deepEqual(tcp.open(), [AGENTS, AGENTS, AGENTS]);
  for (const { lane } of lanes.nodes) lane!.isOn = true;
  tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
});

test("an agent that is started anew finds its flows in the lane, counts on, and judges their ends", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  tcp.exchange(100);
  const node = lanes.fake.restart(0);
  t.is(tcp.client(ACK | PSH, 10).by, LANES, "meanwhile the lane goes on");
  node.apply(rowsFor(CLUSTER, A));
  t.is(tcp.client(ACK | PSH, 10).by, "agent lane");
  tcp.exchange();
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
  t.deepEqual(
    [tcp.close(), states(lanes)],
    [
      [AGENTS, AGENTS, AGENTS],
      ["time-wait", "time-wait"],
    ],
  );
  const [flow] = node.flows();
  const other = lanes.nodes[1]!.flows()[0]!;
  t.deepEqual([flow!.packets, flow!.bytes], [other.packets, other.bytes]);
});

test("a flow that the lane ends up without is written anew after some packets", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  lanes.nodes[0]!.lane!.entries.clear();
  const trips = Array.from({ length: 40 }, () => tcp.client(ACK | PSH, 10).by);
  t.true(trips.indexOf(LANES) > 0);
  t.true(trips.indexOf(LANES) <= 33);
});

test("a full lane takes no more: the flow stays with the agent, and asks again from time to time", async (t) => {
  const lanes = await laneNodes();
  for (const { lane } of lanes.nodes) lane!.room = 2;
  const [first, second] = [far(lanes), far(lanes, 40_001)];
  first.open();
  t.deepEqual(second.open(), [AGENTS, AGENTS, AGENTS]);
  const { calls } = lanes.nodes[0]!.lane!;
  for (let i = 0; i < 64; i++) second.client(ACK | PSH, 10);
  t.true(lanes.nodes[0]!.lane!.calls - calls <= 8);
  const { refused } = lanes.nodes[0]!.engine.report().express;
  t.true(refused >= 2, "both directions, and each time that it asks again");
  first.close();
  for (let i = 0; i < 64; i++) second.exchange();
  t.deepEqual(second.exchange(), [LANES, LANES, LANES]);
});

test("a flow that was removed leaves nothing in the lane, whatever removed it", async (t) => {
  const lanes = await laneNodes();
  const ask: Fields = { source: LOCAL, destination: REMOTE, protocol: "udp", sourcePort: 5000, destinationPort: 53 };
  lanes.send(0, ask);
  t.deepEqual(sizes(lanes), [1, 1]);
  await lanes.fake.advance(60_000);
  t.deepEqual([sizes(lanes), states(lanes)], [[0, 0], []], "the sweeper");
  const tcp = far(lanes);
  tcp.open();
  lanes.nodes[0]!.apply(without(rowsFor(CLUSTER, A), LOCAL));
  t.deepEqual([lanes.nodes[0]!.lane!.entries.size, lanes.nodes[0]!.flows()], [0, []], "lost ground");
});

test("a flow that is idle for the agent but not in the lane stays", async (t) => {
  const lanes = await laneNodes();
  const ask: Fields = { source: LOCAL, destination: NEIGHBOR, protocol: "udp", sourcePort: 5000, destinationPort: 53 };
  const answer: Fields = {
    source: NEIGHBOR,
    destination: LOCAL,
    protocol: "udp",
    sourcePort: 53,
    destinationPort: 5000,
  };
  for (const fields of [ask, answer]) lanes.send(0, fields);
  for (let i = 0; i < 4; i++) {
    await lanes.fake.advance(100_000);
    const { calls } = lanes.nodes[0]!.lane!;
    for (const fields of [ask, answer, ask, answer, ask]) lanes.send(0, fields);
    t.is(lanes.nodes[0]!.flows().length, 1, "it has 120 seconds");
    t.true(lanes.nodes[0]!.lane!.calls - calls <= 1, "nothing is asked of the lane for it");
  }
  await lanes.fake.advance(140_000);
  t.deepEqual([lanes.nodes[0]!.flows(), sizes(lanes)], [[], [0, 0]]);
});

test("what the lane carried is counted: by flow once, by peer, and altogether", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  for (let i = 0; i < 10; i++) tcp.exchange(100);
  tcp.close();
  for (const node of lanes.nodes) {
    const [flow] = node.flows();
    t.is(flow!.packets, 3 + 30 + 3);
    t.is(flow!.bytes, 36 * 40 + 20 * 100);
    const { traffic, express, packets } = node.engine.report();
    const [{ rxPackets, txPackets, rxBytes, txBytes }] = traffic as [(typeof traffic)[0]];
    t.deepEqual([rxPackets + txPackets, rxBytes + txBytes], [flow!.packets, flow!.bytes]);
    t.is(express.packets, 31, "all but SYN, SYN-ACK, two FINs and the last ACK");
    t.is(express.packets + packets.taken - packets.answered, flow!.packets);
    t.deepEqual([express.entered, express.taken], [2, 2]);
  }
});

test("under a flood, a connection that the lane has seen opened does not make room for another", async (t) => {
  const lanes = await laneNodes({ flowCapacity: 64 });
  const tcp = far(lanes);
  tcp.open();
  t.is(states(lanes)[0], "syn-received", "the agent has not seen the end of the handshake");
  for (let port = 1000; port < 1200; port++)
    lanes.send(0, { source: LOCAL, destination: REMOTE, sourcePort: port, flags: SYN });
  t.deepEqual(tcp.exchange(), [LANES, LANES, LANES]);
  t.true(states(lanes).includes("established"));
});

test("a connection that takes the place of one that its client forgot is in the lane with its own numbers", async (t) => {
  const lanes = await laneNodes();
  const tcp = far(lanes);
  tcp.open();
  tcp.exchange();
  const again = { source: LOCAL, destination: REMOTE, sourcePort: 40_000, destinationPort: 80 };
  const back = { source: REMOTE, destination: LOCAL, sourcePort: 80, destinationPort: 40_000 };
  t.is(lanes.send(0, { ...again, flags: SYN, sequence: 900_000 }).by, AGENTS);
  t.is(lanes.send(1, { ...back, flags: SYN | ACK, sequence: 77, acknowledgment: 900_001 }).by, AGENTS);
  t.is(lanes.send(0, { ...again, flags: ACK, sequence: 900_001, acknowledgment: 78 }).by, LANES);
  t.is(lanes.send(0, { ...again, flags: RST, sequence: 900_001 }).by, AGENTS);
  t.deepEqual(
    [states(lanes), sizes(lanes)],
    [
      ["closed", "closed"],
      [0, 0],
    ],
  );
});

test("flows of a peer that is to be avoided leave the lane and do not enter it, until it is not avoided any more", async (t) => {
  const lanes = await laneNodes();
  const [tcp, local] = [far(lanes), near(lanes)];
  tcp.open();
  local.open();
  const [{ engine }] = lanes.nodes as [LaneNodes["nodes"][number]];
  engine.avoidLane([ipv4(B)]);
  t.is(tcp.client(ACK | PSH, 500).by, "agent lane", "the other node's lane takes what this agent sends");
  t.is(tcp.client(ACK | PSH, 500).by, "agent lane");
  t.deepEqual(far(lanes, 40_001).open(), [AGENTS, AGENTS, "agent lane"]);
  t.deepEqual(local.exchange(), ["lane", "lane", "lane"]);
  engine.avoidLane([ipv4(B)]);
  t.is(local.exchange()[0], "lane");
  engine.avoidLane([]);
  for (let i = 0; i < 2; i++) tcp.exchange();
  t.is(tcp.client(ACK | PSH, 500).by, LANES);
});

/** No probe arrives any more; all else does. */
async function silenceProbes({ fake, nodes }: LaneNodes): Promise<void> {
  const { filter } = fake.wire;

  fake.wire.filter = (datagram) =>
    datagram.payload[6] === MANAGEMENT_VNI && !datagram.payload[5] ? [] : filter!(datagram);
  await fake.advance(3000);
  for (const { engine } of nodes) engine.tick();
}

test("a peer whose agent is silent keeps its flows in the lane, which carries them without it", async (t) => {
  const lanes = await laneNodes({}, REMOTE_SERVICE);
  const [tcp, other] = [far(lanes), far(lanes, 40_001, REMOTE_VIP)];
  for (const each of [tcp, other]) each.open();
  await silenceProbes(lanes);
  t.is(lanes.nodes[0]!.engine.report().probes[0]!.state, "down");
  for (const each of [tcp, other]) t.deepEqual(each.exchange(), [LANES, LANES, LANES]);
});
