// External endpoints: hosts behind VTEPs that run no agent. They reach all of their network through the one node that their VTEP
// knows, and send what a kernel's vxlan device sends.
import test from "ava";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { arpRequest, destinationMacOf, type FrameFields, frame } from "../fakes/frames.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, completed, describe, type Fields, fragmentsOf, ipPacket, joined, SYN } from "../fakes/ip-packets.ts";
import { type FakeNodes, fakeNodes, INGRESS_VNI, rowsFor } from "../fakes/nodes.ts";
import { A, B, brief, CLUSTER, DB, type Exchange, exchange, send, WEB } from "../fakes/two-nodes.ts";

const TASK_A = "10.192.32.10";
const TASK_B = "10.192.32.20";
const VIP = "10.192.32.2";
const GATEWAY = "10.192.32.1";
const VTEP = "192.0.2.50";
const EXTERNAL = "10.192.32.50";
const MAC = "00:1b:21:0a:0b:0c";
/** Behind the same VTEP. */
const BESIDE = "10.192.32.52";
/** Behind another one. */
const SECOND = "10.192.32.51";
const SECOND_VTEP = "192.0.2.51";
const external = (ip: string, vtep: string): TableRow => ({
  ...{ kind: "endpoint", ip: ipv4(ip), vni: WEB, vtep: ipv4(vtep) },
  mac: { high: 0x001b, low: 0x210a0b0c },
});
const EXTERNAL_ROWS: TableRow[] = [
  external(EXTERNAL, VTEP),
  external(BESIDE, VTEP),
  external(SECOND, SECOND_VTEP),
  { kind: "peer", vtep: ipv4(VTEP), port: 8472, ingress: 0, agent: false, lane: false, mesh: false },
  { kind: "peer", vtep: ipv4(SECOND_VTEP), port: 4789, ingress: 0, agent: false, lane: false, mesh: false },
];
const FROM_B: Fields = { source: TASK_B, destination: TASK_A };
const web = (packet: Uint8Array, fields: Partial<FrameFields> = {}) => frame(packet, { vni: WEB, ...fields });

interface Arrival {
  from?: string;
  to?: string;
  segmentBytes?: number;
}

/** A node, by default the first, receives a datagram. Returns what comes of it. */
function receive(fake: FakeNodes, payload: Uint8Array, { from = VTEP, to = A, segmentBytes }: Arrival = {}): Exchange {
  const datagram = { from: ipv4(from), fromPort: 50_000, to: ipv4(to), toPort: 4789, tos: 0, payload };
  return exchange(fake, () => fake.wire.carry(segmentBytes === undefined ? datagram : { ...datagram, segmentBytes }));
}

/** The inner packets of what was sent to VTEPs that run no agent since the last call. */
const taken = (sent: Datagram[]) => sent.splice(0).map(({ payload }) => describe(payload.subarray(22)));

async function withExternal(): Promise<{ fake: FakeNodes; sent: Datagram[] }> {
  const fake = fakeNodes(2);
  for (const node of fake.nodes) node.apply([...rowsFor(CLUSTER, node.vtep), ...EXTERNAL_ROWS]);
  await fake.advance(1500);
  const sent: Datagram[] = [];
  fake.wire.filter = (datagram) => {
    if ([VTEP, SECOND_VTEP].some((vtep) => datagram.to === ipv4(vtep))) {
      sent.push({ ...datagram, payload: datagram.payload.slice() });
    }
    return [datagram];
  };
  return { fake, sent };
}

test("an external endpoint is reached at its own MAC and its VTEP's port, and answers", async (t) => {
  const { fake, sent } = await withExternal();
  send(fake, 0, { source: TASK_A, destination: EXTERNAL });
  t.is(sent.length, 1);
  t.is(sent[0]!.toPort, 8472);
  t.is(destinationMacOf(sent[0]!.payload), MAC);
  const answer = ipPacket({
    source: EXTERNAL,
    destination: TASK_A,
    sourcePort: 80,
    destinationPort: 40_000,
    flags: 0x12,
  });
  const { out, drops } = receive(fake, web(answer), { from: VTEP });
  t.deepEqual(drops, [{}, {}]);
  t.is(out[0]![0]!.source, EXTERNAL);
});

test("a super-packet to an external endpoint: every segment has its MAC", async (t) => {
  const { fake, sent } = await withExternal();
  const packet = ipPacket({
    ...{ source: TASK_A, destination: EXTERNAL, flags: ACK, partial: true },
    payload: new Uint8Array(10_000),
  });
  exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes: 1400 }));
  t.deepEqual(new Set(sent.map(({ payload }) => destinationMacOf(payload))), new Set([MAC]));
  t.is(sent.length, 8);
});

for (const protocol of ["tcp", "udp", "icmp"] as const) {
  test(`${protocol} with a wrong checksum from a VTEP that runs no agent is dropped, not mended`, async (t) => {
    const { fake } = await withExternal();
    const packet = ipPacket({ source: EXTERNAL, destination: TASK_A, protocol, payload: Uint8Array.of(1, 2, 3) });
    const right = receive(fake, web(packet), { from: VTEP });
    t.is(right.out[0]!.length, 1);
    packet[packet.length - 1]! ^= 1;
    const wrong = receive(fake, web(packet), { from: VTEP });
    t.deepEqual(wrong.drops[0], { "bad-transport-checksum": 1 });
  });
}

test("UDP without a checksum stays without one", async (t) => {
  const { fake } = await withExternal();
  const packet = ipPacket({ source: EXTERNAL, destination: TASK_A, protocol: "udp", noChecksum: true });
  t.is(receive(fake, web(packet), { from: VTEP }).out[0]![0]!.transportChecksum, "none");
});

test("fragments from a VTEP that runs no agent arrive, to be verified by who puts them together", async (t) => {
  const { fake } = await withExternal();
  const packet = ipPacket({
    ...{ source: EXTERNAL, destination: TASK_A, protocol: "udp" as const, fragment: 0 },
    payload: new Uint8Array(3000),
  });
  const { packets } = exchange(fake, () => {
    for (const fragment of fragmentsOf(packet, 1450)) {
      const addresses = { from: ipv4(VTEP), fromPort: 50_000, to: ipv4(A), toPort: 4789 };
      fake.wire.carry({ ...addresses, tos: 0, payload: web(fragment) });
    }
  });
  t.is(describe(joined(packets[0]!)).transportChecksum, "right");
});

test("an external endpoint cannot speak for others", async (t) => {
  const { fake } = await withExternal();
  const forged = receive(fake, web(ipPacket(FROM_B)), { from: VTEP });
  t.deepEqual(forged.drops[0], { "spoofed-source": 1 });
  for (const from of [SECOND_VTEP, "192.0.2.77"]) {
    const misplaced = receive(fake, web(ipPacket({ source: EXTERNAL, destination: TASK_A })), { from });
    t.deepEqual(misplaced.drops[0], { [from === SECOND_VTEP ? "spoofed-source" : "unknown-vtep"]: 1 });
  }
  const elsewhere = receive(fake, frame(ipPacket({ source: EXTERNAL, destination: "10.192.48.10" }), { vni: DB }), {
    from: VTEP,
  });
  t.deepEqual(elsewhere.drops[0], { "spoofed-source": 1 });
});

test("the ingress VNI is the nodes' own: whoever runs no agent reaches nobody by it", async (t) => {
  const { fake } = await withExternal();
  for (const source of [EXTERNAL, "198.51.100.7"]) {
    for (const destination of [TASK_A, "10.192.48.10", "10.192.0.2"]) {
      const packet = ipPacket({ source, destination });
      const { out, drops } = receive(fake, frame(packet, { vni: INGRESS_VNI }), { from: VTEP });
      t.deepEqual(out, [[], []], `${source} > ${destination}`);
      t.deepEqual(drops[0], { "unknown-vni": 1 });
    }
  }
});

test("the node itself has no way to an external endpoint, and is told so", async (t) => {
  const { fake, sent } = await withExternal();
  const { out, drops } = send(fake, 0, { source: "10.192.0.2", destination: EXTERNAL });
  t.is(sent.length, 0);
  t.deepEqual(drops[0], { "no-route": 1 });
  t.is(out[0]![0]!.protocol, 1);
});

test("its ARP is answered for every address of its network, and for none of its own", async (t) => {
  const { fake, sent } = await withExternal();
  for (const [target, mac] of [
    [TASK_A, "02:42:0a:c0:20:0a"],
    [TASK_B, "02:42:0a:c0:20:14"],
    [VIP, "02:42:0a:c0:20:02"],
    [GATEWAY, "02:42:0a:c0:20:01"],
    [SECOND, "02:42:0a:c0:20:33"],
  ] as const) {
    receive(fake, web(arpRequest(EXTERNAL, target), { etherType: 0x0806 }), { from: VTEP });
    const answer = sent.pop()!.payload;
    t.is(
      [...answer.subarray(22 + 8, 22 + 14)].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
      mac,
      target,
    );
    t.is(answer[22 + 7], 2);
  }
  for (const target of [EXTERNAL, BESIDE, "10.192.32.99", "10.192.48.10", "10.192.0.100"]) {
    const others = receive(fake, web(arpRequest(EXTERNAL, target), { etherType: 0x0806 }), { from: VTEP });
    t.deepEqual(others.drops[0], { "arp-not-ours": 1 }, target);
  }
  for (const sender of ["0.0.0.0", TASK_A, SECOND]) {
    const forged = receive(fake, web(arpRequest(sender, TASK_B), { etherType: 0x0806 }), { from: VTEP });
    t.deepEqual(forged.drops[0], { "spoofed-source": 1 }, sender);
  }
  t.is(sent.length, 0);
});

test("ARP requests that come as one train are so many requests, whatever their bytes would say as a packet's length", async (t) => {
  const { fake, sent } = await withExternal();
  // Where a packet has its length a request has its protocol's number, 2048: as much as these three have behind their first header.
  const padded = web(arpRequest(EXTERNAL, TASK_A), { etherType: 0x0806, padding: 690 - 22 - 28 });
  receive(fake, Uint8Array.from(Buffer.concat([padded, padded, padded])), { segmentBytes: 690 });
  t.is(sent.length, 3);
});

// Through the one node that the VTEP knows.

/** The external endpoint sends to a task by way of the first node, and the task answers. */
function talk(fake: FakeNodes, sent: Datagram[]) {
  const out = (fields: Partial<Fields>) =>
    receive(fake, web(ipPacket({ source: EXTERNAL, destination: TASK_B, sourcePort: 5000, ...fields })));
  const back = (node: number, source: string, fields: Partial<Fields>) => {
    send(fake, node, { source, destination: EXTERNAL, sourcePort: 80, destinationPort: 5000, ...fields });
    return taken(sent);
  };
  return { out, back };
}

test("an external endpoint reaches a task of another node and is answered the same way", async (t) => {
  const { fake, sent } = await withExternal();
  const { out, back } = talk(fake, sent);
  const asked = out({ sequence: 1000 });
  t.deepEqual(asked.drops, [{}, {}]);
  t.deepEqual(asked.out[1]!.map(brief), [`${EXTERNAL}:5000 > ${TASK_B}:80`]);
  const answers = back(1, TASK_B, { flags: SYN | ACK, sequence: 9000, acknowledgment: 1001 });
  t.deepEqual(answers.map(brief), [`${TASK_B}:80 > ${EXTERNAL}:5000`]);
  // The tables change: the flow is still borne out, on both nodes.
  const changed = [...EXTERNAL_ROWS, external("10.192.32.60", VTEP)];
  const { out: told } = exchange(fake, () => {
    for (const node of fake.nodes) node.apply([...rowsFor(CLUSTER, node.vtep), ...changed]);
    for (const { engine } of fake.nodes) for (let i = 0; i < 10; i++) engine.tick();
  });
  t.deepEqual([told, taken(sent)], [[[], []], []]);
  t.is(out({ flags: ACK, sequence: 1001, acknowledgment: 9001 }).out[1]!.length, 1);
  t.is(fake.nodes[1]!.flows()[0]!.state, "established");
});

test("its connections to a VIP are balanced over the tasks of all nodes, and answered by the VIP", async (t) => {
  const { fake, sent } = await withExternal();
  const reached = [5000, 5001].map((sourcePort) => {
    const { out } = receive(fake, web(ipPacket({ source: EXTERNAL, destination: VIP, sourcePort, sequence: 1000 })));
    const node = out[0]!.length > 0 ? 0 : 1;
    const task = out[node]![0]!.destination;
    const answer = { flags: SYN | ACK, sequence: 9000, acknowledgment: 1001, destinationPort: sourcePort };
    send(fake, node, { source: task, destination: EXTERNAL, sourcePort: 80, ...answer });
    t.deepEqual(taken(sent).map(brief), [`${VIP}:80 > ${EXTERNAL}:${sourcePort}`]);
    return task;
  });
  t.deepEqual(reached.sort(), [TASK_A, TASK_B]);
});

test("a port that is published for all is answered at its gateway, by a task of another network too", async (t) => {
  const { fake, sent } = await withExternal();
  const vips = {
    ...CLUSTER.vips,
    "10.192.0.103": { vni: 2, tasks: ["10.192.48.20"], ports: [[9203, 80]] as [number, number][] },
  };
  for (const node of fake.nodes) node.apply([...rowsFor({ ...CLUSTER, vips }, node.vtep), ...EXTERNAL_ROWS]);
  const { out } = talk(fake, sent);
  t.is(out({ destination: GATEWAY, destinationPort: 9203, sequence: 1000 }).out[1]![0]!.destination, "10.192.48.20");
  let carried = 0;
  fake.wire.filter = (datagram) => {
    if (datagram.to !== ipv4(VTEP)) return [datagram];
    carried++;
    t.is(new DataView(datagram.payload.buffer, datagram.payload.byteOffset).getUint32(4) >>> 8, WEB);
    t.is(brief(describe(datagram.payload.subarray(22))), `${GATEWAY}:9203 > ${EXTERNAL}:5000`);
    return [];
  };
  const reply = { source: "10.192.48.20", destination: EXTERNAL, sourcePort: 80, destinationPort: 5000 };
  send(fake, 1, { ...reply, flags: SYN | ACK, sequence: 9000, acknowledgment: 1001 });
  t.is(carried, 1);
});

test("a super-packet that a node's kernel sends in one frame goes on to an external endpoint in segments that fit", async (t) => {
  const { fake, sent } = await withExternal();
  const vips = {
    ...CLUSTER.vips,
    "10.192.0.103": { vni: 2, tasks: ["10.192.48.20"], ports: [[9203, 80]] as [number, number][] },
  };
  for (const node of fake.nodes) node.apply([...rowsFor({ ...CLUSTER, vips }, node.vtep), ...EXTERNAL_ROWS]);
  talk(fake, sent).out({ destination: GATEWAY, destinationPort: 9203, sequence: 1000 });
  const payload = Uint8Array.from({ length: 60_000 }, (_, i) => i * 7);
  const reply = { source: "10.192.48.20", destination: EXTERNAL, sourcePort: 80, destinationPort: 5000, flags: ACK };
  const packet = ipPacket({ ...reply, sequence: 9000, acknowledgment: 1001, payload, partial: true });
  const { drops } = receive(fake, frame(packet, { vni: INGRESS_VNI }), { from: B });
  t.deepEqual(drops, [{}, {}]);
  const pieces = taken(sent);
  t.deepEqual(new Set(pieces.map(brief)), new Set([`${GATEWAY}:9203 > ${EXTERNAL}:5000`]));
  t.deepEqual(new Set(pieces.map(({ transportChecksum }) => transportChecksum)), new Set(["right"]));
  t.true(pieces.every(({ payload }) => payload.length <= 1410));
  t.deepEqual(Uint8Array.from(Buffer.concat(pieces.map((piece) => piece.payload))), payload);
});

for (const [name, fields, drop] of [
  ["a manager's sessions at its gateway", { destination: GATEWAY, destinationPort: 2377 }, "not-allowed"],
  ["an endpoint of another network", { destination: "10.192.48.20" }, "no-route"],
  ["a VIP of the mesh", { destination: "10.192.0.100", destinationPort: 9200 }, "no-route"],
  ["the world outside", { destination: "198.51.100.7" }, "no-route"],
  ["a node", { destination: B }, "no-route"],
  ["an address that nobody has", { destination: "10.192.32.99" }, "no-route"],
  ["what is behind its own VTEP", { destination: BESIDE }, "no-route"],
] as const) {
  test(`an external endpoint does not reach ${name}`, async (t) => {
    const { fake, sent } = await withExternal();
    const { out, drops } = talk(fake, sent).out(fields);
    t.deepEqual(out, [[], []]);
    t.deepEqual(drops, [{ [drop]: 1 }, {}]);
    t.deepEqual(
      taken(sent).map(({ icmp }) => icmp),
      [drop === "not-allowed" ? "3/13" : "3/1"],
      "and is told so",
    );
  });
}

test("external endpoints behind two VTEPs reach each other through a node, and no packet goes round", async (t) => {
  const { fake, sent } = await withExternal();
  receive(fake, web(ipPacket({ source: EXTERNAL, destination: SECOND, sequence: 1000 })));
  t.deepEqual(
    sent.map(({ to }) => to),
    [ipv4(SECOND_VTEP)],
  );
  const echoed = receive(fake, sent.pop()!.payload, { from: SECOND_VTEP });
  t.deepEqual(echoed.drops[0], { "spoofed-source": 1 });
  // A node delivers what another node forwards, and forwards nothing of it.
  const onward = receive(fake, web(ipPacket({ source: EXTERNAL, destination: SECOND })), { from: B });
  t.deepEqual(onward.drops[0], { "no-route": 1 });
  t.is(sent.filter(({ to }) => to === ipv4(SECOND_VTEP)).length, 0);
});

test("a VTEP that finds another way goes on, and another VTEP cannot take its connections", async (t) => {
  const { fake, sent } = await withExternal();
  const { out, back } = talk(fake, sent);
  out({ sequence: 1000 });
  back(1, TASK_B, { flags: SYN | ACK, sequence: 9000, acknowledgment: 1001 });
  out({ flags: ACK, sequence: 1001, acknowledgment: 9001 });
  const next = { source: EXTERNAL, destination: TASK_B, sourcePort: 5000, flags: ACK, acknowledgment: 9001 };
  const forged = web(ipPacket({ ...next, sequence: 1001 }));
  t.deepEqual(receive(fake, forged, { from: SECOND_VTEP, to: B }).drops[1], { "spoofed-source": 1 });
  const blind = web(ipPacket({ ...next, sequence: 77_777 }));
  t.deepEqual(receive(fake, blind, { to: B }).drops[1], { "spoofed-source": 1 });
  t.is(receive(fake, web(ipPacket({ ...next, sequence: 1001 })), { to: B }).out[1]!.length, 1);
  let by: number | undefined;
  fake.wire.filter = (datagram) => {
    by = datagram.from;
    return [datagram];
  };
  back(1, TASK_B, { flags: ACK, sequence: 9001, acknowledgment: 1001, payload: new Uint8Array(10) });
  t.is(by, ipv4(B), "the answer goes straight to the VTEP now");
});

test("an answer by way of a node, to a question that went straight, arrives", async (t) => {
  const { fake } = await withExternal();
  send(fake, 1, { source: TASK_B, destination: EXTERNAL, sequence: 1000 });
  const answer = { source: EXTERNAL, destination: TASK_B, sourcePort: 80, destinationPort: 40_000, flags: SYN | ACK };
  const { out } = receive(fake, web(ipPacket({ ...answer, sequence: 9000, acknowledgment: 1001 })));
  t.is(out[1]!.length, 1);
});

// What a kernel's vxlan device on the same machine sends: checksums and segments are left to a card that is not there.

for (const protocol of ["tcp", "udp"] as const) {
  test(`a ${protocol} checksum that is left partial arrives right, on this node and the next, rewritten too`, async (t) => {
    const { fake } = await withExternal();
    const ways = [
      [TASK_A, 0],
      [TASK_B, 1],
      [VIP, undefined],
      [VIP, undefined],
    ] as const;
    for (const [i, [destination, node]] of ways.entries()) {
      const packet = ipPacket({
        ...{ source: EXTERNAL, destination, protocol, partial: true, destinationPort: 80 },
        ...{ payload: Uint8Array.of(1, 2, 3), sourcePort: 1000 + i },
      });
      const { packets, drops } = receive(fake, web(packet));
      t.deepEqual(drops, [{}, {}]);
      const arrived = packets.flat();
      t.is(arrived.length, 1);
      if (node !== undefined) t.is(packets[node]!.length, 1);
      t.is(describe(completed(arrived[0]!)).transportChecksum, "right");
      t.deepEqual(describe(arrived[0]!).payload, Uint8Array.of(1, 2, 3));
    }
  });

  test(`a ${protocol} checksum that is one beside the partial one is wrong`, async (t) => {
    const { fake } = await withExternal();
    const packet = ipPacket({
      source: EXTERNAL,
      destination: TASK_A,
      protocol,
      partial: true,
      payload: Uint8Array.of(1),
    });
    packet[20 + (protocol === "tcp" ? 17 : 7)]! ^= 1;
    t.deepEqual(receive(fake, web(packet)).drops[0], { "bad-transport-checksum": 1 });
  });
}

for (const [destination, node] of [
  [TASK_A, 0],
  [TASK_B, 1],
] as const) {
  test(`a super-packet in one frame reaches ${destination} whole`, async (t) => {
    const { fake } = await withExternal();
    const payload = Uint8Array.from({ length: 60_000 }, (_, i) => i * 7);
    const tcp = ipPacket({ source: EXTERNAL, destination, flags: ACK, payload, partial: true });
    const udp = ipPacket({ source: EXTERNAL, destination, protocol: "udp", payload, partial: true });
    for (const [packet, arrival] of [
      [tcp, {}],
      [udp, { segmentBytes: 1200 }],
    ] as const) {
      const { written, drops } = receive(fake, web(packet), arrival);
      t.deepEqual(drops, [{}, {}]);
      for (const { bytes, gso, gsoBytes } of written[node]!) {
        t.true(gso !== Gso.None ? gsoBytes <= 1410 : bytes.length <= 1450);
        if (packet === udp) t.true(gso === Gso.None || gsoBytes === 1200);
        t.is(describe(completed(bytes)).transportChecksum, "right");
      }
      t.deepEqual(Uint8Array.from(Buffer.concat(written[node]!.map(({ bytes }) => describe(bytes).payload))), payload);
    }
  });
}
