// Addresses, ports and the MSS rewritten in place: the checksums are those of a packet made so from the start.
import test from "ava";
import fc from "fast-check";
import { formatIpv4 } from "../../src/lib/ip.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { Drop } from "../../src/packet/drop.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { addressDelta, Packet, portDelta, swapPorts } from "../../src/packet/packet.ts";
import { clampMss } from "../../src/packet/tcp.ts";
import { describe, type Fields, ipPacket, onesSum, SYN } from "../fakes/ip-packets.ts";

const AT = 64;
const memory = new PacketMemory(1 << 18);
const sum = createSum(memory);

function load(bytes: Uint8Array): Packet {
  memory.u8.set(bytes, AT);
  const packet = new Packet(memory, sum);
  if (packet.parse(AT, bytes.length) !== Drop.None) throw new Error("the packet is broken");
  return packet;
}

const bytesOf = (packet: Packet): Uint8Array => memory.u8.slice(packet.at, packet.at + packet.length);

/** Rewrites as the data path does, with deltas computed once for the flow. */
function rewrite(packet: Packet, source: number, destination: number, ports: number): void {
  const addresses = addressDelta(packet.source, packet.destination, source, destination);
  packet.rewrite(source, destination, ports, addresses, portDelta(packet.protocol, packet.ports, ports));
}

const edges = [0, 1, -1, 0xffff, 0x10000, -65536, 0x7fffffff, -0x80000000];
const address = fc.oneof(fc.constantFrom(...edges), fc.integer());
const port = fc.oneof(fc.constantFrom(0, 1, 0xfffe, 0xffff), fc.nat(0xffff));
const protocol = fc.constantFrom<NonNullable<Fields["protocol"]>[]>("tcp", "udp", "icmp");

test("a rewritten packet is the one that would have been made so", (t) => {
  const end = fc.record({ source: address, destination: address, sourcePort: port, destinationPort: port });
  const payload = fc.uint8Array({ maxLength: 65 });
  t.notThrows(() =>
    fc.assert(
      fc.property(protocol, end, end, payload, fc.boolean(), (kind, before, after, body, partial) => {
        const made = ({ source, destination, ...ports }: typeof before): Uint8Array =>
          ipPacket({
            source: formatIpv4(source),
            destination: formatIpv4(destination),
            protocol: kind,
            payload: body,
            partial: partial && kind !== "icmp",
            ...ports,
          });
        const packet = load(made(before));
        packet.partialChecksum = partial && kind !== "icmp";
        const ports = kind === "icmp" ? after.sourcePort * 0x10001 : (after.sourcePort << 16) | after.destinationPort;
        rewrite(packet, after.source, after.destination, ports | 0);
        if (packet.source !== after.source || packet.destination !== after.destination) return false;
        if (packet.ports !== (ports | 0)) return false;
        if (!packet.partialChecksum) return Buffer.compare(bytesOf(packet), made(after)) === 0;
        // A pseudo-header's sum has two ways to write zero; what it becomes in the end has not.
        packet.completeChecksum();
        return describe(bytesOf(packet)).transportChecksum === "right";
      }),
      { numRuns: 1000 },
    ),
  );
});

const UDP: Fields = { source: "10.0.0.1", destination: "10.0.0.2", protocol: "udp", payload: Uint8Array.of(1, 2, 3) };

test("a UDP datagram without a checksum stays without one", (t) => {
  const packet = load(ipPacket({ ...UDP, noChecksum: true }));
  t.true(packet.transportChecksumIsRight());
  rewrite(packet, 1, 2, 3);
  t.is(describe(bytesOf(packet)).transportChecksum, "none");
});

/** The payload with which the datagram's sum is all ones, so that its checksum computes to 0. */
function withZeroChecksum(fields: Fields): Fields {
  const base = ipPacket({ ...fields, payload: new Uint8Array(2) });
  const field = (base[26]! << 8) | base[27]!;
  return { ...fields, payload: Uint8Array.of(field >> 8, field & 0xff) };
}

test("a UDP checksum that computes to 0 is sent as all ones, RFC 768", (t) => {
  const partial = load(ipPacket({ ...withZeroChecksum(UDP), partial: true }));
  partial.completeChecksum();
  t.deepEqual([...bytesOf(partial).slice(26, 28)], [0xff, 0xff]);
  t.true(partial.transportChecksumIsRight());

  const target = withZeroChecksum({ ...UDP, source: "10.9.9.9" });
  const rewritten = load(ipPacket({ ...target, source: "10.0.0.1" }));
  rewrite(rewritten, (10 << 24) | 0x090909, rewritten.destination, rewritten.ports);
  t.deepEqual(bytesOf(rewritten), ipPacket(target));
  t.deepEqual([...bytesOf(rewritten).slice(26, 28)], [0xff, 0xff]);
});

test("a TCP checksum that computes to 0 is 0", (t) => {
  const fields: Fields = { source: "10.0.0.1", destination: "10.0.0.2" };
  const base = ipPacket({ ...fields, payload: new Uint8Array(2) });
  const payload = base.slice(36, 38);
  const packet = load(ipPacket({ ...fields, payload, partial: true }));
  packet.completeChecksum();
  t.deepEqual([...bytesOf(packet).slice(36, 38)], [0, 0]);
  t.true(packet.transportChecksumIsRight());
});

for (const kind of ["tcp", "udp"] as const) {
  test(`an unmade ${kind} checksum is made, for every length`, (t) => {
    for (let length = 0; length <= 200; length++) {
      const payload = new Uint8Array(length).map((_, i) => i * 7 + length);
      const fields: Fields = { source: "10.0.0.1", destination: "10.255.0.2", protocol: kind, payload };
      const packet = load(ipPacket({ ...fields, partial: true }));
      packet.partialChecksum = true;
      packet.completeChecksum();
      t.false(packet.partialChecksum);
      t.deepEqual(bytesOf(packet), ipPacket(fields));
    }
  });
}

for (const kind of ["tcp", "udp", "icmp"] as const) {
  test(`one changed bit of a ${kind} packet is noticed`, (t) => {
    const whole = ipPacket({ ...UDP, protocol: kind });
    for (let bit = 20 * 8; bit < whole.length * 8; bit++) {
      const bytes = whole.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      memory.u8.set(bytes, AT);
      const packet = new Packet(memory, sum);
      if (packet.parse(AT, bytes.length) === Drop.None) t.false(packet.transportChecksumIsRight(), `bit ${bit}`);
    }
  });
}

test("a later fragment has addresses to rewrite, and no ports", (t) => {
  const packet = load(ipPacket({ ...UDP, fragment: 0x2003 }));
  const before = bytesOf(packet);
  rewrite(packet, 1, 2, 3);
  const after = bytesOf(packet);
  t.deepEqual(after.slice(20), before.slice(20));
  t.is(onesSum(after.subarray(0, 20)), 0xffff);
});

test("a UDP datagram may be shorter than its packet: its checksum covers it alone", (t) => {
  const surplus = new Uint8Array(4).fill(0x5a);
  const datagram = ipPacket(UDP);
  const packet = new Uint8Array(datagram.length + surplus.length);
  packet.set(datagram);
  packet.set(surplus, datagram.length);
  const header = packet.subarray(0, 20);
  header[3] = packet.length;
  header.fill(0, 10, 12);
  const value = ~onesSum(header) & 0xffff;
  header.set([value >> 8, value & 0xff], 10);
  t.true(load(packet).transportChecksumIsRight());
});

test("ports are swapped", (t) => {
  t.is(swapPorts((0xabcd << 16) | 0x1234), (0x1234 << 16) | 0xabcd);
});

const SYN_ROWS: [title: string, options: number[], mtu: number, mss: number[]][] = [
  ["is made smaller", [2, 4, 5, 180], 1450, [2, 4, 5, 130]],
  ["at an odd place is made smaller", [1, 2, 4, 5, 180, 0, 0, 0], 1450, [1, 2, 4, 5, 130, 0, 0, 0]],
  ["that fits stays", [2, 4, 5, 130], 1450, [2, 4, 5, 130]],
  ["that is smaller stays", [2, 4, 2, 24], 1450, [2, 4, 2, 24]],
  ["that is not there is not added", [3, 3, 7, 0], 1450, [3, 3, 7, 0]],
  ["of 65,535 is made smaller", [2, 4, 255, 255], 576, [2, 4, 2, 24]],
];
for (const [title, before, mtu, after] of SYN_ROWS) {
  test(`an MSS option ${title}`, (t) => {
    const fields: Fields = { source: "10.0.0.1", destination: "10.0.0.2", flags: SYN };
    const packet = load(ipPacket({ ...fields, options: Uint8Array.from(before) }));
    clampMss(packet.u8, packet.transport, mtu - 40, false);
    t.deepEqual(bytesOf(packet), ipPacket({ ...fields, options: Uint8Array.from(after) }));
  });
}

test("a clamped MSS leaves an unmade checksum to be made", (t) => {
  const fields: Fields = { source: "10.0.0.1", destination: "10.0.0.2", flags: SYN };
  const packet = load(ipPacket({ ...fields, options: Uint8Array.of(2, 4, 5, 180), partial: true }));
  packet.partialChecksum = true;
  clampMss(packet.u8, packet.transport, 1410, true);
  packet.completeChecksum();
  t.deepEqual(bytesOf(packet), ipPacket({ ...fields, options: Uint8Array.of(2, 4, 5, 130) }));
});
