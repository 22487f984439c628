// The device and the wire that tests stand on: that they refuse what a kernel refuses, and lose what they are told to.
import test from "ava";
import { DeviceBatch, DeviceQueue, UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Gso } from "../../src/packet/virtio-net.ts";
import { brokenMessages } from "../fakes/broken-messages.ts";
import { type Datagram, InProcessDevice, InProcessNetwork } from "../fakes/in-process.ts";
import { tcpPacket, udpPacket } from "../fakes/ip-packets.ts";

const ALICE = ipv4("192.0.2.11");
const BOB = ipv4("192.0.2.12");
const PORT = 4789;

function createDevice() {
  const memory = new PacketMemory(1 << 20);
  const device = new InProcessDevice(memory);
  const queue = new DeviceQueue(4, 16);
  const slice = (bytes: Uint8Array) => {
    const at = memory.alloc(bytes.length + 1);
    memory.u8.set(bytes, at);
    queue.slice(at, bytes.length);
  };
  return { memory, device, queue, slice };
}

for (const { title, packet, finish } of brokenMessages) {
  test(`the device throws on ${title}`, (t) => {
    const { device, queue, slice } = createDevice();
    slice(packet);
    finish(queue);
    t.throws(() => device.write(queue), { message: /^message 0 is broken: / });
  });
}

test("what is written is collected once, whole, with what it carries", (t) => {
  const { device, queue, slice } = createDevice();
  const packet = tcpPacket({ payload: new Uint8Array(3000), partial: true });
  slice(packet.subarray(0, 40));
  slice(packet.subarray(40));
  queue.finishPartial(Gso.Tcp4, 1000, 40, 20, 16);
  slice(udpPacket());
  queue.finish();
  t.is(device.write(queue), 0);
  t.is(queue.messages, 0);
  t.deepEqual(device.takeWritten(), [
    { bytes: packet, gso: Gso.Tcp4, gsoBytes: 1000, needsChecksum: true },
    { bytes: udpPacket(), gso: Gso.None, gsoBytes: 0, needsChecksum: false },
  ]);
  t.deepEqual(device.takeWritten(), []);
});

test("injected packets are read in order, and a reader is told", (t) => {
  const { memory, device } = createDevice();
  const batch = new DeviceBatch(memory, 2);
  let told = 0;
  device.onReadable = () => told++;
  device.inject(udpPacket());
  device.inject(tcpPacket({ payload: new Uint8Array(3000), partial: true }), { gso: Gso.Tcp4, gsoBytes: 1000 });
  device.inject(udpPacket({ payload: Uint8Array.of(1) }));
  t.is(told, 3);
  t.is(device.read(batch), 2);
  t.deepEqual([...batch.length], [28, 3040]);
  t.deepEqual([...batch.gso], [Gso.None, Gso.Tcp4]);
  t.deepEqual([...batch.gsoBytes], [0, 1000]);
  t.deepEqual([...batch.needsChecksum], [0, 1]);
  t.is(device.read(batch), 1);
  t.is(device.read(batch), 0);
});

test("the device drops and counts what is injected beyond its queue", (t) => {
  const { device } = createDevice();
  for (let i = 0; i < 1030; i++) device.inject(udpPacket());
  t.is(device.drops, 6);
});

function createWire(options: ConstructorParameters<typeof InProcessNetwork>[0] = {}, join = false) {
  const memory = new PacketMemory(1 << 20);
  const network = new InProcessNetwork(options);
  const alice = network.attach(memory, { address: ALICE, port: PORT });
  const bob = network.attach(memory, { address: BOB, port: PORT, join });
  const queue = new UnderlayQueue(16, 16);
  const at = memory.alloc(65536);
  const send = (bytes: number, { segmentBytes = 0, sourcePort = 0, tos = 0 } = {}) => {
    queue.slice(at, bytes);
    queue.finish(BOB, PORT, sourcePort, segmentBytes, tos);
    return alice.send(queue);
  };
  const batch = new UnderlayBatch(memory, 8);
  const receive = () => {
    bob.receive(batch);
    return Array.from({ length: batch.count }, (_, i) => [batch.length[i], batch.segmentBytes[i]]);
  };
  return { memory, network, alice, bob, send, receive };
}

test("a filter loses, doubles and reorders datagrams", (t) => {
  const held: Datagram[] = [];
  const { send, receive } = createWire({
    filter(datagram) {
      if (datagram.payload.length === 1) return [];
      if (datagram.payload.length === 2) return [datagram, datagram];
      if (datagram.payload.length === 3) {
        held.push(datagram);
        return [];
      }
      return [datagram, ...held.splice(0)];
    },
  });
  for (const bytes of [1, 2, 3, 4]) send(bytes);
  t.deepEqual(receive(), [
    [2, 2],
    [2, 2],
    [4, 4],
    [3, 3],
  ]);
});

test("what is larger than the wire's MTU is refused, segment by segment", (t) => {
  const { alice, send, receive } = createWire({ mtu: 1028 });
  t.is(send(1000), 0);
  t.is(send(1001), 1);
  t.is(send(2000, { segmentBytes: 1000 }), 0);
  t.is(send(2000, { segmentBytes: 1001 }), 2);
  t.is(alice.oversize, 2);
  t.is(receive().length, 3);
});

test("equal datagrams of one sender are joined, up to a shorter one", (t) => {
  const { send, receive } = createWire({}, true);
  send(250, { segmentBytes: 100 });
  send(100);
  send(100, { sourcePort: 1 });
  send(100, { sourcePort: 1, tos: 1 });
  send(120, { sourcePort: 1, tos: 1 });
  t.deepEqual(receive(), [
    [250, 100],
    [100, 100],
    [100, 100],
    [100, 100],
    [120, 120],
  ]);
});

test("a message of more segments than offered is the sender's fault", (t) => {
  const { send } = createWire();
  t.throws(() => send(1290, { segmentBytes: 10 }), { message: /segments/ });
});

test("an address that left the wire is not reached, and can be attached again", (t) => {
  const { memory, network, bob, send, receive } = createWire();
  t.throws(() => network.attach(memory, { address: BOB, port: PORT }), { message: /192\.0\.2\.12:4789 is attached/ });
  bob.close();
  send(1);
  t.deepEqual(receive(), []);
  network.attach(memory, { address: BOB, port: PORT });
});
