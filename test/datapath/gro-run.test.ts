// Datagrams that the kernel joined come out as they do one by one: the same packets, the same counters.
import test from "ava";
import fc from "fast-check";
import { Side } from "../../src/datapath/engine.ts";
import type { FlowRow } from "../../src/datapath/flow-report.ts";
import { FRAME_BYTES } from "../../src/datapath/probe-frame.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { MANAGEMENT_VNI, vni } from "../../src/packet/vxlan.ts";
import type { Datagram } from "../fakes/in-process.ts";
import { ACK, describe, FIN, type Fields, ipPacket, PSH, SYN } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { taken, train, withoutId } from "../fakes/trains.ts";
import { B, cluster, send } from "../fakes/two-nodes.ts";

const CLIENT = "10.192.32.11";
const VIP = "10.192.32.2";
const TASK = "10.192.32.20";

interface Outcome {
  packets: object[];
  drops: Record<string, number>;
  flow: Pick<FlowRow, "state" | "packets" | "bytes"> | undefined;
}

/** What comes of the packets at the first node, when the task on the second sends them to this port of the client. */
function outcome(fake: FakeNodes, port: number, packets: readonly Uint8Array[]): Outcome {
  const [first, second] = fake.nodes;
  const before = first!.drops();
  for (const packet of packets) second!.device.inject(packet);
  fake.settle();
  const flow = first!.flows().find(({ client }) => client === `${CLIENT}:${port}`);
  const drops = Object.entries(first!.drops()).map(([reason, count]) => [reason, count - (before[reason] ?? 0)]);
  return {
    packets: taken(first!.written()).map(withoutId),
    drops: Object.fromEntries(drops),
    flow: flow && { state: flow.state, packets: flow.packets, bytes: flow.bytes },
  };
}

/** A port from which the client has a flow through the VIP to the task on the other node. */
function connect(fake: FakeNodes, protocol: "tcp" | "udp", from: number): number {
  for (let port = from; ; port++) {
    const fields: Fields = { source: CLIENT, destination: VIP, sourcePort: port, protocol, flags: SYN };
    const [there] = send(fake, 0, fields).out[1]!;
    if (there?.destination === TASK) return port;
  }
}

const change = fc.oneof(
  { weight: 8, arbitrary: fc.constant<Partial<Fields>>({}) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Partial<Fields>[]>(
      { flags: ACK | PSH },
      { flags: ACK | FIN },
      { window: 5 },
      { tos: 1 },
      { tos: 3 },
      { ttl: 9 },
      { fragment: 0 },
      { sequence: 77 },
      { sourcePort: 81 },
      { destination: "10.192.32.10" },
      { options: Uint8Array.of(1, 1, 1, 1) },
    ),
  },
);
const trains = fc.record({
  protocol: fc.constantFrom("tcp" as const, "udp" as const),
  size: fc.constantFrom(1, 8, 100, 1300),
  changes: fc.array(fc.tuple(change, fc.boolean()), { minLength: 1, maxLength: 60, size: "max" }),
});

test("a train that the kernel joined comes out as its datagrams do alone, through a VIP too", async (t) => {
  const alone = await cluster();
  const joined = await cluster({ join: true });
  let next = 1000;
  let longest = 0;
  const property = fc.property(trains, ({ protocol, size, changes }) => {
    const port = connect(alone, protocol, next);
    t.is(connect(joined, protocol, next), port);
    next = port + 1;
    const lengths = changes.map(([, isShorter]) => (isShorter ? Math.floor(size / 2) : size));
    const fields = { source: TASK, destination: CLIENT, protocol, sourcePort: 80, destinationPort: port };
    const packets = train(lengths, fields, (i) => changes[i]![0]);
    longest = Math.max(longest, packets.length);
    t.deepEqual(outcome(joined, port, packets), outcome(alone, port, packets));
  });
  t.notThrows(() => fc.assert(property, { numRuns: 60 }));
  t.true(longest > 20);
});

test("a damaged datagram within a train is dropped alone", async (t) => {
  const fake = await cluster({ join: true });
  const port = connect(fake, "tcp", 1000);
  const fields = { source: TASK, destination: CLIENT, sourcePort: 80, destinationPort: port };
  const packets = train([100, 100, 100, 100], fields);
  let count = 0;
  fake.wire.filter = (datagram) => {
    // The third's inner total length.
    if (datagram.payload.length < 100 || ++count !== 3) return [datagram];
    return [{ ...datagram, payload: datagram.payload.with(22 + 3, 200) }];
  };
  const { packets: out, drops } = outcome(fake, port, packets);
  t.is(out.length, 3);
  t.is(drops["bad-total-length"], 1);
});

test("probes that the kernel joined do not continue the datagram of a container before them", async (t) => {
  const fake = await cluster({ join: true });
  const port = connect(fake, "udp", 1000);
  const probes: Datagram[] = [];
  fake.wire.filter = (datagram) => {
    if (vni(datagram.payload, 0) === MANAGEMENT_VNI && datagram.from === ipv4(B)) probes.push(datagram);
    return [datagram];
  };
  await fake.advance(3000);
  const probe = probes.find(({ payload }) => payload.length === FRAME_BYTES)!;
  const payload = new Uint8Array(100).fill(7);
  const fields = { source: TASK, destination: CLIENT, protocol: "udp", sourcePort: 80, destinationPort: port } as const;
  fake.nodes[1]!.device.inject(ipPacket({ ...fields, payload }));
  fake.nodes[1]!.engine.step(Side.All);
  const fromPort = probe.fromPort + 1; // another one than the container's datagram has, which the kernel does not join with them
  for (let i = 0; i < 2; i++) fake.wire.carry({ ...probe, fromPort });
  fake.settle();
  const packets = taken(fake.nodes[0]!.written());
  t.deepEqual(
    packets.map((packet) => packet.subarray(28)),
    [payload],
  );
});

test("the packets are the task's, seen through the VIP", async (t) => {
  const fake = await cluster({ join: true });
  const port = connect(fake, "tcp", 1000);
  const fields = { source: TASK, destination: CLIENT, sourcePort: 80, destinationPort: port };
  fake.nodes[1]!.device.inject(ipPacket({ ...fields, flags: ACK, payload: new Uint8Array(100) }));
  fake.settle();
  const [packet] = taken(fake.nodes[0]!.written());
  t.like(describe(packet!), { source: VIP, destination: CLIENT, transportChecksum: "right" });
});
