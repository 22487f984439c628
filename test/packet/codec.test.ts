// Codecs against golden bytes: what is read from them, and that what is written is them.
import test from "ava";
import { get16, get32 } from "../../src/lib/bytes.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { answerArp, arpSender, arpTarget, isArpRequest } from "../../src/packet/arp.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { DROP_NAMES, Drop } from "../../src/packet/drop.ts";
import { ETHERNET_BYTES, EtherType, etherType, writeEthernet } from "../../src/packet/ethernet.ts";
import * as icmp from "../../src/packet/icmp.ts";
import * as ip from "../../src/packet/ipv4.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Packet } from "../../src/packet/packet.ts";
import * as tcp from "../../src/packet/tcp.ts";
import { writeUdp } from "../../src/packet/udp.ts";
import { hasVni, MANAGEMENT_VNI, MAX_VNI, VXLAN_BYTES, vni, writeVxlan } from "../../src/packet/vxlan.ts";
import * as golden from "../golden/packets.ts";

const AT = 128;
const ALICE = ipv4("10.192.32.10");
const BOB = ipv4("10.192.32.20");

function parsed(bytes: Uint8Array): Packet {
  const memory = new PacketMemory(1 << 16);
  memory.u8.set(bytes, AT);
  const packet = new Packet(memory, createSum(memory));
  const drop = packet.parse(AT, bytes.length);
  if (drop !== Drop.None) throw new Error(`dropped: ${DROP_NAMES[drop]}`);
  return packet;
}

/** What parse() says of the golden packet after a change. */
function dropOf(bytes: Uint8Array, change: (copy: Uint8Array) => void, available = bytes.length): string {
  const memory = new PacketMemory(1 << 16);
  const copy = bytes.slice();
  change(copy);
  memory.u8.set(copy, AT);
  return DROP_NAMES[new Packet(memory, createSum(memory)).parse(AT, available)]!;
}

test("a VXLAN header is read and written", (t) => {
  t.true(hasVni(golden.ARP_REQUEST, 0));
  t.is(vni(golden.ARP_REQUEST, 0), 4096);
  t.is(vni(golden.BFD_UP, 0), MANAGEMENT_VNI);
  const written = new Uint8Array(VXLAN_BYTES).fill(0xee);
  writeVxlan(written, 0, 4096);
  t.deepEqual(written, golden.ARP_REQUEST.slice(0, VXLAN_BYTES));
});

test("the I flag alone says that a VNI is there; reserved bits are ignored", (t) => {
  const header = Uint8Array.of(0xf7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
  t.false(hasVni(header, 0));
  header[0] = 0xff;
  t.true(hasVni(header, 0));
  t.is(vni(header, 0), MAX_VNI);
  writeVxlan(header, 0, MAX_VNI);
  t.deepEqual([...header], [8, 0, 0, 0, 255, 255, 255, 0]);
});

test("an ARP request is read, and turned into its reply in place", (t) => {
  const frame = golden.ARP_REQUEST.slice();
  const at = VXLAN_BYTES + ETHERNET_BYTES;
  t.is(etherType(frame, VXLAN_BYTES), EtherType.Arp);
  t.true(isArpRequest(frame, at, 28));
  t.is(arpSender(frame, at), BOB);
  t.is(arpTarget(frame, at), ALICE);
  answerArp(frame, VXLAN_BYTES);
  t.deepEqual(frame, golden.ARP_REPLY);
});

const NOT_ARP_REQUESTS: [title: string, at: number, value: number][] = [
  ["of another hardware", 1, 6],
  ["for another protocol", 3, 6],
  ["with longer hardware addresses", 4, 8],
  ["with longer protocol addresses", 5, 16],
  ["that is a reply", 7, 2],
];
for (const [title, at, value] of NOT_ARP_REQUESTS) {
  test(`an ARP packet ${title} is not a request to answer`, (t) => {
    const arp = golden.ARP_REQUEST.slice(VXLAN_BYTES + ETHERNET_BYTES);
    arp[at] = value;
    t.false(isArpRequest(arp, 0, arp.length));
  });
}

test("an ARP request cut short is none", (t) => {
  t.false(isArpRequest(golden.ARP_REQUEST, VXLAN_BYTES + ETHERNET_BYTES, 27));
});

test("an Ethernet header has the MACs of the overlay addresses", (t) => {
  const written = new Uint8Array(ETHERNET_BYTES);
  writeEthernet(written, 0, BOB, ALICE, EtherType.Arp);
  t.deepEqual(written, golden.ARP_REPLY.slice(VXLAN_BYTES, VXLAN_BYTES + ETHERNET_BYTES));
});

test("a TCP SYN is read", (t) => {
  const packet = parsed(golden.TCP_SYN);
  const { u8, transport } = packet;
  t.is(packet.length, 60);
  t.is(packet.transport, AT + 20);
  t.is(packet.headerBytes, 60);
  t.is(packet.payloadBytes, 0);
  t.is(packet.protocol, ip.Protocol.Tcp);
  t.is(packet.source, ALICE);
  t.is(packet.destination, BOB);
  t.is(packet.ports, (40000 << 16) | 80);
  t.is(packet.tcpFlags, tcp.Flag.Syn);
  t.is(tcp.sequence(u8, transport), 0x12345678);
  t.is(tcp.acknowledgment(u8, transport), 0);
  t.is(tcp.mss(u8, tcp.mssAt(u8, transport)), 1460);
  t.true(packet.headerChecksumIsRight());
  t.true(packet.transportChecksumIsRight());
  t.false(packet.fragment || packet.laterFragment || packet.icmpError || packet.partialChecksum);
});

test("a UDP datagram is read", (t) => {
  const packet = parsed(golden.UDP_HELLO);
  t.is(packet.ports, (49152 << 16) | 53);
  t.is(packet.headerBytes, 28);
  t.is(packet.payloadBytes, 5);
  t.true(packet.headerChecksumIsRight());
  t.true(packet.transportChecksumIsRight());
});

test("a UDP datagram is written", (t) => {
  const written = new Uint8Array(33);
  writeUdp(written, 20, 49152, 53, 5);
  t.deepEqual(written.slice(20, 26), golden.UDP_HELLO.slice(20, 26));
  t.is(get16(written, 26), 0);
  ip.writeIpv4(written, 0, ALICE, BOB, ip.Protocol.Udp, 13);
  // TTL 64, DF set, identification 0: else as the golden one.
  t.is(ip.totalLength(written, 0), 33);
  t.is(get32(written, ip.ID_AT), ip.DONT_FRAGMENT);
  t.is(ip.headerSum(written, 0), 0xffff);
  t.deepEqual(written.slice(12, 20), golden.UDP_HELLO.slice(12, 20));
});

test("the UDP datagram that carries a BFD packet is read", (t) => {
  t.is(etherType(golden.BFD_UP, VXLAN_BYTES), EtherType.Ipv4);
  const packet = parsed(golden.BFD_UP.slice(VXLAN_BYTES + ETHERNET_BYTES));
  t.is(packet.ports & 0xffff, 3784);
  t.is(packet.payloadBytes, 24);
  t.true(packet.headerChecksumIsRight());
  t.true(packet.transportChecksumIsRight());
});

test("an echo request is read: its identifier stands for both ports", (t) => {
  const packet = parsed(golden.ICMP_ECHO);
  t.is(packet.ports, (42 << 16) | 42);
  t.is(packet.headerBytes, 28);
  t.is(packet.payloadBytes, 8);
  t.false(packet.icmpError);
  t.true(packet.headerChecksumIsRight());
  t.true(packet.transportChecksumIsRight());
});

test("an ICMP error has no ports of its own", (t) => {
  const packet = parsed(golden.ICMP_TOO_BIG);
  t.true(packet.icmpError);
  t.is(packet.ports, 0);
  t.is(packet.u8[packet.transport + icmp.CODE_AT], icmp.Unreachable.FragmentationNeeded);
  t.is(get16(packet.u8, packet.transport + icmp.NEXT_HOP_MTU_AT), 1400);
  t.true(packet.headerChecksumIsRight());
  t.true(packet.transportChecksumIsRight());
});

test("ICMP types that quote a packet are errors, RFC 792", (t) => {
  const errors = Array.from({ length: 256 }, (_, type) => type).filter(icmp.isError);
  t.deepEqual(errors, [3, 4, 5, 11, 12]);
});

test("padding behind a packet is none of it", (t) => {
  const padded = new Uint8Array(46);
  padded.set(golden.UDP_HELLO);
  t.is(parsed(padded).length, 33);
  t.is(parsed(padded).payloadBytes, 5);
});

const nothing = (): void => {};
const set =
  (at: number, ...values: number[]) =>
  (copy: Uint8Array): void =>
    copy.set(values, at);
const BROKEN: [
  title: string,
  drop: string,
  bytes: Uint8Array,
  change: (copy: Uint8Array) => void,
  available?: number,
][] = [
  ["nothing at all", "too-short", golden.UDP_HELLO, nothing, 0],
  ["a header cut short", "too-short", golden.UDP_HELLO, nothing, 19],
  ["version 6", "bad-version", golden.UDP_HELLO, set(0, 0x65)],
  ["a header of four words", "bad-header-length", golden.UDP_HELLO, set(0, 0x44)],
  ["a header longer than the packet", "bad-header-length", golden.UDP_HELLO, set(0, 0x4f)],
  ["a length below the header's", "bad-total-length", golden.UDP_HELLO, set(2, 0, 19)],
  ["a length beyond what is there", "bad-total-length", golden.UDP_HELLO, nothing, 32],
  ["a UDP header cut short", "bad-transport-header", golden.UDP_HELLO, set(2, 0, 27)],
  ["a UDP length below its header's", "bad-transport-header", golden.UDP_HELLO, set(24, 0, 7)],
  ["a UDP length beyond the packet", "bad-transport-header", golden.UDP_HELLO, set(24, 0, 14)],
  ["a TCP header cut short", "bad-transport-header", golden.TCP_SYN, set(2, 0, 39)],
  ["a TCP header of four words", "bad-transport-header", golden.TCP_SYN, set(32, 0x40)],
  ["a TCP header beyond the packet", "bad-transport-header", golden.TCP_SYN, set(32, 0xb0)],
  ["an ICMP header cut short", "bad-transport-header", golden.ICMP_ECHO, set(2, 0, 27)],
];
for (const [title, drop, bytes, change, available] of BROKEN) {
  test(`a packet with ${title} is dropped as ${drop}`, (t) => {
    t.is(dropOf(bytes, change, available), drop);
  });
}

const FRAGMENTS: [title: string, field: [number, number], fragment: boolean, later: boolean, ports: number][] = [
  ["DF alone is no fragment", [0x40, 0], false, false, (49152 << 16) | 53],
  ["MF alone is the first", [0x20, 0], true, false, (49152 << 16) | 53],
  ["MF and an offset are one in the middle", [0x20, 3], true, true, 0],
  ["an offset alone is the last", [0, 1], true, true, 0],
  ["the highest offset is a fragment", [0x1f, 0xff], true, true, 0],
];
for (const [title, [high, low], fragment, later, ports] of FRAGMENTS) {
  test(`of flags and offset, ${title}`, (t) => {
    const bytes = golden.UDP_HELLO.slice();
    bytes.set([high, low], 6);
    const packet = parsed(bytes);
    t.is(packet.fragment, fragment);
    t.is(packet.laterFragment, later);
    t.is(packet.ports, ports);
    t.is(packet.headerBytes, later ? 20 : 28);
  });
}

test("a first fragment may be shorter than its datagram's UDP length", (t) => {
  const bytes = golden.UDP_HELLO.slice();
  bytes.set([0x20, 0], 6);
  bytes.set([0x10, 0], 24);
  t.notThrows(() => parsed(bytes));
});

const OPTIONS: [title: string, options: number[], mss: number | undefined][] = [
  ["none", [], undefined],
  ["MSS first", [2, 4, 5, 180], 1460],
  ["MSS behind no operation, at an odd place", [1, 2, 4, 5, 180, 0, 0, 0], 1460],
  ["MSS behind the end of options", [0, 2, 4, 5, 180, 0, 0, 0], undefined],
  ["MSS behind another option", [3, 3, 7, 2, 4, 5, 180, 0], 1460],
  ["MSS of a wrong length", [2, 3, 5, 180], undefined],
  ["an option without a length", [1, 1, 1, 2], undefined],
  ["an option of length 0", [5, 0, 2, 4], undefined],
  ["an option of length 1", [5, 1, 2, 4], undefined],
  ["an option beyond the header", [1, 2, 4, 5], undefined],
];
for (const [title, options, expected] of OPTIONS) {
  test(`TCP options: ${title}`, (t) => {
    const header = new Uint8Array(20 + options.length + 8).fill(0xff);
    header[tcp.DATA_OFFSET_AT] = ((20 + options.length) / 4) << 4;
    header.set(options, 20);
    const at = tcp.mssAt(header, 0);
    t.is(at === 0 ? undefined : tcp.mss(header, at), expected);
  });
}

test("SYN and FIN take a sequence number each", (t) => {
  t.deepEqual([0, 0x10, 0x02, 0x12, 0x01, 0x03].map(tcp.occupied), [0, 0, 1, 1, 1, 2]);
});

test("every drop reason has a name of its own", (t) => {
  t.is(new Set(DROP_NAMES).size, Object.keys(Drop).length);
  t.is(DROP_NAMES[Drop.FragmentWithoutFirst], "fragment-without-first");
  t.is(DROP_NAMES[Drop.None], "none");
});

test("packet memory is given out once, aligned, and ends with an error", (t) => {
  const memory = new PacketMemory(65536);
  const first = memory.alloc(1);
  const second = memory.alloc(65);
  t.true(first > 0, "0 can mean none");
  t.is(first % 64, 0);
  t.is(second - first, 64);
  t.is(memory.alloc(64) - second, 128);
  t.throws(() => memory.alloc(65536), { instanceOf: RangeError });
});
