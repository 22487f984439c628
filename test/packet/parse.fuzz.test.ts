// Whatever the bytes are, parsing ends, reads only what is there, and what it accepts holds together.
import test from "ava";
import fc from "fast-check";
import { isArpRequest } from "../../src/packet/arp.ts";
import { isBfd } from "../../src/packet/bfd.ts";
import { createSum } from "../../src/packet/checksum.ts";
import { Drop } from "../../src/packet/drop.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Packet } from "../../src/packet/packet.ts";
import { clampMss } from "../../src/packet/tcp.ts";
import * as golden from "../golden/packets.ts";

const AT = 256;
const memory = new PacketMemory(1 << 17);
const packet = new Packet(memory, createSum(memory));

/** Golden packets with some bytes changed, cut anywhere; and plain noise. */
const damaged = (packets: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
    {
      weight: 4,
      arbitrary: fc
        .tuple(
          fc.constantFrom(...packets),
          fc.array(fc.tuple(fc.nat(79), fc.nat(255)), { maxLength: 4 }),
          fc.oneof(fc.constant(0), fc.nat(60)),
        )
        .map(([whole, changes, cut]) => {
          const bytes = whole.slice();
          for (const [at, value] of changes) bytes[at % bytes.length] = value;
          return bytes.slice(0, Math.max(0, bytes.length - cut));
        }),
    },
  );

const IP_PACKETS = [golden.TCP_SYN, golden.UDP_HELLO, golden.ICMP_ECHO, golden.ICMP_TOO_BIG];

/** What a reader makes of the bytes, when all that is around them is `fill`. */
function among<T>(fill: number, bytes: Uint8Array, read: () => T): T {
  memory.u8.fill(fill, 0, AT + bytes.length + 256);
  memory.u8.set(bytes, AT);
  return read();
}

function parsed(bytes: Uint8Array): Record<string, unknown> {
  const drop = packet.parse(AT, bytes.length);
  if (drop !== Drop.None) return { drop };
  const { at, length, transport, headerBytes, protocol, source, destination, ports, tcpFlags } = packet;
  const { laterFragment, fragment, icmpError, partialChecksum } = packet;
  const right = [packet.headerChecksumIsRight(), fragment || packet.transportChecksumIsRight()];
  if (protocol === 6 && !laterFragment) clampMss(packet.u8, transport, 60, partialChecksum);
  return {
    ...{ drop, at, length, transport, headerBytes, protocol, source, destination, ports, tcpFlags },
    ...{ laterFragment, fragment, icmpError, partialChecksum, right },
    bytes: Buffer.from(memory.u8.subarray(AT, AT + bytes.length)).toString("hex"),
  };
}

test("parsing reads nothing but the packet, and writes nothing else", (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(damaged(IP_PACKETS), (bytes) => {
        const among0 = among(0x00, bytes, () => JSON.stringify(parsed(bytes)));
        const among1 = among(0xff, bytes, () => JSON.stringify(parsed(bytes)));
        const around = [
          ...memory.u8.subarray(0, AT),
          ...memory.u8.subarray(AT + bytes.length, AT + bytes.length + 256),
        ];
        return among0 === among1 && around.every((byte) => byte === 0xff);
      }),
      { numRuns: 3000 },
    ),
  );
});

test("what parsing accepts holds together", (t) => {
  const accepted = new Map<number, number>();
  const property = fc.property(damaged(IP_PACKETS), (bytes) => {
    memory.u8.set(bytes, AT);
    if (packet.parse(AT, bytes.length) !== Drop.None) return;
    accepted.set(packet.protocol, (accepted.get(packet.protocol) ?? 0) + 1);
    const ipBytes = packet.transport - packet.at;
    const check = (holds: boolean, what: string): void => {
      if (!holds) throw new Error(what);
    };
    check(packet.at === AT, "it begins where it was told to");
    check(ipBytes >= 20 && ipBytes <= 60 && ipBytes % 4 === 0, "the IP header has 5 to 15 words");
    check(packet.length <= bytes.length, "it ends in what is there");
    check(packet.headerBytes >= ipBytes && packet.headerBytes <= packet.length, "its headers are inside it");
    check(packet.payloadBytes >= 0, "the payload has a length");
    check(packet.fragment || !packet.laterFragment, "a later fragment is a fragment");
    check(!packet.laterFragment || (packet.headerBytes === ipBytes && packet.ports === 0), "a later one has no ports");
    check(packet.protocol === 6 || packet.tcpFlags === 0, "only TCP has flags");
    check(packet.protocol === 1 || !packet.icmpError, "only ICMP quotes");
    check((packet.ports | 0) === packet.ports, "ports are an int32");
    check(!packet.partialChecksum, "checksums are complete until somebody says otherwise");
  });
  t.notThrows(() => fc.assert(property, { numRuns: 3000 }));
  for (const protocol of [1, 6, 17]) t.true(accepted.get(protocol)! > 50, `protocol ${protocol} was hardly met`);
});

const READERS: [name: string, packets: Uint8Array, at: number, read: (length: number) => boolean][] = [
  ["an ARP request", golden.ARP_REQUEST, 22, (length) => isArpRequest(memory.u8, AT, length)],
  ["a BFD packet", golden.BFD_UP, golden.BFD_UP_AT, (length) => isBfd(memory.u8, AT, length)],
];
for (const [name, frame, at, read] of READERS) {
  test(`whether bytes are ${name} depends on nothing behind them`, (t) => {
    let accepted = 0;
    const property = fc.property(damaged([frame.slice(at)]), (bytes) => {
      const verdicts = [0x00, 0xff].map((fill) => among(fill, bytes, () => read(bytes.length)));
      if (verdicts[0]) accepted++;
      return verdicts[0] === verdicts[1];
    });
    t.notThrows(() => fc.assert(property, { numRuns: 1000 }));
    t.true(accepted > 10);
  });
}
