// The path's MTU: the search on its own, and measured by two nodes over a wire that is narrower than their links.
import test from "ava";
import { PathMtu } from "../../src/datapath/path-mtu.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { ipPacket, SYN } from "../fakes/ip-packets.ts";
import { fakeNodes, rowsFor } from "../fakes/nodes.ts";
import { CLUSTER, cluster, exchange, send } from "../fakes/two-nodes.ts";

const RTT_MS = 1;

/** Runs the search over a path that carries what `carries` says, and returns when it last changed its mind. */
function run(path: PathMtu, fromMs: number, toMs: number, carries: (bytes: number) => boolean): number {
  let changedMs = fromMs;
  for (let now = fromMs; now < toMs; now += 10) {
    const before = path.mtu;
    const probe = path.next(now, RTT_MS);
    if (probe > 0 && carries(probe)) path.answered(probe, now + RTT_MS);
    if (path.mtu !== before) changedMs = now;
  }
  return changedMs;
}

const SIZES: [max: number, path: number, found: number][] = [
  [1450, 1500, 1450],
  [1450, 1450, 1450],
  [1450, 1449, 1449],
  [1450, 1400, 1400],
  [1450, 1201, 1201],
  [1450, 1200, 1200],
  [1450, 1199, 1199],
  [1450, 700, 700],
  [1450, 576, 576],
  [8950, 1450, 1450],
  [8950, 8949, 8949],
  [1000, 900, 900],
];
for (const [max, carried, found] of SIZES) {
  test(`a link of ${max}, a path of ${carried}: ${found}`, (t) => {
    const path = new PathMtu(max);
    t.is(path.mtu, max, "the link's is believed first");
    run(path, 0, 30_000, (bytes) => bytes <= carried);
    t.is(path.mtu, found);
  });
}

test("a path as wide as the link is known after one round trip", (t) => {
  const path = new PathMtu(1450);
  t.is(path.next(0, RTT_MS), 1450);
  path.answered(1450, 1);
  t.is(path.next(1, RTT_MS), 0);
});

test("a black hole is found within seven seconds, and the MTU is raised when it goes", (t) => {
  const path = new PathMtu(1450);
  run(path, 0, 10_000, () => true);
  const lowered = run(path, 10_000, 30_000, (bytes) => bytes <= 1300);
  t.is(path.mtu, 1300);
  t.true(lowered < 10_000 + 5000 + 2000 + 6000, `it took until ${lowered}`);
  const raised = run(path, 30_000, 120_000, () => true);
  t.is(path.mtu, 1450);
  t.true(raised < 30_000 + 65_000, `it took until ${raised}`);
});

test("a path that loses everything for a while is not taken for a narrow one", (t) => {
  const path = new PathMtu(1450);
  run(path, 0, 10_000, () => true);
  run(path, 10_000, 60_000, () => false);
  t.is(path.mtu, 1450);
  run(path, 60_000, 90_000, () => true);
  t.is(path.mtu, 1450);
});

test("a path that loses a fifth of everything keeps its MTU", (t) => {
  const path = new PathMtu(1450);
  let number = 0;
  run(path, 0, 600_000, () => ++number % 5 !== 0);
  t.is(path.mtu, 1450);
});

test("an answer that comes late counts for the size that it answers, and for no other", (t) => {
  const path = new PathMtu(1450);
  path.next(0, RTT_MS);
  path.answered(1200, 1);
  t.is(path.mtu, 1450);
  for (const now of [300, 600, 900]) path.next(now, RTT_MS);
  path.answered(1450, 910); // three were lost: 1200 is being asked now
  t.is(path.mtu, 1450);
  path.answered(1200, 920);
  t.is(path.mtu, 1200);
});

test("a link that changes is measured anew", (t) => {
  const path = new PathMtu(1450);
  run(path, 0, 1000, () => true);
  path.restart(8950);
  t.is(path.mtu, 8950);
  run(path, 1000, 60_000, (bytes) => bytes <= 4000);
  t.is(path.mtu, 4000);
});

test("two nodes measure the wire between them, and a third peer's is its own", async (t) => {
  const fake = fakeNodes(3);
  const nodes = { ...CLUSTER.nodes, "192.0.2.13": "10.192.0.4" };
  for (const node of fake.nodes) node.apply(rowsFor({ ...CLUSTER, nodes }, node.vtep));
  const third = ipv4("192.0.2.13");
  fake.wire.filter = (datagram) => {
    const isNarrow = datagram.from !== third && datagram.to !== third;
    return isNarrow && datagram.payload.length > 1422 ? [] : [datagram];
  };
  await fake.advance(20_000);
  const mtus = fake.nodes[0]!.engine.report().probes.map(({ mtu }) => mtu);
  t.deepEqual(mtus, [1400, 1450]);
});

test("what the wire sends back as too big for itself is found too", async (t) => {
  const fake = await cluster();
  fake.wire.mtu = 1400; // outer: inner 1350
  await fake.advance(20_000);
  t.is(fake.nodes[0]!.engine.report().probes[0]!.mtu, 1350);
});

test("a session stays up while padded probes are lost", async (t) => {
  const fake = await cluster();
  fake.wire.filter = (datagram) => (datagram.payload.length > 300 ? [] : [datagram]);
  for (let i = 0; i < 20; i++) {
    await fake.advance(500);
    t.is(fake.nodes[0]!.engine.report().probes[0]!.state, "up");
  }
});

test("other workers are told of a lower MTU", async (t) => {
  const fake = await cluster();
  const told: unknown[] = [];
  fake.nodes[0]!.engine.onHealth = (report) => told.push(report.mtus.map(([, mtu]) => mtu));
  fake.wire.mtu = 1400;
  await fake.advance(20_000);
  t.deepEqual(told.at(-1), [1350]);
});

// The MSS, on SYN and SYN-ACK.

const mssOption = (mss: number, before: readonly number[] = []): Uint8Array => {
  const options = [...before, 2, 4, mss >> 8, mss & 255];
  while (options.length % 4 !== 0) options.push(1);
  return Uint8Array.from(options);
};
const mssIn = (packet: Uint8Array, at = 42): number => new DataView(packet.buffer).getUint16(at);

for (const flags of [SYN, SYN | 0x10]) {
  for (const partial of [false, true]) {
    for (const before of [[], [1], [1, 1], [3, 3, 7]]) {
      test(`flags ${flags}, ${partial ? "partial" : "whole"} checksum, ${before.length} bytes before: clamped`, async (t) => {
        const fake = await cluster();
        const options = mssOption(1460, before);
        const packet = { source: "10.192.32.10", destination: "10.192.32.20", flags, options, partial };
        const { packets, out } = exchange(fake, () =>
          fake.nodes[0]!.device.inject(ipPacket(packet), { needsChecksum: partial }),
        );
        t.is(mssIn(packets[1]![0]!, 42 + before.length), 1410);
        t.regex(out[1]![0]!.transportChecksum, /right|partial/);
      });
    }
  }
}

test("the MSS obeys the measured MTU, both ways and through the mesh, and a smaller one stays", async (t) => {
  const narrow = await cluster();
  narrow.wire.mtu = 1400;
  await narrow.advance(20_000);
  const client = { source: "198.51.100.7", destination: "10.192.0.100", destinationPort: 9200 };
  const there = send(narrow, 0, { ...client, options: mssOption(1460) });
  t.is(mssIn(there.packets[1]![0]!), 1310);
  const answer = { source: "10.192.32.20", destination: "198.51.100.7", sourcePort: 80, destinationPort: 40000 };
  const back = send(narrow, 1, { ...answer, flags: SYN | 0x10, options: mssOption(1410) });
  t.is(mssIn(back.packets[0]![0]!), 1310);
  const small = send(narrow, 0, { ...client, sourcePort: 2, options: mssOption(536) });
  t.is(mssIn(small.packets[1]![0]!), 536);
});

for (const [name, options] of [
  ["no options", []],
  ["an option that ends beyond the header", [2, 40, 1, 1]],
  ["an MSS option of a wrong length", [2, 3, 5, 1]],
  ["an option of no length", [2, 0, 1, 1]],
] as const) {
  test(`a SYN with ${name} passes as it is`, async (t) => {
    const fake = await cluster();
    const packet = { source: "10.192.32.10", destination: "10.192.32.20", options: Uint8Array.from(options) };
    const { packets } = send(fake, 0, packet);
    t.deepEqual([...packets[1]![0]!.subarray(40)], [...options]);
  });
}
