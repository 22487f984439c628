// What a peer's kernel leaves to a network card, where there is none on the way: checksums that are partial, super-packets in one frame. So
// a peer's express lane sends, and its packets may come to the agent at any moment. What is wrong is dropped, in trains too, unless the kernel has verified it by the outer checksum.
import test from "ava";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { frame } from "../fakes/frames.ts";
import { ACK, completed, describe, type Fields, ipPacket, PSH, SYN } from "../fakes/ip-packets.ts";
import { type FakeNodes, INGRESS_VNI, rowsFor } from "../fakes/nodes.ts";
import { taken, train } from "../fakes/trains.ts";
import { A, B, brief, CLUSTER, cluster, type Exchange, exchange, send, WEB } from "../fakes/two-nodes.ts";

const TASK_A = "10.192.32.10";
const TASK_B = "10.192.32.20";
const CLIENT = "10.192.32.11";
const VIP = "10.192.32.2";
const FROM_B: Fields = { source: TASK_B, destination: TASK_A };
/** The fake nodes' MTU, and what of it a segment has when its headers are of 40 bytes. */
const MTU = 1450;
const SEGMENT = MTU - 40;

const web = (packet: Uint8Array) => frame(packet, { vni: WEB });
const body = (bytes: number) => Uint8Array.from({ length: bytes }, (_, i) => i * 7);
const superPacket = (fields: Partial<Fields> = {}, bytes = 60_000) =>
  ipPacket({ ...FROM_B, flags: ACK, partial: true, payload: body(bytes), ...fields });

/** The first node receives a message from the second's address. Datagrams of `segmentBytes` were joined in it, the kernel says. */
function receive(fake: FakeNodes, payload: Uint8Array, segmentBytes?: number): Exchange {
  const way = { from: ipv4(B), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos: 0 };
  return exchange(fake, () =>
    fake.wire.carry({ ...way, payload, ...(segmentBytes !== undefined && { segmentBytes }) }),
  );
}

const joined = (frames: readonly Uint8Array[]) => Uint8Array.from(Buffer.concat(frames));
const payloadOf = (packets: readonly Uint8Array[]) => joined(packets.map((packet) => describe(packet).payload));

for (const protocol of ["tcp", "udp"] as const) {
  test(`${protocol}: a partial checksum is completed by whoever takes the packet`, async (t) => {
    const fake = await cluster();
    const packet = ipPacket({ ...FROM_B, protocol, partial: true, payload: body(100) });
    const { out, packets, drops } = receive(fake, web(packet));
    t.deepEqual(drops, [{}, {}]);
    t.deepEqual(out[0]![0]!.payload, body(100));
    t.is(describe(completed(packets[0]![0]!)).transportChecksum, "right");
  });

  test(`${protocol}: a wrong checksum is dropped and counted, not mended`, async (t) => {
    const fake = await cluster();
    const packet = ipPacket({ ...FROM_B, protocol, payload: body(100) });
    packet[packet.length - 1]! ^= 1;
    const { out, drops } = receive(fake, web(packet));
    t.deepEqual(out, [[], []]);
    t.deepEqual(drops[0], { "bad-transport-checksum": 1 });
  });

  test(`${protocol}: a checksum one beside the partial one is wrong`, async (t) => {
    const fake = await cluster();
    const packet = ipPacket({ ...FROM_B, protocol, partial: true, payload: body(100) });
    packet[20 + (protocol === "tcp" ? 17 : 7)]! ^= 1;
    t.deepEqual(receive(fake, web(packet)).drops[0], { "bad-transport-checksum": 1 });
  });
}

test("ICMP with a wrong checksum is dropped and counted", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({ ...FROM_B, protocol: "icmp", payload: body(56) });
  packet[packet.length - 1]! ^= 1;
  t.deepEqual(receive(fake, web(packet)).drops[0], { "bad-transport-checksum": 1 });
});

test("UDP without a checksum stays without one", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({ ...FROM_B, protocol: "udp", noChecksum: true, payload: body(100) });
  t.is(receive(fake, web(packet)).out[0]![0]!.transportChecksum, "none");
});

for (const [name, fields] of [
  ["TCP", {}],
  ["TCP with options", { options: Uint8Array.of(1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8) }],
  ["TCP that asks for delivery", { flags: ACK | PSH }],
  ["TCP of two segments", { payload: body(SEGMENT + 1) }],
] as const) {
  test(`a super-packet of ${name} in one frame reaches its container in one piece, to be cut so that it fits`, async (t) => {
    const fake = await cluster();
    const packet = superPacket(fields);
    const { written, drops } = receive(fake, web(packet));
    t.deepEqual(drops, [{}, {}]);
    t.is(written[0]!.length, 1);
    const [{ bytes, gso, gsoBytes, needsChecksum }] = written[0]! as [(typeof written)[0][0]];
    const headerBytes = packet.length - describe(packet).payload.length;
    t.deepEqual([gso, gsoBytes, needsChecksum], [Gso.Tcp4, MTU - headerBytes, true]);
    t.deepEqual(bytes, packet);
  });
}

test("a super-packet of UDP in one frame keeps the size of its datagrams", async (t) => {
  const fake = await cluster();
  const packet = superPacket({ protocol: "udp" });
  const { written, drops } = receive(fake, web(packet), 1200);
  t.deepEqual(drops, [{}, {}]);
  t.deepEqual(
    written[0]!.map(({ gso, gsoBytes, needsChecksum }) => [gso, gsoBytes, needsChecksum]),
    [[Gso.Udp4, 1200, true]],
  );
  t.deepEqual(written[0]![0]!.bytes, packet);
});

test("a super-packet's flow counts all of its bytes, and its next segment is in turn", async (t) => {
  const fake = await cluster();
  send(fake, 0, { source: TASK_A, destination: TASK_B, sequence: 1000 });
  const reply = { ...FROM_B, sourcePort: 80, destinationPort: 40_000, acknowledgment: 1001 };
  receive(fake, web(ipPacket({ ...reply, flags: SYN | ACK, sequence: 9000 })));
  send(fake, 0, { source: TASK_A, destination: TASK_B, flags: ACK, sequence: 1001, acknowledgment: 9001 });
  receive(fake, web(superPacket({ ...reply, sequence: 9001 })));
  const next = receive(fake, web(superPacket({ ...reply, sequence: 69_001 })));
  t.deepEqual(next.drops, [{}, {}]);
  const [flow] = fake.nodes[0]!.flows();
  t.is(flow!.state, "established");
  t.true(flow!.bytes >= 120_000);
});

/** A port from which the client on the first node has a flow through the VIP to the task on the second. */
function connect(fake: FakeNodes, protocol: "tcp" | "udp"): number {
  for (let port = 1000; ; port++) {
    const [there] = send(fake, 0, { source: CLIENT, destination: VIP, sourcePort: port, protocol }).out[1]!;
    if (there?.destination === TASK_B) return port;
  }
}

for (const [name, fields, segmentBytes] of [
  ["a partial TCP checksum", { payload: body(100) }, undefined],
  ["a partial UDP checksum", { protocol: "udp", payload: body(100) }, undefined],
  ["a super-packet of TCP", {}, undefined],
  ["a super-packet of UDP", { protocol: "udp" }, 1200],
] as const) {
  test(`${name} from a task behind a VIP is rewritten right`, async (t) => {
    const fake = await cluster();
    const port = connect(fake, "protocol" in fields ? fields.protocol : "tcp");
    const packet = superPacket({ destination: CLIENT, sourcePort: 80, destinationPort: port, ...fields });
    const { out, written, drops } = receive(fake, web(packet), segmentBytes);
    t.deepEqual(drops, [{}, {}]);
    t.deepEqual(out[0]!.map(brief), [`${VIP}:80 > ${CLIENT}:${port}`]);
    t.deepEqual(out[0]![0]!.payload, describe(packet).payload);
    for (const piece of taken(written[0]!)) {
      t.true(piece.length <= MTU);
      t.is(describe(piece).transportChecksum, "right");
    }
  });
}

test("a super-packet of a task goes to a client outside through the mesh, from the address that the client asked", async (t) => {
  const fake = await cluster();
  const asked = { source: "198.51.100.7", destination: "10.192.0.100", sourcePort: 5000, destinationPort: 9200 };
  t.deepEqual(send(fake, 0, asked).out[1]!.map(brief), [`198.51.100.7:5000 > ${TASK_B}:80`]);
  const answer = superPacket({ source: TASK_B, destination: "198.51.100.7", sourcePort: 80, destinationPort: 5000 });
  const { out, written, drops } = receive(fake, frame(answer, { vni: INGRESS_VNI }));
  t.deepEqual(drops, [{}, {}]);
  t.deepEqual(out[0]!.map(brief), ["10.192.0.100:9200 > 198.51.100.7:5000"]);
  t.deepEqual([written[0]![0]!.gso, written[0]![0]!.gsoBytes], [Gso.Tcp4, SEGMENT]);
  t.deepEqual(out[0]![0]!.payload, body(60_000));
});

// Lengths that disagree.

const set16 = (packet: Uint8Array, at: number, value: number): Uint8Array => {
  const changed = packet.slice();
  new DataView(changed.buffer).setUint16(at, value);
  return changed;
};
const udpSuper = superPacket({ protocol: "udp" }, 10_000);
for (const [name, payload, segmentBytes, drop] of [
  ["a super-packet that is cut", web(superPacket().subarray(0, 59_000)), undefined, "bad-total-length"],
  ["a UDP length that is less than the super-packet's", web(set16(udpSuper, 24, 5000)), 1200, "bad-transport-checksum"],
  ["a UDP length that is more than the super-packet's", web(set16(udpSuper, 24, 11_000)), 1200, "bad-transport-header"],
  ["a super-packet of more datagrams than the kernel cuts", web(udpSuper), 70, "bad-super-packet"],
  ["datagrams of no size that the kernel cuts to", web(udpSuper), 7, "bad-super-packet"],
  ["a packet too large to pass, whose checksum is right", web(superPacket({ partial: false })), undefined, "too-big"],
  ["a partial datagram too large to pass, of one piece", web(udpSuper), undefined, "too-big"],
] as const) {
  test(`dropped and counted: ${name}`, async (t) => {
    const fake = await cluster();
    const { out, drops } = receive(fake, payload, segmentBytes);
    t.deepEqual(drops[0], { [drop]: 1 });
    t.deepEqual(out[0], []);
  });
}

test("padding behind a partial packet is trimmed", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({ ...FROM_B, partial: true, payload: body(3) });
  const { packets } = receive(fake, frame(packet, { vni: WEB, padding: 17 }));
  t.is(packets[0]![0]!.length, packet.length);
});

// Trains, as the kernel joins them: of agents' segments, and of a lane's frames.

for (const protocol of ["tcp", "udp"] as const) {
  const packets = train([1000, 1000, 1000, 1000, 300], { protocol });
  const size = 22 + packets[0]!.length;

  test(`${protocol}: a train of right datagrams is one super-packet`, async (t) => {
    const fake = await cluster();
    const { written, drops } = receive(fake, joined(packets.map(web)), size);
    t.deepEqual(drops, [{}, {}]);
    t.is(written[0]!.length, 1);
    t.deepEqual(taken(written[0]!).map(describe), packets.map(describe));
  });

  for (const wrong of packets.keys()) {
    test(`${protocol}: datagram ${wrong} of an older agent's train is dropped alone when its checksum is wrong`, async (t) => {
      const fake = await cluster();
      fake.nodes[0]!.apply(rowsFor(CLUSTER, A).map((row) => (row.kind === "peer" ? { ...row, lane: false } : row)));
      const changed = packets.map((packet, i) => (i === wrong ? set16(packet, packet.length - 2, 0xbad) : packet));
      const { written, drops } = receive(fake, joined(changed.map(web)), size);
      t.deepEqual(drops[0], { "bad-transport-checksum": 1 });
      t.deepEqual(payloadOf(taken(written[0]!)), payloadOf(packets.filter((_, i) => i !== wrong)));
    });
  }

  test(`${protocol}: a train that begins with a wrong checksum loses that datagram, whatever agent sent it`, async (t) => {
    const fake = await cluster();
    const changed = packets.with(0, set16(packets[0]!, packets[0]!.length - 2, 0xbad));
    const { written, drops } = receive(fake, joined(changed.map(web)), size);
    t.deepEqual(drops[0], { "bad-transport-checksum": 1 });
    t.deepEqual(payloadOf(taken(written[0]!)), payloadOf(packets.slice(1)));
  });

  test(`${protocol}: a train of partial datagrams arrives whole, and one among right ones too`, async (t) => {
    for (const partial of [[0, 1, 2, 3, 4], [0], [2], [4]]) {
      const fake = await cluster();
      const mixed = train([1000, 1000, 1000, 1000, 300], { protocol }, (i) => ({ partial: partial.includes(i) }));
      const { written, drops } = receive(fake, joined(mixed.map(web)), size);
      t.deepEqual(drops, [{}, {}]);
      const arrived = taken(written[0]!);
      t.deepEqual(payloadOf(arrived), payloadOf(packets));
      for (const packet of arrived) t.is(describe(packet).transportChecksum, "right");
    }
  });
}

// What comes from this node's own containers, and from clients outside.

for (const [where, destination] of [
  ["another container of the node", CLIENT],
  ["a container of another node", TASK_B],
] as const) {
  for (const protocol of ["tcp", "udp", "icmp"] as const) {
    test(`${protocol} with a wrong checksum to ${where} is dropped and counted, not mended`, async (t) => {
      const fake = await cluster();
      const packet = ipPacket({ source: TASK_A, destination, protocol, payload: body(100) });
      packet[packet.length - 1]! ^= 1;
      const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet));
      t.deepEqual(out, [[], []]);
      t.deepEqual(drops, [{ "bad-transport-checksum": 1 }, {}]);
    });
  }
}

test("a checksum that the kernel found right is taken as right", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({ source: TASK_A, destination: CLIENT, payload: body(100) });
  packet[packet.length - 1]! ^= 1;
  const { out } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { hasRightChecksum: true }));
  t.is(out[0]!.length, 1);
});
