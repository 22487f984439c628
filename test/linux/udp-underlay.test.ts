// What only Linux's underlay does: its ports, its errors, and that it makes no garbage.
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import test from "ava";
import { UnderlayQueue } from "../../src/datapath/batch.ts";
import { openDgramUnderlay } from "../../src/datapath/dgram-underlay.ts";
import { SOURCE_PORTS } from "../../src/datapath/ports.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { seededRandom } from "../fakes/seeded-random.ts";
import { run } from "../system/command.ts";

const LOOPBACK = ipv4("127.0.0.1");
/** Of documentation, RFC 5737: no machine has it. */
const NOT_OURS = ipv4("192.0.2.250");

const openers = {
  "the Linux underlay": async (address: number, port: number) =>
    openUdpUnderlay(new PacketMemory(2 << 20), { address, port }),
  "the dgram underlay": (address: number, port: number) =>
    openDgramUnderlay(new PacketMemory(2 << 20), { address, port }),
};

for (const [name, open] of Object.entries(openers)) {
  test(`${name} says which port is taken, and how to see by whom`, async (t) => {
    const socket = createSocket("udp4");
    socket.bind({ address: "127.0.0.1", port: 0, exclusive: true });
    await once(socket, "listening");
    const { port } = socket.address();
    await t.throwsAsync(open(LOOPBACK, port), {
      name: "PlatformError",
      message: new RegExp(`UDP port ${port} of 127\\.0\\.0\\.1 is taken.*ss -lunp 'sport = :${port}'`),
    });
    socket.close();
  });

  test(`${name} says that an address is not the node's`, async (t) => {
    await t.throwsAsync(open(NOT_OURS, 0), {
      name: "PlatformError",
      message: /192\.0\.2\.250 is not an address of this node/,
    });
  });
}

test("two of our sockets share a port, for two workers", (t) => {
  const memory = new PacketMemory(4 << 20);
  const first = openUdpUnderlay(memory, { address: LOOPBACK, port: 0 });
  const second = openUdpUnderlay(memory, { address: LOOPBACK, port: first.port });
  t.is(second.port, first.port);
  first.close();
  second.close();
});

test("the source ports are in the dynamic range, and others where chance leads to one that is taken", (t) => {
  const seed = 7;
  t.log(`seed ${seed}`);
  const memory = new PacketMemory(4 << 20);
  const open = () => openUdpUnderlay(memory, { address: LOOPBACK, port: 0, random: seededRandom(seed) });
  const first = open();
  const second = open();
  const ports = [...first.sourcePorts, ...second.sourcePorts];
  t.is(first.sourcePorts.length, SOURCE_PORTS);
  t.is(new Set(ports).size, 2 * SOURCE_PORTS);
  t.true(ports.every((port) => port >= 49152 && port <= 65535));
  first.close();
  second.close();
});

test("segmentation is found to work on the loopback device", (t) => {
  const underlay = openUdpUnderlay(new PacketMemory(2 << 20), { address: LOOPBACK, port: 0 });
  t.true(underlay.offloads.maxSegments >= 64);
  underlay.close();
});

test("messages that the kernel or we refuse are counted, each by its reason, and the rest go out", (t) => {
  const memory = new PacketMemory(4 << 20);
  const underlay = openUdpUnderlay(memory, { address: LOOPBACK, port: 0 });
  const queue = new UnderlayQueue(8, 2048);
  const at = memory.alloc(70_000);
  const message = (bytes: number, port: number, segmentBytes = 0) => {
    queue.slice(at, bytes);
    queue.finish(LOOPBACK, port, 5, segmentBytes, 0);
  };
  message(100, underlay.port);
  message(65_508, underlay.port); // larger than a datagram
  message(100, 0); // no such port
  message(1290, underlay.port, 10); // 129 segments
  for (let i = 0; i < 1025; i++) queue.slice(at, 1);
  queue.finish(LOOPBACK, underlay.port, 5, 0, 0);
  message(100, underlay.port);
  t.is(underlay.send(queue), 1 + 1 + 129 + 1, "datagrams, each of a message's");
  t.is(underlay.sent, 2);
  t.is(underlay.oversize, 1);
  t.is(underlay.sendErrors[22], 1);
  t.is(underlay.malformed, 2);
  underlay.close();
});

test("a port of the kernel's choice is no other underlay's", async (t) => {
  const program = fileURLToPath(new URL("chosen-ports.js", import.meta.url));
  // In a network of its own that has 32 such ports.
  const narrow = "ip link set lo up && echo 40000 40031 > /proc/sys/net/ipv4/ip_local_port_range";
  const output = await run([
    "unshare",
    "--net",
    "sh",
    "-c",
    `${narrow} && exec "$0" "$@"`,
    process.execPath,
    program,
    "16",
  ]);
  const ports = output.trim().split("\n");
  t.is(ports.length, 16);
  t.is(new Set(ports).size, 16, output);
});

test("what the kernel dropped because nobody read is counted", async (t) => {
  const program = fileURLToPath(new URL("underlay-overflow.js", import.meta.url));
  t.true(Number(await run([process.execPath, program])) > 0);
});

test("a hundred thousand datagrams sent and received make no garbage", async (t) => {
  const program = fileURLToPath(new URL("underlay-garbage.js", import.meta.url));
  const output = await run([process.execPath, "--expose-gc", "--min-semi-space-size=64", program]);
  const bytesPerDatagram = Number(output);
  t.log(`${bytesPerDatagram.toFixed(2)} bytes a datagram`);
  t.true(bytesPerDatagram < 4);
});
