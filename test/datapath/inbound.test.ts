// Frames as they come from the wire: ECN, peers that run no agent, what is cut, padded or tagged.
import test from "ava";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { type FrameFields, frame } from "../fakes/frames.ts";
import { ACK, type Fields, ipPacket, PSH } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { A, cluster, type Exchange, exchange, send, WEB } from "../fakes/two-nodes.ts";

const TASK_A = "10.192.32.10";
const TASK_B = "10.192.32.20";
/** The first node receives a datagram; what comes of it. */
function receive(fake: FakeNodes, payload: Uint8Array, { from = "192.0.2.12", tos = 0 } = {}): Exchange {
  const datagram = { from: ipv4(from), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos, payload };
  return exchange(fake, () => fake.wire.carry(datagram));
}

const FROM_B: Fields = { source: TASK_B, destination: TASK_A };
const web = (packet: Uint8Array, fields: Partial<FrameFields> = {}) => frame(packet, { vni: WEB, ...fields });

// RFC 6040 figure 4: by inner and outer codepoint, what comes out; null: dropped.
const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;
const NORMAL_MODE: [inner: number, outer: number, combined: number | null][] = [
  [NOT_ECT, NOT_ECT, NOT_ECT],
  [NOT_ECT, ECT_0, NOT_ECT],
  [NOT_ECT, ECT_1, NOT_ECT],
  [NOT_ECT, CE, null],
  [ECT_0, NOT_ECT, ECT_0],
  [ECT_0, ECT_0, ECT_0],
  [ECT_0, ECT_1, ECT_1],
  [ECT_0, CE, CE],
  [ECT_1, NOT_ECT, ECT_1],
  [ECT_1, ECT_0, ECT_1],
  [ECT_1, ECT_1, ECT_1],
  [ECT_1, CE, CE],
  [CE, NOT_ECT, CE],
  [CE, ECT_0, CE],
  [CE, ECT_1, CE],
  [CE, CE, CE],
];
const ECN_NAMES = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
for (const [inner, outer, combined] of NORMAL_MODE) {
  const result = combined === null ? "dropped" : ECN_NAMES[combined];
  test(`ECN: inner ${ECN_NAMES[inner]}, outer ${ECN_NAMES[outer]}: ${result}, the checksum right`, async (t) => {
    for (const dscp of [0, 0xb8]) {
      const fake = await cluster();
      const packet = ipPacket({ ...FROM_B, tos: dscp | inner });
      const { out, drops } = receive(fake, web(packet), { tos: outer | 0x20 });
      if (combined === null) {
        t.deepEqual(drops[0], { "congestion-marked": 1 });
        continue;
      }
      t.is(out[0]![0]!.tos, dscp | combined);
      t.true(out[0]![0]!.headerChecksumIsRight);
    }
  });
}

for (const [inner, name] of ECN_NAMES.entries()) {
  test(`ECN: inner ${name} goes out as the outer one`, async (t) => {
    const fake = await cluster();
    const seen: number[] = [];
    fake.wire.filter = (datagram) => {
      if (datagram.payload[5] === WEB >> 8) seen.push(datagram.tos);
      return [datagram];
    };
    send(fake, 0, { source: TASK_A, destination: TASK_B, tos: 0xb8 | inner });
    t.deepEqual(seen, [inner]);
  });
}

// Frames that are not quite.

const WHOLE = ipPacket({ ...FROM_B, flags: ACK | PSH, payload: Uint8Array.of(1, 2, 3) });
const REFUSED: [name: string, payload: Uint8Array, drop: string][] = [
  ["no bytes", new Uint8Array(0), "too-short"],
  ["less than a frame", new Uint8Array(21), "too-short"],
  ["a frame without a packet", web(new Uint8Array(0)), "too-short"],
  ["no VNI flag", web(WHOLE, { flags: 0 }), "no-vni"],
  ["a VNI that nobody has", web(WHOLE, { vni: 77 }), "unknown-vni"],
  ["a VLAN tag", web(WHOLE, { etherType: 0x8100 }), "vlan-tag"],
  ["IPv6", web(WHOLE, { etherType: 0x86dd }), "unknown-ether-type"],
  ["an IP header that is cut", web(WHOLE.subarray(0, 19)), "too-short"],
  ["a packet that is cut", web(WHOLE.subarray(0, WHOLE.length - 1)), "bad-total-length"],
  ["a wrong header checksum", web(changed(WHOLE, 8, 63)), "bad-header-checksum"],
  ["another IP version", web(changed(WHOLE, 0, 0x65)), "bad-version"],
  ["a header length of 16", web(changed(WHOLE, 0, 0x44)), "bad-header-length"],
];
for (const [name, payload, drop] of REFUSED) {
  test(`a datagram is dropped and counted: ${name}`, async (t) => {
    const fake = await cluster();
    const { out, drops } = receive(fake, payload);
    t.deepEqual(out, [[], []]);
    t.deepEqual(drops[0], { [drop]: 1 });
  });
}

function changed(packet: Uint8Array, at: number, value: number): Uint8Array {
  const bytes = packet.slice();
  bytes[at] = value;
  return bytes;
}

test("padding behind a short packet is trimmed", async (t) => {
  const fake = await cluster();
  const { packets } = receive(fake, web(WHOLE, { padding: 17 }));
  t.is(packets[0]![0]!.length, WHOLE.length);
});

// What a review of another overlay's offloads found.

test("a UDP datagram of no bytes arrives, between others that are joined", async (t) => {
  const fake = await cluster({ join: true });
  const datagram = (length: number) =>
    web(ipPacket({ ...FROM_B, protocol: "udp", payload: new Uint8Array(length).fill(length) }));
  const { packets, drops } = exchange(fake, () => {
    for (const length of [100, 100, 0, 0, 100]) {
      fake.wire.carry({
        ...{ from: ipv4("192.0.2.12"), fromPort: 50_000, to: ipv4(A), toPort: 4789, tos: 0 },
        payload: datagram(length),
      });
    }
  });
  t.deepEqual(drops, [{}, {}]);
  t.deepEqual(
    packets[0]!.map(({ length }) => length),
    [228, 28, 28, 128],
  );
});

for (const gsoBytes of [8, 19, 20, 53]) {
  test(`segments of ${gsoBytes} bytes, less than their headers, keep their headers whole`, async (t) => {
    const fake = await cluster();
    const payload = Uint8Array.from({ length: 1000 }, (_, i) => i * 3);
    const options = Uint8Array.of(1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8);
    const packet = ipPacket({ source: TASK_A, destination: TASK_B, flags: ACK, options, payload, partial: true });
    const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes }));
    t.deepEqual(drops, [{}, {}]);
    t.deepEqual(Uint8Array.from(Buffer.concat(out[1]!.map((arrived) => arrived.payload))), payload);
    for (const { headerChecksumIsRight, sourcePort } of out[1]!) {
      t.true(headerChecksumIsRight);
      t.is(sourcePort, 40_000);
    }
  });
}

for (const maxSegments of [1, 2, 63, 64, 65, 128]) {
  test(`no message is cut into more than the ${maxSegments} segments that the underlay takes`, async (t) => {
    const fake = await cluster({ maxSegments }); // the fake underlay throws when it is
    const payload = Uint8Array.from({ length: 60_000 }, (_, i) => i * 7);
    const packet = ipPacket({ source: TASK_A, destination: TASK_B, flags: ACK, payload, partial: true });
    const { out } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes: 500 }));
    t.deepEqual(Uint8Array.from(Buffer.concat(out[1]!.map((arrived) => arrived.payload))), payload);
  });
}

test("a UDP super-packet whose UDP length is less than it has is dropped and counted", async (t) => {
  const fake = await cluster();
  const packet = ipPacket({
    ...{ source: TASK_A, destination: "10.192.32.11", protocol: "udp" as const, partial: true },
    payload: new Uint8Array(1000),
  });
  new DataView(packet.buffer).setUint16(24, 500);
  const { drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso: Gso.Udp4, gsoBytes: 400 }));
  t.deepEqual(drops[0], { "bad-super-packet": 1 });
});

for (const [name, gso, gsoBytes, fields] of [
  ["of no segment size", Gso.Tcp4, 0, { flags: ACK }],
  ["of a size that says something else to the kernel", Gso.Tcp4, 7, { flags: ACK }],
  ["of TCP that is UDP", Gso.Tcp4, 500, { protocol: "udp" }],
  ["of UDP that is TCP", Gso.Udp4, 500, { flags: ACK }],
  ["without payload", Gso.Tcp4, 500, { flags: ACK, payload: new Uint8Array(0) }],
  ["of too many datagrams", Gso.Udp4, 8, { protocol: "udp", payload: new Uint8Array(8 * 129) }],
] as const) {
  test(`a super-packet ${name} is dropped and counted`, async (t) => {
    const fake = await cluster();
    const packet = ipPacket({
      ...{ source: TASK_A, destination: TASK_B, partial: true, payload: new Uint8Array(1000) },
      ...fields,
    });
    const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso, gsoBytes }));
    t.deepEqual(out, [[], []]);
    t.deepEqual(drops[0], { "bad-super-packet": 1 });
  });
}
