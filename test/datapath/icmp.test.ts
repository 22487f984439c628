// ICMP errors: those about rewritten packets come back in the words of who sent them, and those that the agent says.
import test from "ava";
import { ACK, completed, describe, type Fields, icmpError, ipPacket, RST, SYN } from "../fakes/ip-packets.ts";
import type { FakeNodes } from "../fakes/nodes.ts";
import { brief, cluster, exchange, send } from "../fakes/two-nodes.ts";

const WEB_VIP = "10.192.32.2";
const TASK_A = "10.192.32.10";
const CLIENT_A = "10.192.32.11";
const TASK_B = "10.192.32.20";
const OUTSIDE = "198.51.100.7";
const MESH_VIP = "10.192.0.100";

/** The quoted packet of an error. */
const quotedOf = (error: Uint8Array): Uint8Array => error.subarray(28);

interface Related {
  name: string;
  packet: Fields;
  /** Where the packet comes out, and who tells of it there. */
  at: 0 | 1;
  teller: string;
  /** How the error comes to the sender. */
  from: string;
  type?: number;
  code?: number;
  /** How much of the packet's payload is quoted. */
  quoted?: number;
}

const UNREACHABLE = { type: 3, code: 3 };
const EXCEEDED = { type: 11, code: 0 };
const NEEDED = { type: 3, code: 4 };

const ROWS: Related[] = [
  ...([8, 20, 100] as const).flatMap((quoted): Related[] => [
    {
      name: `the task of a VIP, on another node, refuses a UDP datagram, ${quoted} bytes quoted`,
      packet: { source: CLIENT_A, destination: WEB_VIP, protocol: "udp", payload: new Uint8Array(200) },
      at: 1,
      teller: TASK_B,
      from: WEB_VIP,
      quoted,
      ...UNREACHABLE,
    },
    {
      name: `a router between a task's node and the task tells a TCP client, ${quoted} bytes quoted`,
      packet: { source: CLIENT_A, destination: WEB_VIP },
      at: 1,
      teller: "10.192.0.3",
      from: "10.192.0.3",
      quoted,
      ...EXCEEDED,
    },
  ]),
  {
    name: "an echo request through a VIP: its identifier comes back",
    packet: { source: CLIENT_A, destination: WEB_VIP, protocol: "icmp", sourcePort: 99 },
    at: 1,
    teller: TASK_B,
    from: WEB_VIP,
    ...UNREACHABLE,
  },
  {
    name: "a client from outside learns through the mesh that the task's way is narrow",
    packet: { source: OUTSIDE, destination: MESH_VIP, destinationPort: 9200 },
    at: 1,
    teller: "10.192.0.3",
    from: "10.192.0.3",
    ...NEEDED,
  },
  {
    name: "a client from outside is told by the task that it reached through the mesh",
    packet: { source: OUTSIDE, destination: MESH_VIP, destinationPort: 9200 },
    at: 1,
    teller: TASK_B,
    from: MESH_VIP,
    ...UNREACHABLE,
  },
  {
    name: "a router outside tells a container of its packet to the world",
    packet: { source: CLIENT_A, destination: OUTSIDE },
    at: 0,
    teller: "203.0.113.1",
    from: "203.0.113.1",
    ...EXCEEDED,
  },
  {
    name: "the gateway of the task's node tells",
    packet: { source: CLIENT_A, destination: WEB_VIP },
    at: 1,
    teller: "10.192.32.1",
    from: "10.192.32.1",
    ...EXCEEDED,
  },
];

/** A cluster in which the first new flow of the web VIP goes to the task of the second node. */
async function ready(): Promise<FakeNodes> {
  const fake = await cluster();
  send(fake, 0, { source: CLIENT_A, destination: WEB_VIP, sourcePort: 1 });
  return fake;
}

for (const { name, packet, at, teller, from, type, code, quoted = 548 } of ROWS) {
  test(name, async (t) => {
    const fake = await ready();
    const sent = ipPacket(packet);
    const there = exchange(fake, () => fake.nodes[0]!.device.inject(sent)).packets[at]!;
    t.is(there.length, 1);
    const error = icmpError({ source: teller, type, code, about: completed(there[0]!), quoted, rest: 1400 });
    const { packets, out, drops } = exchange(fake, () => fake.nodes[at]!.device.inject(error));
    t.deepEqual(drops, [{}, {}]);
    t.is(packets[0]!.length, 1);
    t.is(out[1]!.length, 0);
    const told = out[0]![0]!;
    t.is(told.source, from);
    t.is(told.destination, packet.source);
    t.is(told.icmp, `${type}/${code}`);
    t.true(told.headerChecksumIsRight);
    t.is(told.transportChecksum, "right");
    const bytes = packets[0]![0]!;
    t.is(new DataView(bytes.buffer).getUint16(26), 1400, "the rest of the header passes");
    const restored = quotedOf(bytes);
    t.deepEqual(restored, sent.slice(0, restored.length), "what is quoted is what was sent");
  });
}

const UNRELATED: [name: string, teller: string, about: Fields, expected: string][] = [
  ["about a packet to somebody else", TASK_B, { source: CLIENT_A, destination: OUTSIDE }, "icmp-unrelated"],
  ["about a packet that no flow accounts for", TASK_B, { source: CLIENT_A, destination: TASK_B }, ""],
];
for (const [name, teller, about, expected] of UNRELATED) {
  test(`an error ${name} is ${expected === "" ? "an ordinary packet between endpoints" : "dropped"}`, async (t) => {
    const fake = await ready();
    const error = icmpError({ source: teller, type: 3, code: 3, about: ipPacket(about), quoted: 8 });
    const { out, drops } = exchange(fake, () => fake.nodes[1]!.device.inject(error));
    if (expected === "") {
      t.deepEqual(
        out[0]!.map(({ source }) => source),
        [teller],
      );
      return;
    }
    t.deepEqual(out, [[], []]);
    t.deepEqual(drops, [{}, { [expected]: 1 }]);
  });
}

test("an error that another container forges about a flow is dropped", async (t) => {
  const fake = await ready();
  const there = exchange(fake, () => fake.nodes[0]!.device.inject(ipPacket({ source: CLIENT_A, destination: TASK_B })))
    .packets[1]![0]!;
  for (const [node, source] of [
    [0, TASK_A],
    [1, "10.192.48.20"],
  ] as const) {
    const forged = icmpError({ source, type: 3, code: 1, about: there, quoted: 8 });
    const { out, drops } = exchange(fake, () => fake.nodes[node]!.device.inject(forged));
    t.deepEqual(out, [[], []]);
    t.is(Object.values(drops[node]!).length, 1);
  }
});

for (const [name, type] of [
  ["redirect", 5],
  ["source quench", 4],
] as const) {
  test(`a ${name} is dropped`, async (t) => {
    const fake = await ready();
    const there = send(fake, 0, { source: CLIENT_A, destination: TASK_B }).packets[1]![0]!;
    const error = icmpError({ source: TASK_B, type, code: 1, about: there, quoted: 8 });
    const { drops } = exchange(fake, () => fake.nodes[1]!.device.inject(error));
    t.deepEqual(drops, [{}, { "icmp-unrelated": 1 }]);
  });
}

test("an error with a wrong checksum is dropped, not mended", async (t) => {
  const fake = await ready();
  const there = send(fake, 0, { source: CLIENT_A, destination: TASK_B }).packets[1]![0]!;
  const error = icmpError({ source: TASK_B, type: 3, code: 1, about: there, quoted: 8 });
  error[40]! ^= 1;
  const { drops } = exchange(fake, () => fake.nodes[1]!.device.inject(error));
  t.deepEqual(drops, [{}, { "bad-transport-checksum": 1 }]);
});

// What the agent says itself.

interface Told {
  name: string;
  from: 0 | 1;
  packet: Fields;
  icmp: string;
  source: string;
}

const TOLD: Told[] = [
  {
    name: "no such address: host unreachable, from the gateway",
    from: 0,
    packet: { source: CLIENT_A, destination: "10.192.32.99", payload: new Uint8Array(1000) },
    icmp: "3/1",
    source: "10.192.32.1",
  },
  {
    name: "a VIP without tasks: port unreachable",
    from: 0,
    packet: { source: CLIENT_A, destination: "10.192.32.3", protocol: "udp" },
    icmp: "3/3",
    source: "10.192.32.1",
  },
  {
    name: "another network: prohibited",
    from: 1,
    packet: { source: TASK_B, destination: "10.192.48.20" },
    icmp: "3/13",
    source: "10.192.32.1",
  },
  {
    name: "a UDP port that a mesh VIP does not publish: port unreachable, from the address that was asked",
    from: 0,
    packet: { source: OUTSIDE, destination: MESH_VIP, destinationPort: 5, protocol: "udp" },
    icmp: "3/3",
    source: MESH_VIP,
  },
  {
    name: "a packet that has no hop left, for a container here: time exceeded",
    from: 0,
    packet: { source: CLIENT_A, destination: TASK_A, ttl: 1 },
    icmp: "11/0",
    source: "10.192.32.1",
  },
];
for (const { name, from, packet, icmp, source } of TOLD) {
  test(`${name}`, async (t) => {
    const fake = await cluster();
    const sent = ipPacket(packet);
    const { out, packets } = exchange(fake, () => fake.nodes[from]!.device.inject(sent));
    t.is(out[from]!.length, 1);
    t.deepEqual(out[1 - from], []);
    const [told] = out[from]!;
    t.is(told!.icmp, icmp);
    t.is(told!.source, source);
    t.is(told!.destination, packet.source);
    t.is(told!.transportChecksum, "right");
    t.true(told!.headerChecksumIsRight);
    const bytes = packets[from]![0]!;
    t.is(bytes.length, Math.min(576, 28 + sent.length));
    t.deepEqual(quotedOf(bytes), sent.slice(0, quotedOf(bytes).length));
  });
}

test("traceroute through the mesh: the task's node tells of a hop, and the client hears of its own packet", async (t) => {
  const fake = await cluster();
  const sent = ipPacket({
    source: OUTSIDE,
    destination: MESH_VIP,
    destinationPort: 9200,
    ttl: 1,
  });
  const { out, packets, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(sent));
  t.deepEqual(drops, [{}, { "ttl-expired": 1 }]);
  t.deepEqual(out[1], []);
  t.is(out[0]![0]!.icmp, "11/0");
  t.is(out[0]![0]!.source, "10.192.0.3");
  t.deepEqual(quotedOf(packets[0]![0]!), sent);
});

const SILENT: [name: string, packet: Fields | Uint8Array][] = [
  [
    "an ICMP error",
    icmpError({
      source: CLIENT_A,
      type: 3,
      code: 1,
      about: ipPacket({ source: "10.192.32.99", destination: CLIENT_A }),
      quoted: 8,
    }),
  ],
  ["a later fragment", { source: CLIENT_A, destination: "10.192.32.99", protocol: "udp", fragment: 0x2010 }],
  ["a broadcast", { source: CLIENT_A, destination: "10.192.47.255", protocol: "udp" }],
  ["a multicast", { source: CLIENT_A, destination: "224.0.0.251", protocol: "udp" }],
  ["a packet from nowhere", { source: "0.0.0.0", destination: MESH_VIP, protocol: "udp", destinationPort: 5 }],
  [
    "a packet from everybody",
    { source: "255.255.255.255", destination: MESH_VIP, protocol: "udp", destinationPort: 5 },
  ],
  ["a reset to a closed port", { source: OUTSIDE, destination: MESH_VIP, destinationPort: 5, flags: RST }],
];
for (const [name, packet] of SILENT) {
  test(`nothing is said about ${name}`, async (t) => {
    const fake = await cluster();
    const bytes = packet instanceof Uint8Array ? packet : ipPacket(packet);
    const { out, drops } = exchange(fake, () => fake.nodes[0]!.device.inject(bytes));
    t.deepEqual(out, [[], []]);
    t.is(Object.values(drops[0]!).length, 1);
  });
}

test("a flood of refusals is limited, and what was held back is counted", async (t) => {
  const fake = await cluster();
  const ask = (i: number) =>
    send(fake, 0, { source: CLIENT_A, destination: "10.192.32.99", sourcePort: i }).out[0]!.length;
  let told = 0;
  for (let i = 0; i < 300; i++) told += ask(i);
  t.is(told, 200);
  t.like(fake.nodes[0]!.engine.report().ownPackets, { icmpErrorsSent: 200, refusalsLimited: 100, tooBigLimited: 0 });
  await fake.advance(1000);
  t.is(ask(1), 1);
});

test("one of four workers has a quarter of the limits of refusals: a flow for each port of a sender may be in each", async (t) => {
  const fake = await cluster({ workers: 4 });
  const ask = (source: string, i: number) =>
    send(fake, 0, { source, destination: "10.192.32.99", sourcePort: i }).out[0]!.length;
  let told = 0;
  for (let i = 0; i < 100; i++) told += ask(CLIENT_A, i);
  t.is(told, 50);
  const outside = (i: number) =>
    send(fake, 0, { source: `203.0.113.${i % 250}`, destination: MESH_VIP, protocol: "udp", destinationPort: 5 })
      .out[0]!;
  told = 0;
  for (let i = 0; i < 500; i++) told += outside(i).length;
  t.is(told, 250);
});

test("a container's flood of refusals silences neither another container's nor its own of packets that are too big", async (t) => {
  const fake = await cluster();
  for (let i = 0; i < 1500; i++) send(fake, 0, { source: CLIENT_A, destination: "10.192.32.99", sourcePort: i });
  t.is(send(fake, 0, { source: TASK_A, destination: "10.192.32.99" }).out[0]!.length, 1);
  const large = { destination: TASK_B, flags: ACK, payload: new Uint8Array(2000) };
  for (const source of [CLIENT_A, TASK_A]) {
    t.deepEqual(
      send(fake, 0, { source, ...large }).out[0]!.map(({ icmp }) => icmp),
      ["3/4"],
      source,
    );
  }
});

test("clients outside with made-up addresses are told of 1000 refusals a second, and containers still", async (t) => {
  const fake = await cluster();
  let told = 0;
  for (let i = 0; i < 1500; i++) {
    const source = `198.51.${i >> 8}.${i & 255}`;
    told += send(fake, 0, { source, destination: MESH_VIP, destinationPort: 9999 }).out[0]!.length;
  }
  t.is(told, 1000);
  t.is(send(fake, 0, { source: CLIENT_A, destination: "10.192.32.99" }).out[0]!.length, 1);
});

for (const [name, flags, expected] of [
  ["a SYN", SYN, { flags: RST | ACK, sequence: 0, acknowledgment: 1001 }],
  ["a segment in mid-stream", ACK, { flags: RST, sequence: 777, acknowledgment: 0 }],
] as const) {
  test(`${name} to a port that a mesh VIP does not publish is answered with a reset that its sender takes`, async (t) => {
    const fake = await cluster();
    const packet = { source: OUTSIDE, destination: MESH_VIP, destinationPort: 5, acknowledgment: 777, flags };
    const { out } = send(fake, 0, packet);
    t.is(out[0]!.length, 1);
    const [reset] = out[0]!;
    t.is(brief(reset!), `${MESH_VIP}:5 > ${OUTSIDE}:40000`);
    t.like(reset, expected);
    t.regex(reset!.transportChecksum, /right|partial/);
    t.is(describe(ipPacket(packet)).sourcePort, reset!.destinationPort);
  });
}
