// Two nodes with a sealed network: what is on the wire between them, and what is refused.
import test from "ava";
import { SOURCE_PORTS } from "../../src/datapath/ports.ts";
import type { TableRow } from "../../src/datapath/rows.ts";
import { clearMtu, sealedMtu } from "../../src/datapath/sealed-way.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { arpRequest, frame } from "../fakes/frames.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, describe, type Fields, fragmentsOf, ipPacket, SYN } from "../fakes/ip-packets.ts";
import { INGRESS_VNI, rowsFor, SEALED_PORT } from "../fakes/nodes.ts";
import { agree, isOnWire, isSealedDatagram, SEALED_CLUSTER, sealedCluster, tap } from "../fakes/sealed-nodes.ts";
import { A, B, brief, cluster, DB, exchange, send, WEB } from "../fakes/two-nodes.ts";

const LOCAL = "10.192.32.10";
const REMOTE = "10.192.32.20";
const SECRET = Buffer.from("the plaintext that nobody is to read");
const WAY = { source: LOCAL, destination: REMOTE };

const CARRIED: [name: string, packet: Fields][] = [
  ["TCP", { ...WAY, flags: SYN, payload: SECRET }],
  ["UDP", { ...WAY, protocol: "udp", payload: SECRET }],
  ["a ping", { ...WAY, protocol: "icmp", payload: SECRET }],
  [
    "TCP by a virtual IP",
    { source: LOCAL, destination: "10.192.32.2", sourcePort: 40001, payload: SECRET, flags: SYN },
  ],
  [
    "a client outside, by a published port",
    { source: "198.51.100.7", destination: "10.192.0.100", destinationPort: 9200, flags: SYN, payload: SECRET },
  ],
  [
    "the node itself, by a published port",
    { source: "10.192.0.2", destination: "10.192.0.100", destinationPort: 9200, flags: SYN, payload: SECRET },
  ],
];
for (const [name, packet] of CARRIED) {
  test(`${name}: it arrives, and on the wire there is nothing of it to read`, async (t) => {
    const fake = await sealedCluster();
    const seen = tap(fake);
    let { packets, drops } = send(fake, 0, packet);
    if (packets[1]!.length === 0) ({ packets, drops } = send(fake, 0, { ...packet, sourcePort: 40009 })); // the other task
    t.is(packets[1]!.length, 1);
    t.true(Buffer.from(packets[1]![0]!).includes(SECRET));
    t.deepEqual(drops, [{}, {}]);
    t.true(seen.length > 0);
    t.true(seen.every(isSealedDatagram));
    t.false(isOnWire(seen, SECRET));
    const { source, destination, sourcePort, destinationPort } = describe(packets[1]![0]!);
    const answer = {
      source: destination,
      destination: source,
      sourcePort: destinationPort,
      destinationPort: sourcePort,
    };
    const protocol = packet.protocol ?? "tcp";
    const back = protocol === "icmp" ? { sourcePort, type: 0 } : { flags: SYN | ACK };
    const returned = send(fake, 1, { ...answer, protocol, payload: SECRET, ...back });
    t.deepEqual(returned.drops, [{}, {}]);
    t.is(returned.packets[0]!.length, 1);
    t.true(seen.every(isSealedDatagram));
    t.false(isOnWire(seen, SECRET));
  });
}

test("a super-packet arrives whole, and each of its segments is sealed with the length that the underlay takes", async (t) => {
  for (const join of [false, true]) {
    const fake = await sealedCluster({ join });
    const seen = tap(fake);
    const payload = new Uint8Array(60_000).map((_, i) => i * 31 + (i >> 8));
    const { written, drops } = exchange(fake, () =>
      fake.nodes[0]!.device.inject(ipPacket({ ...WAY, flags: ACK, payload, partial: true }), {
        gso: Gso.Tcp4,
        gsoBytes: 1368,
      }),
    );
    t.deepEqual(drops, [{}, {}]);
    const carried = written[1]!.map(({ bytes }) => bytes.subarray(40));
    t.deepEqual(Buffer.concat(carried), Buffer.from(payload));
    t.true(seen.every(isSealedDatagram));
    t.is(Math.max(...seen.map((datagram) => datagram.payload.length)) + 28, 1500);
    if (join) t.true(written[1]!.length < 4, `${written[1]!.length} super-packets`);
  }
});

test("fragments arrive, sealed", async (t) => {
  const fake = await sealedCluster();
  const seen = tap(fake);
  const whole = ipPacket({ ...WAY, protocol: "udp", fragment: 0, payload: Buffer.concat(new Array(80).fill(SECRET)) });
  const { packets, drops } = exchange(fake, () => {
    for (const fragment of fragmentsOf(whole, 1408)) fake.nodes[0]!.device.inject(fragment);
  });
  t.is(packets[1]!.length, 3);
  t.deepEqual(drops, [{}, {}]);
  t.true(seen.every(isSealedDatagram));
  t.false(isOnWire(seen, SECRET));
});

test("what is too long for the way goes in fragments that fit it sealed, a UDP super-packet too", async (t) => {
  const fake = await sealedCluster();
  const seen = tap(fake);
  const payload = Buffer.concat(new Array(39).fill(SECRET));
  const { packets, drops } = exchange(fake, () => {
    fake.nodes[0]!.device.inject(ipPacket({ ...WAY, protocol: "udp", fragment: 0, payload }));
    fake.nodes[0]!.device.inject(
      ipPacket({ ...WAY, protocol: "udp", fragment: 0, partial: true, payload: Buffer.concat([payload, payload]) }),
      {
        gso: Gso.Udp4,
        gsoBytes: payload.length,
      },
    );
  });
  t.deepEqual(drops, [{}, {}]);
  t.is(packets[1]!.length, 6);
  t.true(packets[1]!.every((packet) => packet.length <= 1408));
  t.true(seen.every((datagram) => isSealedDatagram(datagram) && datagram.payload.length + 28 <= 1500));
  t.false(isOnWire(seen, SECRET));
});

test("without a key nothing leaves, a key is asked for, and packets go on when it is there", async (t) => {
  const fake = await cluster({ sealed: true }, SEALED_CLUSTER);
  const wanted: (readonly number[])[] = [];
  fake.nodes[0]!.engine.onKeysWanted = (vteps) => wanted.push(vteps);
  const seen = tap(fake);
  t.deepEqual(send(fake, 0, { ...WAY, flags: SYN, payload: SECRET }).drops, [{ "no-key": 1 }, {}]);
  t.false(seen.some((datagram) => Buffer.from(datagram.payload).includes(SECRET)));
  t.deepEqual(wanted, []);
  fake.nodes[0]!.engine.tick();
  fake.nodes[0]!.engine.tick();
  t.deepEqual(wanted, [[ipv4(B)]]);
  agree(fake.nodes[0]!, fake.nodes[1]!);
  t.is(send(fake, 0, { ...WAY, flags: SYN, payload: SECRET }).packets[1]!.length, 1);
  fake.nodes[0]!.engine.forgetAssociations([], [ipv4(B)]);
  t.deepEqual(send(fake, 0, { ...WAY, payload: SECRET }).drops, [{ "no-key": 1 }, {}]);
  t.false(isOnWire(seen, SECRET));
});

test("a peer that cannot seal gets nothing, keys or not", async (t) => {
  const fake = await sealedCluster();
  const seen = tap(fake);
  const rows = rowsFor(SEALED_CLUSTER, A).map((row): TableRow => {
    if (row.kind !== "peer") return row;
    const { sealedPort: _, ...without } = row;
    return without;
  });
  fake.nodes[0]!.apply(rows);
  t.deepEqual(send(fake, 0, { ...WAY, flags: SYN, payload: SECRET }).drops, [{ "no-key": 1 }, {}]);
  t.false(isOnWire(seen, SECRET));
});

test("a node that has nothing to seal with drops what is to be sealed, and refuses keys", async (t) => {
  const fake = await cluster({}, SEALED_CLUSTER);
  t.deepEqual(send(fake, 0, { ...WAY, flags: SYN }).drops, [{ "no-key": 1 }, {}]);
  t.throws(() => agree(fake.nodes[0]!, fake.nodes[1]!), { message: /nothing to seal with/ });
});

test("the keys of a node that leaves the cluster are forgotten", async (t) => {
  const fake = await sealedCluster();
  const [first] = fake.nodes;
  const rows = rowsFor(SEALED_CLUSTER, A);
  first!.apply(rows.filter(({ kind }) => kind !== "peer"));
  first!.apply(rows);
  t.deepEqual(first!.engine.report().sealed, []);
  const { drops, packets } = send(fake, 0, { ...WAY, flags: SYN });
  t.deepEqual(drops[0], { "no-key": 1 });
  t.deepEqual(packets[1], []);
});

/** Puts a VXLAN datagram on the wire, from B to A as whoever forges it would. */
const forge = (payload: Uint8Array): Datagram => ({
  ...{ from: ipv4(B), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos: 0, payload },
});

const REFUSED: [name: string, vni: number, packet: Fields, drop: string][] = [
  ["of a sealed network", WEB, { source: REMOTE, destination: LOCAL }, "clear-packet"],
  [
    "on the ingress VNI for a sealed endpoint",
    INGRESS_VNI,
    { source: "198.51.100.7", destination: LOCAL, destinationPort: 80 },
    "clear-packet",
  ],
  [
    "on the ingress VNI that says it is from a sealed endpoint",
    INGRESS_VNI,
    { source: REMOTE, destination: "10.192.0.2", protocol: "icmp" },
    "clear-packet",
  ],
];
for (const [name, vni, packet, drop] of REFUSED) {
  test(`a clear packet ${name} is refused: from a peer with keys, of a flow there is, and first of its flow`, async (t) => {
    const fake = await sealedCluster();
    const forged = forge(frame(ipPacket({ ...packet, payload: SECRET }), { vni }));
    t.deepEqual(exchange(fake, () => fake.wire.carry(forged)).drops[0], { [drop]: 1 });
    // The same while the flow is there.
    send(fake, 0, { source: LOCAL, destination: REMOTE, sourcePort: 80, destinationPort: 40000, flags: SYN });
    const { drops, packets } = exchange(fake, () => fake.wire.carry(forged));
    t.deepEqual(drops[0], { [drop]: 1 });
    t.is(packets[0]!.length, 0);
  });
}

test("a clear answer to a sealed flow of the mesh is refused, an ICMP error about it too, and the flow goes on", async (t) => {
  const fake = await sealedCluster();
  const client = { source: "198.51.100.7", destination: "10.192.0.100", destinationPort: 9200, sourcePort: 40000 };
  t.is(send(fake, 0, { ...client, flags: SYN }).packets[1]!.length, 1);
  const answer = { source: REMOTE, destination: client.source, sourcePort: 80, destinationPort: 40000 };
  const clear = (packet: Fields) =>
    exchange(fake, () => fake.wire.carry(forge(frame(ipPacket(packet), { vni: INGRESS_VNI }))));
  t.deepEqual(clear({ ...answer, flags: SYN | ACK }).drops[0], { "clear-packet": 1 });
  const quoted = ipPacket({ source: client.source, destination: REMOTE, sourcePort: 40000, destinationPort: 80 });
  const error: Fields = {
    source: "10.192.0.3",
    destination: client.source,
    protocol: "icmp",
    type: 3,
    code: 1,
    payload: quoted,
  };
  t.deepEqual(clear(error).drops[0], { "clear-packet": 1 });
  t.is(send(fake, 1, { ...answer, flags: SYN | ACK }).packets[0]!.length, 1);
});

test("a clear ARP request on a sealed network is refused", async (t) => {
  const fake = await sealedCluster();
  const request = frame(arpRequest(REMOTE, LOCAL), { vni: WEB, etherType: 0x0806 });
  t.deepEqual(exchange(fake, () => fake.wire.carry(forge(request))).drops[0], { "clear-packet": 1 });
});

test("a sealed packet of a clear network is refused, and a flow of it goes on clear", async (t) => {
  const fake = await sealedCluster();
  const seen = tap(fake);
  const there = { source: "10.192.48.10", destination: "10.192.48.20" };
  t.is(send(fake, 0, { ...there, flags: SYN, payload: SECRET }).packets[1]!.length, 1);
  t.true(isOnWire(seen, SECRET));
  // B takes the network for a clear one only later.
  const clearLater = rowsFor(SEALED_CLUSTER, A).map((row): TableRow => {
    if (row.kind === "network" && row.vni === DB) return { ...row, sealed: true };
    return row.kind === "endpoint" && row.vni === DB ? { ...row, sealed: true } : row;
  });
  fake.nodes[0]!.apply(clearLater);
  const { drops } = send(fake, 0, { ...there, sourcePort: 40001, flags: SYN });
  t.deepEqual(drops, [{}, { "sealed-packet": 1 }]);
});

test("a flow is looked at again when its endpoint becomes one of a sealed network: nothing more goes clear", async (t) => {
  const fake = await cluster({ sealed: true });
  agree(fake.nodes[0]!, fake.nodes[1]!);
  const seen = tap(fake);
  t.is(send(fake, 0, { ...WAY, flags: SYN }).packets[1]!.length, 1);
  for (const node of fake.nodes) node.apply(rowsFor(SEALED_CLUSTER, node.vtep));
  seen.length = 0;
  send(fake, 0, { ...WAY, flags: ACK, payload: SECRET });
  const { packets } = send(fake, 0, { ...WAY, flags: SYN, sourcePort: 40001, payload: SECRET });
  t.is(packets[1]!.length, 1);
  t.false(isOnWire(seen, SECRET));
});

test("a flow that an agent before took for a clear one ends with the first rows that say otherwise", async (t) => {
  const fake = await cluster({ sealed: true });
  t.is(send(fake, 0, { ...WAY, flags: SYN }).packets[1]!.length, 1);
  const seen = tap(fake);
  const again = fake.restart(0);
  const rows = rowsFor(SEALED_CLUSTER, A).map(
    (row): TableRow => (row.kind === "node" ? { ...row, isProvisional: true } : row),
  );
  again.apply(rows);
  send(fake, 0, { ...WAY, flags: ACK, payload: SECRET });
  t.false(isOnWire(seen, SECRET));
});

test("a sealed network's packets have 42 bytes less, are told so, and so are their connections' ends", async (t) => {
  t.is(sealedMtu(1450), 1408);
  for (let mtu = 600; mtu < 9000; mtu++) {
    const outer = ((sealedMtu(mtu) + 32 + 3) & ~3) + 60;
    t.true(outer <= mtu + 50 && mtu - sealedMtu(mtu) <= 45 && sealedMtu(clearMtu(mtu)) === sealedMtu(mtu));
    t.true(clearMtu(mtu) + 50 <= outer);
  }
  const fake = await sealedCluster();
  const big = { ...WAY, protocol: "udp" as const };
  const { out, packets } = send(fake, 0, { ...big, payload: new Uint8Array(1381) });
  t.is(brief(out[0]![0]!), `10.192.32.1:0 > ${LOCAL}:0`);
  t.is(new DataView(packets[0]![0]!.buffer).getUint16(26), 1408);
  t.is(send(fake, 0, { ...big, payload: new Uint8Array(1380) }).packets[1]!.length, 1);
  const local = send(fake, 0, { ...big, destination: "10.192.32.11", payload: new Uint8Array(1381) });
  t.is(new DataView(local.packets[0]![0]!.buffer).getUint16(26), 1408);
  const options = Uint8Array.of(2, 4, 1460 >> 8, 1460 & 255);
  for (const destination of [REMOTE, "198.51.100.7"]) {
    const { packets: syn } = send(fake, 0, { source: LOCAL, destination, flags: SYN, options, sourcePort: 40005 });
    const bytes = syn[destination === REMOTE ? 1 : 0]![0]!;
    t.is(new DataView(bytes.buffer).getUint16(42), 1368, destination);
  }
});

test("all sockets seal for a peer, each with an association of its own", async (t) => {
  const fake = await sealedCluster();
  const seen = tap(fake);
  for (let i = 0; i < 64; i++) send(fake, 0, { ...WAY, protocol: "udp", sourcePort: 2000 + i });
  const spis = new Map(seen.map(({ fromPort, payload }) => [fromPort, new DataView(payload.buffer).getUint32(0)]));
  t.is(spis.size, SOURCE_PORTS);
  t.is(new Set(spis.values()).size, SOURCE_PORTS);
  t.true(seen.every(({ toPort }) => toPort === SEALED_PORT));
});
