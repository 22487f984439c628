// From inner packets to VXLAN datagrams: whole ones in place, super-packets as the segments that a network card makes.
import test from "ava";
import fc from "fast-check";
import { UnderlayQueue } from "../../src/datapath/batch.ts";
import { ENCAPSULATION_BYTES, Encapsulator } from "../../src/datapath/encapsulate.ts";
import { SOURCE_PORTS } from "../../src/datapath/ports.ts";
import type { PeerRow } from "../../src/datapath/rows.ts";
import { Tables } from "../../src/datapath/tables.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { Drop } from "../../src/packet/drop.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Packet } from "../../src/packet/packet.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { ACK, describe, FIN, type Fields, ipPacket, onesSum, PSH } from "../fakes/ip-packets.ts";
import { segmentsOf, withIpOptions } from "../fakes/segments.ts";

const PEER: PeerRow = {
  kind: "peer",
  vtep: ipv4("192.0.2.12"),
  port: 4790,
  ingress: 0,
  agent: true,
  lane: true,
  mesh: true,
};
const VNI = 0xabcdef;
const HASH = 0x7ffffff5;
const FROM = { source: "10.192.32.10", destination: "10.192.32.20" };
const CWR = 0x80;
const ECE = 0x40;
const NOP4 = [1, 1, 1, 1];

interface Message {
  datagrams: Uint8Array[];
  bytes: number;
  segmentBytes: number;
  tos: number;
}

/** One encapsulator, and what it has sent. */
function encapsulator(maxSegments: number, maxMessages = 256) {
  const memory = new PacketMemory(4 << 20);
  const sum = createSum(memory);
  const queue = new UnderlayQueue(maxMessages, 4096);
  const sent: Message[] = [];
  let flushes = 0;
  const flush = (): void => {
    flushes++;
    for (let message = 0; message < queue.messages; message++) {
      const slices: Uint8Array[] = [];
      for (let i = queue.firstSlice(message); i < queue.end[message]!; i++)
        slices.push(memory.u8.slice(queue.sliceOffset[i]!, queue.sliceOffset[i]! + queue.sliceLength[i]!));
      const whole = Uint8Array.from(Buffer.concat(slices));
      const segmentBytes = queue.segmentBytes[message]!;
      const datagrams: Uint8Array[] = [];
      for (let at = 0; at < whole.length; at += segmentBytes || whole.length)
        datagrams.push(whole.slice(at, at + (segmentBytes || whole.length)));
      sent.push({ datagrams, bytes: whole.length, segmentBytes, tos: queue.tos[message]! });
      if (queue.address[message] !== PEER.vtep || queue.port[message] !== PEER.port) throw new Error("wrong peer");
      if (queue.sourcePort[message] !== (HASH & (SOURCE_PORTS - 1))) throw new Error("wrong source port");
    }
    queue.clear();
    subject.flushed();
  };
  const subject = new Encapsulator(memory, sum, new Tables(), queue, maxSegments, flush);
  subject.aim(PEER, VNI, HASH);
  const at = memory.alloc(65536 + 64) + 64;
  const load = (bytes: Uint8Array, partial: boolean, gso: Gso = Gso.None): Packet => {
    memory.u8.set(bytes, at);
    const packet = new Packet(memory, sum);
    if (packet.parse(at, bytes.length) !== Drop.None) throw new Error("the packet is broken");
    packet.partialChecksum = partial;
    packet.gso = gso;
    return packet;
  };
  return { subject, sent, flush, load, flushes: () => flushes };
}

/** The inner packets, after the headers before them were checked. */
function innerPackets(sent: readonly Message[]): Uint8Array[] {
  return sent.flatMap(({ datagrams }) =>
    datagrams.map((datagram) => {
      const header = Buffer.from(datagram.subarray(0, ENCAPSULATION_BYTES)).toString("hex");
      const expected = `08000000abcdef0002420ac0201402420ac0200a0800`;
      if (header !== expected) throw new Error(`encapsulated as ${header}`);
      return datagram.slice(ENCAPSULATION_BYTES);
    }),
  );
}

/** The super-packet as a kernel gives it, and what must come out. */
function cut(superPacket: Uint8Array, gso: Gso, gsoBytes: number, maxSegments = 128): Message[] {
  const { subject, sent, flush, load } = encapsulator(maxSegments);
  subject.segments(load(superPacket, true, gso), gsoBytes);
  flush();
  return sent;
}

const bytes = (length: number): Uint8Array => new Uint8Array(length).map((_, i) => i * 31 + (i >> 8));

/** The checksum field at the pseudo-header's sum, as after parsing NEEDS_CSUM. */
function partial(packet: Uint8Array): Uint8Array {
  const copy = packet.slice();
  const ipBytes = (copy[0]! & 15) * 4;
  const field = ipBytes + (copy[9] === 6 ? 16 : 6);
  const sum = onesSum(copy.subarray(12, 20), copy[9]! + copy.length - ipBytes);
  copy.set([sum >> 8, sum & 0xff], field);
  return copy;
}

interface Row {
  name: string;
  fields: Omit<Fields, "source" | "destination" | "payload">;
  payload: number;
  gsoBytes: number;
  ipOptions?: number[];
  maxSegments?: number;
  /** Datagrams in each message. */
  messages: number[];
}

const TCP = { protocol: "tcp", flags: ACK } as const;
const ROWS: Row[] = [
  { name: "TCP in equal segments", fields: TCP, payload: 4000, gsoBytes: 1000, messages: [4] },
  { name: "TCP with a short last segment", fields: TCP, payload: 4001, gsoBytes: 1000, messages: [5] },
  { name: "TCP of one segment, which is no cut at all", fields: TCP, payload: 900, gsoBytes: 1000, messages: [1] },
  { name: "TCP that is exactly one segment", fields: TCP, payload: 1000, gsoBytes: 1000, messages: [1] },
  {
    name: "FIN and PSH on the last segment alone",
    fields: { ...TCP, flags: ACK | FIN | PSH },
    payload: 3000,
    gsoBytes: 1000,
    messages: [3],
  },
  {
    name: "CWR on the first segment alone, ECE on all",
    fields: { ...TCP, flags: ACK | CWR | ECE, tos: 2 },
    payload: 3000,
    gsoBytes: 1000,
    messages: [3],
  },
  {
    name: "a sequence number that wraps",
    fields: { ...TCP, sequence: 0xfffffc00 },
    payload: 3000,
    gsoBytes: 1000,
    messages: [3],
  },
  {
    name: "an identification that wraps",
    fields: { ...TCP, id: 0xfffe },
    payload: 4000,
    gsoBytes: 1000,
    messages: [4],
  },
  {
    name: "TCP options in every segment",
    fields: { ...TCP, options: Uint8Array.of(1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7) },
    payload: 2500,
    gsoBytes: 1388,
    messages: [2],
  },
  {
    name: "TCP options as long as they can be",
    fields: { ...TCP, options: new Uint8Array(40).fill(1) },
    payload: 2500,
    gsoBytes: 1000,
    messages: [3],
  },
  { name: "IP options in every segment", fields: TCP, payload: 2500, gsoBytes: 1000, ipOptions: NOP4, messages: [3] },
  { name: "segments of an odd length", fields: TCP, payload: 2500, gsoBytes: 333, messages: [8] },
  {
    name: "congestion marks on every segment",
    fields: { ...TCP, tos: 0xbb },
    payload: 2000,
    gsoBytes: 1000,
    messages: [2],
  },
  {
    name: "UDP in segments with lengths of their own",
    fields: { protocol: "udp" },
    payload: 2600,
    gsoBytes: 1200,
    messages: [3],
  },
  {
    name: "UDP with IP options",
    fields: { protocol: "udp" },
    payload: 2600,
    gsoBytes: 1200,
    ipOptions: NOP4,
    messages: [3],
  },
  {
    name: "the largest TCP super-packet, over two sends",
    fields: TCP,
    payload: 65_495,
    gsoBytes: 1388,
    messages: [45, 3],
  },
  {
    name: "no more segments than a send may have",
    fields: TCP,
    payload: 10_000,
    gsoBytes: 1000,
    maxSegments: 4,
    messages: [4, 4, 2],
  },
  {
    name: "an underlay that cuts nothing",
    fields: TCP,
    payload: 3000,
    gsoBytes: 1000,
    maxSegments: 1,
    messages: [1, 1, 1],
  },
  { name: "128 segments of UDP", fields: { protocol: "udp" }, payload: 128 * 100, gsoBytes: 100, messages: [128] },
  { name: "more than 128 small segments of TCP", fields: TCP, payload: 300 * 8, gsoBytes: 8, messages: [128, 128, 44] },
  { name: "segments so large that a send takes two", fields: TCP, payload: 65_000, gsoBytes: 21_700, messages: [3] },
  { name: "segments so large that a send takes one", fields: TCP, payload: 65_000, gsoBytes: 40_000, messages: [1, 1] },
];

for (const { name, fields, payload, gsoBytes, ipOptions, maxSegments, messages } of ROWS) {
  test(`segmentation: ${name}`, (t) => {
    const plain = ipPacket({ ...FROM, ...fields, payload: bytes(payload) });
    const superPacket = partial(ipOptions === undefined ? plain : withIpOptions(plain, ipOptions));
    const gso = fields.protocol === "udp" ? Gso.Udp4 : Gso.Tcp4;
    const sent = cut(superPacket, gso, gsoBytes, maxSegments);
    t.deepEqual(
      sent.map(({ datagrams }) => datagrams.length),
      messages,
    );
    for (const { bytes: length, datagrams, segmentBytes, tos } of sent) {
      t.true(length <= 65_507);
      t.is(segmentBytes === 0, datagrams.length === 1);
      t.is(tos, (fields.tos ?? 0) & 3);
    }
    t.deepEqual(innerPackets(sent), segmentsOf(superPacket, gsoBytes));
  });
}

test("the flags that a receiver sees: CWR first, FIN and PSH last", (t) => {
  const fields: Fields = { ...FROM, flags: ACK | CWR | PSH | FIN, payload: bytes(3000) };
  const flags = innerPackets(cut(partial(ipPacket(fields)), Gso.Tcp4, 1000)).map((packet) => describe(packet).flags);
  t.deepEqual(flags, [ACK | CWR, ACK, ACK | PSH | FIN]);
});

test("whatever the super-packet, its segments are those of plain arithmetic", (t) => {
  const property = fc.property(
    fc.constantFrom("tcp" as const, "udp" as const),
    fc.uint8Array({ minLength: 1, maxLength: 3000, size: "max" }),
    fc.integer({ min: 24, max: 1500 }),
    fc.record({
      id: fc.nat(0xffff),
      tos: fc.nat(255),
      sequence: fc.nat(0xffffffff),
      acknowledgment: fc.nat(0xffffffff),
      window: fc.nat(0xffff),
      flags: fc.nat(255),
      options: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
    }),
    fc.integer({ min: 1, max: 128 }),
    (protocol, payload, gsoBytes, fields, maxSegments) => {
      const superPacket = partial(ipPacket({ ...FROM, protocol, payload, ...fields }));
      const sent = cut(superPacket, protocol === "tcp" ? Gso.Tcp4 : Gso.Udp4, gsoBytes, maxSegments);
      if (sent.some(({ datagrams }) => datagrams.length > maxSegments)) return false;
      const made = Buffer.concat(innerPackets(sent));
      return made.equals(Buffer.concat(segmentsOf(superPacket, gsoBytes)));
    },
  );
  t.notThrows(() => fc.assert(property, { numRuns: 150 }));
});

test("a whole packet goes out in place, its checksum made when it was not", (t) => {
  const { subject, sent, flush, load } = encapsulator(128);
  const fields: Fields = { ...FROM, tos: 3, payload: bytes(99) };
  subject.single(load(ipPacket({ ...fields, partial: true }), true));
  flush();
  subject.single(load(ipPacket({ ...FROM, payload: new Uint8Array() }), false));
  flush();
  t.deepEqual(innerPackets(sent), [ipPacket(fields), ipPacket({ ...FROM, payload: new Uint8Array() })]);
  t.deepEqual(
    sent.map(({ tos, segmentBytes }) => [tos, segmentBytes]),
    [
      [3, 0],
      [0, 0],
    ],
  );
});

test("headers are not written over while they wait: a full queue is flushed first", (t) => {
  const { subject, sent, flush, load, flushes } = encapsulator(16, 8);
  const superPacket = partial(ipPacket({ ...FROM, payload: bytes(60_000) }));
  for (let i = 0; i < 5; i++) subject.segments(load(superPacket, true, Gso.Tcp4), 100);
  flush();
  t.true(flushes() > 5);
  const expected = segmentsOf(superPacket, 100);
  t.deepEqual(innerPackets(sent), [expected, expected, expected, expected, expected].flat());
});

test("what does not fit one message goes with the next super-packet of the flow", (t) => {
  const { subject, sent, flush, load } = encapsulator(45);
  const payload = Uint8Array.from({ length: 47 * 1000 }, (_, i) => i);
  const supers = [0, 1].map((i) =>
    ipPacket({ ...FROM, flags: ACK, acknowledgment: 7, sequence: 1 + i * payload.length, payload, partial: true }),
  );
  for (const bytes of supers) subject.segments(load(bytes, true, Gso.Tcp4), 1000);
  flush();
  t.deepEqual(
    sent.map(({ datagrams }) => datagrams.length),
    [45, 45, 4],
  );
  const sequences = innerPackets(sent).map((packet) => describe(packet).sequence);
  t.deepEqual(
    sequences,
    Array.from({ length: 94 }, (_, i) => 1 + i * 1000),
  );
  t.true(innerPackets(sent).every((packet) => describe(packet).transportChecksum === "right"));
});

test("nothing follows a short segment, or a segment of another size, in its message", (t) => {
  const { subject, sent, flush, load } = encapsulator(45);
  const super_ = (length: number): Uint8Array =>
    ipPacket({ ...FROM, flags: ACK, acknowledgment: 7, payload: new Uint8Array(length), partial: true });
  for (const [length, gsoBytes] of [
    [2500, 1000],
    [2000, 1000],
    [2000, 500],
  ] as const)
    subject.segments(load(super_(length), true, Gso.Tcp4), gsoBytes);
  flush();
  t.deepEqual(
    sent.map(({ datagrams }) => datagrams.length),
    [3, 2, 4],
  );
});
