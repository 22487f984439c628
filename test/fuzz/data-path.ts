// A whole data path under fuzz: whatever comes in, from containers or from the wire, it neither fails nor writes a broken
// packet, and everything either comes out or is counted as a drop.
import fc from "fast-check";
import { Side } from "../../src/datapath/engine.ts";
import type { TableRow } from "../../src/datapath/rows.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { unaccounted } from "../fakes/balance.ts";
import { arpRequest, frame } from "../fakes/frames.ts";
import { ACK, FIN, type Fields, fragmentsOf, icmpError, ipPacket, onesSum, PSH, SYN } from "../fakes/ip-packets.ts";
import { fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { A, CLUSTER, WEB } from "../fakes/two-nodes.ts";
import { KERNEL_FRAMES } from "../golden/kernel-frames.ts";
import { type Mutation, mutated, mutation } from "./mutation.ts";

const B = ipv4("192.0.2.12");
const KERNEL = ipv4("192.0.2.50");
const STRANGER = ipv4("192.0.2.66");
const IP_IN_FRAME = 22;

const LOCAL = "10.192.32.10";
const REMOTE = "10.192.32.20";
const KERNEL_ROWS: TableRow[] = [
  { kind: "endpoint", ip: ipv4("10.192.32.50"), vni: WEB, vtep: KERNEL, mac: { high: 2, low: 3 } },
  { kind: "peer", vtep: KERNEL, port: 4789, ingress: 0, agent: false, lane: false, mesh: false },
];

const SHAPES: Partial<Fields>[] = [
  { flags: SYN, options: Uint8Array.of(2, 4, 5, 180, 1, 3, 3, 7) },
  { flags: ACK, payload: new Uint8Array(1000).fill(7) },
  { flags: ACK | PSH, payload: new Uint8Array(13).fill(7) },
  { flags: FIN | ACK },
  { protocol: "udp", payload: new Uint8Array(500).fill(7) },
  { protocol: "udp" },
  { protocol: "udp", noChecksum: true, payload: new Uint8Array(9) },
  { protocol: "icmp", payload: new Uint8Array(56) },
  { protocol: "udp", payload: new Uint8Array(1300), fragment: 0 },
];

/** What a peer's kernel leaves to a network card. */
const UNFINISHED: Partial<Fields>[] = [
  { flags: ACK, partial: true, payload: new Uint8Array(1000).fill(7) },
  { flags: ACK, partial: true, payload: new Uint8Array(20_000).fill(7) },
  { flags: ACK | PSH, partial: true, payload: new Uint8Array(61_000).fill(7) },
  { protocol: "udp", partial: true, payload: new Uint8Array(300).fill(7) },
  { protocol: "udp", partial: true, payload: new Uint8Array(20_000).fill(7) },
];

const shaped = (source: string, destinations: readonly string[]): Uint8Array[] =>
  destinations.flatMap((destination) =>
    SHAPES.flatMap((shape) => {
      const packet = ipPacket({ source, destination, ...shape });
      return shape.fragment === 0 ? fragmentsOf(packet, 600) : [packet];
    }),
  );

const errorsTo = (source: string, destination: string): Uint8Array[] =>
  SHAPES.slice(0, 8).map((shape, i) => {
    const about = ipPacket({ source: destination, destination: source, ...shape });
    return icmpError({ source, type: [3, 11, 12, 5][i % 4], code: i % 5, about, quoted: 8 + 12 * i, rest: 1400 });
  });

const OUTBOUND: readonly Uint8Array[] = [
  ...shaped(LOCAL, [REMOTE, "10.192.32.11", "10.192.32.2", "10.192.32.50", "10.192.32.1", "198.51.100.7"]),
  ...shaped("198.51.100.7", ["10.192.0.100", LOCAL]),
  ...shaped("10.192.0.2", [LOCAL, REMOTE]),
  ...errorsTo(LOCAL, REMOTE),
  ...errorsTo(LOCAL, "10.192.32.11"),
  ...errorsTo("203.0.113.1", LOCAL),
];

const INBOUND: readonly Uint8Array[] = [
  ...KERNEL_FRAMES.map(([, payload]) => payload),
  ...[...shaped(REMOTE, [LOCAL]), ...errorsTo(REMOTE, LOCAL)].map((packet) => frame(packet, { vni: WEB })),
  ...shaped("198.51.100.9", [LOCAL]).map((packet) => frame(packet, { vni: 2 })),
  ...UNFINISHED.map((shape) => frame(ipPacket({ source: REMOTE, destination: LOCAL, ...shape }), { vni: WEB })),
  ...SHAPES.slice(1, 6).map((shape) => {
    const datagram = frame(ipPacket({ source: REMOTE, destination: LOCAL, ...shape }), { vni: WEB });
    return Uint8Array.from(Buffer.concat(new Array<Uint8Array>(5).fill(datagram)));
  }),
  frame(arpRequest(REMOTE, LOCAL), { vni: WEB, etherType: 0x0806 }),
  frame(ipPacket({ source: "192.0.2.12", destination: "127.0.0.1", protocol: "udp", ttl: 255 }), { vni: 1 }),
];

export interface Input {
  readonly direction: "in" | "out";
  readonly which: number;
  readonly mutation: Mutation;
  readonly from: number;
  readonly tos: number;
  readonly gso: Gso;
  readonly gsoBytes: number;
  readonly needsChecksum: boolean;
  /** The size of the datagrams that the kernel says it has joined; 0: it says nothing. */
  readonly cut: number;
}

const input: fc.Arbitrary<Input> = fc.record({
  direction: fc.constantFrom("in", "in", "out"),
  which: fc.nat(1000),
  mutation,
  from: fc.constantFrom(B, B, B, KERNEL, KERNEL, STRANGER),
  tos: fc.nat(255),
  gso: fc.constantFrom(Gso.None, Gso.None, Gso.Tcp4, Gso.Udp4),
  gsoBytes: fc.oneof(fc.constantFrom(0, 1, 8, 100, 1400, 65_535), fc.nat(0xffff)),
  needsChecksum: fc.boolean(),
  cut: fc.constantFrom(0, 0, 0, 50, 62, 75, 100, 550, 1062, 1200),
});

export interface FuzzOptions {
  packets: number;
  seed: number;
}

/** What became of so many packets; throws with the input that broke the rules. */
export function fuzzDataPath({ packets, seed }: FuzzOptions): Record<string, number> {
  const rig = new Rig();
  fc.assert(
    fc.property(input, (packet) => rig.feed(packet)),
    { numRuns: packets, seed, endOnFailure: true }, // a node has a memory: only the seed has it again
  );
  return rig.outcome();
}

/** One node, whose wire ends in nothing. */
class Rig {
  readonly #fake = fakeNodes(1);
  #sent = 0;
  #written = 0;
  #answered = 0;
  #broken: string | undefined;
  #fromWire = false;

  constructor() {
    this.#fake.nodes[0]!.apply([...rowsFor(CLUSTER, A), ...KERNEL_ROWS]);
    this.#fake.wire.filter = ({ payload }) => {
      this.#sent++;
      if (payload[20] === 8 && payload[21] === 0) this.#check(payload.subarray(IP_IN_FRAME));
      return [];
    };
  }

  feed(packet: Input): void {
    const [node] = this.#fake.nodes;
    const before = { drops: this.#drops(), sent: this.#sent, written: this.#written };
    this.#fromWire = packet.direction === "in";
    if (packet.direction === "in") {
      const payload = mutated(INBOUND[packet.which % INBOUND.length]!, IP_IN_FRAME, packet.mutation);
      node!.underlay.deliver({
        ...{ from: packet.from, fromPort: 50_000, to: ipv4(A), toPort: 4789 },
        ...{
          tos: packet.tos,
          payload,
          ...(packet.cut > 0 && packet.cut < payload.length && { segmentBytes: packet.cut }),
        },
      });
    } else {
      const { gso, gsoBytes, needsChecksum } = packet;
      const bytes = mutated(OUTBOUND[packet.which % OUTBOUND.length]!, 0, packet.mutation);
      node!.device.inject(bytes, { gso, gsoBytes, needsChecksum });
    }
    node!.engine.step(Side.All);
    for (const { bytes } of node!.written()) {
      this.#written++;
      this.#check(bytes);
    }
    const broken = this.#broken;
    this.#broken = undefined; // the next one may be whole
    if (broken !== undefined) throw new Error(broken);
    const report = node!.engine.report();
    const { answered } = report.packets; // probes, and notes of agents, too
    const isAccountedFor =
      answered > this.#answered ||
      this.#sent > before.sent ||
      this.#written > before.written ||
      this.#drops() > before.drops;
    if (!isAccountedFor) throw new Error("the packet neither came out nor was it counted as a drop");
    this.#answered = answered;
    const lost = unaccounted(report);
    if (lost !== 0) throw new Error(`the counters are ${lost} packets off`);
  }

  outcome(): Record<string, number> {
    return { written: this.#written, sent: this.#sent, ...this.#fake.nodes[0]!.drops() };
  }

  #check(packet: Uint8Array): void {
    const length = new DataView(packet.buffer, packet.byteOffset).getUint16(2);
    const header = (packet[0]! & 15) * 4;
    if (packet.length !== length) this.#broken = `a packet of ${packet.length} bytes says that it has ${length}`;
    else if (header < 20 || header > length) this.#broken = `a packet has a header of ${header} bytes`;
    else if (this.#fromWire && onesSum(packet.subarray(0, header)) !== 0xffff) {
      this.#broken = "a packet has a wrong header checksum"; // a container's own is its receiver's to judge
    }
  }

  #drops(): number {
    return Object.values(this.#fake.nodes[0]!.drops()).reduce((sum, count) => sum + count, 0);
  }
}
