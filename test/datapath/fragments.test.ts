// Fragments: those of one datagram go one way; what is too big for a peer is cut or refused, and comes together again.
import test from "ava";
import fc from "fast-check";
import { Gso } from "../../src/packet/virtio-net.ts";
import { completed, describe, type Fields, fragmentsOf, ipPacket, joined } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { cluster, exchange } from "../fakes/two-nodes.ts";

const CLIENT = "10.192.32.11";
const VIP = "10.192.32.2";
const TASK_B = "10.192.32.20";
const UDP: Fields = {
  source: CLIENT,
  destination: VIP,
  protocol: "udp",
  fragment: 0,
  payload: Uint8Array.from({ length: 4000 }, (_, i) => i * 7),
};
const ECHO: Fields = { ...UDP, protocol: "icmp", sourcePort: 9 };

function inject(fake: FakeNodes, packets: readonly Uint8Array[], node = 0) {
  return exchange(fake, () => {
    for (const packet of packets) fake.nodes[node]!.device.inject(packet);
  });
}

for (const [name, fields] of [
  ["UDP", UDP],
  ["an echo request", ECHO],
] as const) {
  test(`the fragments of ${name} to a VIP reach one task, and its answer's come back whole`, async (t) => {
    const fake = await cluster();
    for (let flow = 1; flow <= 4; flow++) {
      const datagram = ipPacket({ ...fields, id: flow, sourcePort: flow });
      const there = inject(fake, fragmentsOf(datagram, 1400));
      t.deepEqual(there.drops, [{}, {}]);
      const at = there.packets[0]!.length > 0 ? 0 : 1;
      t.is(there.packets[1 - at]!.length, 0);
      t.is(there.packets[at]!.length, 3);
      const arrived = describe(joined(there.packets[at]!));
      t.is(arrived.transportChecksum, "right");
      t.deepEqual(arrived.payload, fields.payload);
      const answer = ipPacket({
        ...fields,
        type: 0,
        source: arrived.destination,
        destination: CLIENT,
        sourcePort: fields.protocol === "icmp" ? flow : 80,
        destinationPort: flow,
        id: 100 + flow,
      });
      const back = inject(fake, fragmentsOf(answer, 1400), at);
      t.deepEqual(back.drops, [{}, {}]);
      const whole = describe(joined(back.packets[0]!));
      t.is(whole.source, VIP);
      t.is(whole.transportChecksum, "right");
    }
  });
}

test("a later fragment without its first is dropped and counted, and harms no other datagram", async (t) => {
  const fake = await cluster();
  const [first, second, third] = fragmentsOf(ipPacket(UDP), 1400);
  const early = inject(fake, [second!, first!, third!]);
  t.deepEqual(early.drops, [{ "fragment-without-first": 1 }, {}]);
  const whole = inject(fake, fragmentsOf(ipPacket({ ...UDP, id: 2 }), 1400));
  t.deepEqual(whole.drops, [{}, {}]);
});

test("a later fragment long after the first is another datagram's", async (t) => {
  const fake = await cluster();
  const [first, second] = fragmentsOf(ipPacket(UDP), 1400);
  inject(fake, [first!]);
  await fake.advance(31_000);
  t.deepEqual(inject(fake, [second!]).drops, [{ "fragment-without-first": 1 }, {}]);
});

test("more datagrams in pieces than the table holds: the latest ones pass", async (t) => {
  const fake = await cluster();
  for (let id = 0; id < 5000; id++) inject(fake, fragmentsOf(ipPacket({ ...UDP, id }), 1400).slice(0, 1));
  t.deepEqual(inject(fake, fragmentsOf(ipPacket({ ...UDP, id: 6000 }), 1400)).drops, [{}, {}]);
});

const BROKEN: [name: string, packet: Uint8Array][] = [
  ["one that overlays a TCP header", ipPacket({ ...UDP, protocol: "tcp", fragment: 1 })],
  ["one that ends behind 65,535 bytes", ipPacket({ ...UDP, fragment: 0x1ff0 })],
  ["one of an ICMP error", ipPacket({ ...ECHO, type: 3, code: 1, fragment: 0x2000 })],
];
for (const [name, packet] of BROKEN) {
  test(`a fragment is refused: ${name}`, async (t) => {
    const fake = await cluster();
    t.deepEqual(inject(fake, [packet]).drops, [{ "bad-fragment": 1 }, {}]);
  });
}

// Too big for the way to a peer.

const NARROW = 1300;
/** A wire that carries no inner packet larger than NARROW, as both nodes have found out. */
async function narrow(): Promise<FakeNodes> {
  const fake = await cluster();
  fake.wire.filter = (datagram) => (datagram.payload.length > NARROW + 22 ? [] : [datagram]);
  await fake.advance(20_000);
  const [peer] = fake.nodes[0]!.engine.report().probes;
  if (peer!.mtu !== NARROW) throw new Error(`the MTU was measured as ${peer!.mtu}`);
  return fake;
}

test("DF set: the sender is told the MTU that was measured to this peer", async (t) => {
  const fake = await narrow();
  const sent = ipPacket({ ...UDP, fragment: 0x4000, destination: TASK_B, payload: new Uint8Array(1300) });
  const { out, packets, drops } = inject(fake, [sent]);
  t.deepEqual(drops, [{ "too-big": 1 }, {}]);
  t.is(out[0]![0]!.icmp, "3/4");
  t.is(out[0]![0]!.source, "10.192.32.1");
  t.is(new DataView(packets[0]![0]!.buffer).getUint16(26), NARROW);
  // And no more than that passes.
  const fits = ipPacket({ ...UDP, fragment: 0x4000, destination: TASK_B, payload: new Uint8Array(NARROW - 28) });
  t.deepEqual(inject(fake, [fits]).drops, [{}, {}]);
});

test("through a VIP the sender is told about the packet that it sent", async (t) => {
  const fake = await narrow();
  inject(fake, [ipPacket({ source: CLIENT, destination: VIP, sourcePort: 1 })]);
  const sent = ipPacket({ ...UDP, fragment: 0x4000, payload: new Uint8Array(1300) });
  const { packets } = inject(fake, [sent]);
  t.deepEqual(packets[0]![0]!.subarray(28), sent.subarray(0, 548));
});

test("a super-packet with DF set whose segments are too big is refused", async (t) => {
  const fake = await narrow();
  const packet = ipPacket({
    source: CLIENT,
    destination: TASK_B,
    flags: 0x10,
    payload: new Uint8Array(20_000),
    partial: true,
  });
  const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes: 1398 }));
  t.deepEqual(drops, [{ "too-big": 1 }, {}]);
  t.is(out[0]![0]!.icmp, "3/4");
});

test("a TCP super-packet with DF clear is cut into segments that fit", async (t) => {
  const fake = await narrow();
  const payload = Uint8Array.from({ length: 20_000 }, (_, i) => i * 13);
  const packet = ipPacket({
    source: CLIENT,
    destination: TASK_B,
    flags: 0x10,
    payload,
    partial: true,
    fragment: 0,
  });
  const { packets, drops } = exchange(fake, () =>
    fake.nodes[0]!.device.inject(packet, { gso: Gso.Tcp4, gsoBytes: 1398 }),
  );
  t.deepEqual(drops, [{}, {}]);
  const payloads = packets[1]!.map((bytes) => describe(completed(bytes)).payload);
  t.deepEqual(Uint8Array.from(Buffer.concat(payloads)), payload);
});

test("a UDP super-packet with DF clear: every datagram of it is cut and comes together again", async (t) => {
  const fake = await narrow();
  const payload = Uint8Array.from({ length: 5000 }, (_, i) => i * 3);
  const packet = ipPacket({ ...UDP, destination: TASK_B, payload, partial: true });
  const { packets, drops } = exchange(fake, () =>
    fake.nodes[0]!.device.inject(packet, { gso: Gso.Udp4, gsoBytes: 1400 }),
  );
  t.deepEqual(drops, [{}, {}]);
  const ids = [...new Set(packets[1]!.map((bytes) => describe(bytes).id))];
  const wholes = ids.map((id) => {
    const fragments = packets[1]!.filter((bytes) => describe(bytes).id === id);
    return describe(completed(joined(fragments)));
  });
  for (const { transportChecksum } of wholes) t.is(transportChecksum, "right");
  t.deepEqual(Uint8Array.from(Buffer.concat(wholes.map(({ payload }) => payload))), payload);
});

const OPTIONS = Uint8Array.of(0x94, 4, 0, 0, 7, 3, 4, 1); // router alert (copied), record route (not), no operation
test("whatever is cut with DF clear arrives as it was sent", async (t) => {
  const fake = await narrow();
  let id = 0;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9000 }), fc.boolean(), fc.boolean(), (length, hasOptions, inPieces) => {
      id = (id + 1) & 0xffff;
      const payload = Uint8Array.from({ length }, (_, i) => i ^ id);
      const plain = ipPacket({ ...UDP, destination: TASK_B, payload, id });
      const sent = hasOptions ? withOptions(plain, OPTIONS) : plain;
      const { packets, drops } = inject(fake, inPieces ? fragmentsOf(sent, 1432) : [sent]);
      t.deepEqual(drops, [{}, {}]);
      for (const bytes of packets[1]!) {
        t.true(bytes.length <= NARROW);
        t.true(describe(bytes).headerChecksumIsRight);
      }
      const arrived = completed(joined(packets[1]!));
      t.deepEqual(describe(arrived).payload, payload);
      t.is(describe(arrived).transportChecksum, "right");
      if (hasOptions) t.deepEqual(arrived.slice(20, 28), OPTIONS);
    }),
    { numRuns: 200 },
  );
});

function withOptions(packet: Uint8Array, options: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from([...packet.slice(0, 20), ...options, ...packet.slice(20)]);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x40 | ((20 + options.length) / 4);
  view.setUint16(2, bytes.length);
  view.setUint16(10, 0);
  let sum = 0;
  for (let i = 0; i < 20 + options.length; i += 2) sum += view.getUint16(i);
  view.setUint16(10, ~((sum & 0xffff) + (sum >>> 16)) & 0xffff);
  return bytes;
}
