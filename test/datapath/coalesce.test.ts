// Packets joined into super-packets for the device: what is joined, what is not, and that cutting it again gives the
// same packets.
import test from "ava";
import fc from "fast-check";
import { DeviceQueue } from "../../src/datapath/batch.ts";
import { Coalescer } from "../../src/datapath/coalesce.ts";
import type { DeviceOffloads } from "../../src/datapath/ports.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { Drop } from "../../src/packet/drop.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Packet } from "../../src/packet/packet.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { type DevicePacket, InProcessDevice } from "../fakes/in-process.ts";
import { ACK, describe, FIN, type Fields, PSH, RST, SYN } from "../fakes/ip-packets.ts";
import { segmentsOf, withIpOptions } from "../fakes/segments.ts";
import { taken, train, withoutId } from "../fakes/trains.ts";

const ALL: DeviceOffloads = { tcp: true, udp: true, checksum: true };
const URG = 0x20;
const ECE = 0x40;
const CWR = 0x80;

/** What the device gets, when these packets come in this order. It throws on what a TUN refuses. */
function coalesced(packets: readonly Uint8Array[], offloads = ALL): DevicePacket[] {
  const memory = new PacketMemory(8 << 20);
  const sum = createSum(memory);
  const device = new InProcessDevice(memory);
  const queue = new DeviceQueue(256, 4096);
  const flush = (): void => void device.write(queue);
  const coalescer = new Coalescer(memory.u8, queue, offloads, flush);
  const packet = new Packet(memory, sum);
  for (const bytes of packets) {
    const at = memory.alloc(bytes.length);
    memory.u8.set(bytes, at);
    if (packet.parse(at, bytes.length) !== Drop.None) throw new Error("the packet is broken");
    coalescer.add(packet);
  }
  coalescer.end();
  flush();
  return device.takeWritten();
}

interface Row {
  name: string;
  packets: Uint8Array[];
  /** How many packets there are in each message. */
  joined: number[];
  offloads?: DeviceOffloads;
}

const only =
  (which: number, change: Partial<Fields>) =>
  (i: number): Partial<Fields> =>
    i === which ? change : {};
const UDP: Partial<Fields> = { protocol: "udp" };

const ROWS: Row[] = [
  { name: "segments in sequence are joined", packets: train([100, 100, 100]), joined: [3] },
  { name: "a shorter one ends the super-packet", packets: train([100, 100, 50, 50]), joined: [3, 1] },
  { name: "a longer one begins the next", packets: train([100, 100, 101, 101]), joined: [2, 2] },
  { name: "a single packet stays one", packets: train([100]), joined: [1] },
  { name: "no more than 64 are joined", packets: train(Array(130).fill(100)), joined: [64, 64, 2] },
  { name: "no more than a super-packet's bytes are joined", packets: train(Array(50).fill(1388)), joined: [47, 3] },
  { name: "65,520 bytes are one super-packet", packets: train(Array(8).fill(8185)), joined: [8] },
  { name: "65,528 bytes are more than one", packets: train(Array(8).fill(8186)), joined: [7, 1] },
  {
    name: "a sequence number that wraps goes on",
    packets: train([100, 100, 100], { sequence: 0xffffff9c }),
    joined: [3],
  },
  {
    name: "PSH ends the super-packet",
    packets: train([100, 100, 100], {}, only(1, { flags: ACK | PSH })),
    joined: [2, 1],
  },
  {
    name: "PSH on the first leaves it alone",
    packets: train([100, 100], {}, only(0, { flags: ACK | PSH })),
    joined: [1, 1],
  },
  { name: "ECE on all is joined", packets: train([100, 100], { flags: ACK | ECE }), joined: [2] },
  {
    name: "ECE on one is not joined",
    packets: train([100, 100, 100], {}, only(1, { flags: ACK | ECE })),
    joined: [1, 1, 1],
  },
  ...(
    [
      ["FIN", ACK | FIN],
      ["SYN", ACK | SYN],
      ["RST", ACK | RST],
      ["URG", ACK | URG],
      ["CWR", ACK | CWR],
    ] as const
  ).map(
    ([flag, flags]): Row => ({
      name: `${flag} is not joined`,
      packets: train([100, 100, 100], {}, only(1, { flags })),
      joined: [1, 1, 1],
    }),
  ),
  { name: "acknowledgments without data are not joined", packets: train([0, 0, 0]), joined: [1, 1, 1] },
  { name: "an acknowledgment ends the super-packet", packets: train([100, 100, 0, 100]), joined: [2, 1, 1] },
  { name: "a gap is not joined", packets: train([100, 100, 100], {}, only(1, { sequence: 1200 })), joined: [1, 1, 1] },
  { name: "a repetition is not joined", packets: train([100, 100], {}, () => ({ sequence: 1000 })), joined: [1, 1] },
  ...(
    [
      ["acknowledgment", { acknowledgment: 1 }],
      ["window", { window: 1 }],
      ["TOS", { tos: 3 }],
      ["TTL", { ttl: 63 }],
      ["DF", { fragment: 0 }],
      ["source port", { sourcePort: 1 }],
      ["destination port", { destinationPort: 1 }],
      ["source", { source: "10.192.32.21" }],
      ["destination", { destination: "10.192.32.11" }],
    ] as [string, Partial<Fields>][]
  ).map(
    ([field, change]): Row => ({
      name: `another ${field} is not joined`,
      packets: train([100, 100, 100], {}, only(1, change)),
      joined: [1, 1, 1],
    }),
  ),
  {
    name: "the same TCP options are joined",
    packets: train([100, 100], { options: Uint8Array.of(8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1) }),
    joined: [2],
  },
  {
    name: "another timestamp is not joined",
    packets: train([100, 100], {}, (i) => ({ options: Uint8Array.of(8, 10, 0, 0, 0, i, 0, 0, 0, 2, 1, 1) })),
    joined: [1, 1],
  },
  {
    name: "options on one only are not joined",
    packets: train([100, 100], {}, only(1, { options: Uint8Array.of(1, 1, 1, 1) })),
    joined: [1, 1],
  },
  {
    name: "IP options are not joined",
    packets: train([100, 100]).map((packet) => withIpOptions(packet, [1, 1, 1, 1])),
    joined: [1, 1],
  },
  { name: "segments smaller than a kernel cuts are not joined", packets: train([7, 7, 7]), joined: [1, 1, 1] },
  { name: "segments as small as a kernel cuts are joined", packets: train([8, 8, 1]), joined: [3] },
  {
    name: "without TCP offload nothing is joined",
    packets: train([100, 100]),
    joined: [1, 1],
    offloads: { ...ALL, tcp: false },
  },
  { name: "datagrams of one size are joined", packets: train([100, 100, 100], UDP), joined: [3] },
  { name: "a shorter datagram is the last", packets: train([100, 100, 1, 100], UDP), joined: [3, 1] },
  { name: "an empty datagram is not joined", packets: train([100, 0, 100], UDP), joined: [1, 1, 1] },
  { name: "datagrams smaller than a kernel cuts are not joined", packets: train([4, 4], UDP), joined: [1, 1] },
  {
    name: "datagrams of other ports are not joined",
    packets: train([100, 100], UDP, only(1, { sourcePort: 2 })),
    joined: [1, 1],
  },
  {
    name: "without UDP offload no datagram is joined",
    packets: train([100, 100], UDP),
    joined: [1, 1],
    offloads: { ...ALL, udp: false },
  },
  {
    name: "UDP between TCP ends the super-packet",
    packets: [...train([100, 100]), ...train([100], UDP), ...train([100], { sequence: 1200 })],
    joined: [2, 1, 1],
  },
];

for (const { name, packets, joined, offloads } of ROWS) {
  test(`coalescing: ${name}`, (t) => {
    const written = coalesced(packets, offloads);
    t.deepEqual(
      written.map((message) => (message.gso === Gso.None ? 1 : segmentsOf(message.bytes, message.gsoBytes).length)),
      joined,
    );
    for (const { bytes, needsChecksum } of written) {
      const { headerChecksumIsRight, transportChecksum } = describe(bytes);
      t.true(headerChecksumIsRight);
      t.is(transportChecksum, "partial");
      t.true(needsChecksum);
    }
    const again = taken(written);
    t.deepEqual(again.map(withoutId), packets.map(withoutId));
    t.true(again.every((packet) => describe(packet).transportChecksum === "right"));
  });
}

test("a UDP checksum that computes to 0 is all ones after the device too", (t) => {
  const lengths = [...Array(49).fill(100), 99];
  const packets = train(lengths, UDP, only(49, { sourcePort: 9 }));
  t.is(new DataView(packets[49]!.buffer).getUint16(20 + 6), 0xffff);
  t.deepEqual(taken(coalesced(packets)).map(withoutId), packets.map(withoutId));
});

test("ids that count up are the same again", (t) => {
  const packets = train([100, 100, 100, 40]);
  t.deepEqual(taken(coalesced(packets)), packets);
});

test("PSH of the last is the super-packet's", (t) => {
  const packets = train([100, 100, 100], {}, only(2, { flags: ACK | PSH }));
  const [message] = coalesced(packets);
  t.is(describe(message!.bytes).flags, ACK | PSH);
  t.deepEqual(taken([message!]), packets);
});

test("whatever comes, cutting what was joined gives it again", (t) => {
  const change = fc.oneof(
    { weight: 6, arbitrary: fc.constant<Partial<Fields>>({}) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Partial<Fields>[]>(
        { flags: ACK | PSH },
        { flags: ACK | FIN },
        { flags: ACK | CWR },
        { window: 5 },
        { tos: 1 },
        { sourcePort: 9 },
        { protocol: "udp" },
        { sequence: 77 },
      ),
    },
  );
  const property = fc.property(
    fc.constantFrom<Partial<Fields>[]>({}, UDP, { flags: ACK | ECE }),
    fc.constantFrom(1, 8, 100, 1400),
    fc.array(fc.tuple(change, fc.integer({ min: -2, max: 1 })), { minLength: 1, maxLength: 90, size: "max" }),
    (fields, size, changes) => {
      const lengths = changes.map(([, more]) => Math.max(0, size + (more === 1 ? 1 : more === -2 ? -1 : 0)));
      const packets = train(lengths, fields, (i) => changes[i]![0]);
      const again = taken(coalesced(packets)).map((bytes) => JSON.stringify(withoutId(bytes)));
      return again.join("\n") === packets.map((bytes) => JSON.stringify(withoutId(bytes))).join("\n");
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 60 }));
});
