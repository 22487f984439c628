// What a TUN and its neighbours must do, each run by devices.test.ts in a process, a mount namespace and an empty
// network namespace of its own: `unshare --net --mount node device-scenarios.js TITLE`.
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readdirSync, rmdirSync, statSync, truncateSync, writeFileSync, writevSync } from "node:fs";
import { constants, release } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { DeviceBatch, DeviceQueue, UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import { ENGINE_MEMORY_BYTES, Engine, Side } from "../../src/datapath/engine.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { createLog } from "../../src/lib/log.ts";
import { deviceOverruns } from "../../src/links/overruns.ts";
import { DatagramList } from "../../src/linux/datagram-list.ts";
import { LANES } from "../../src/linux/lanes.ts";
import * as libc from "../../src/linux/libc.ts";
import { type LinkSender, openLinkSender } from "../../src/linux/link-sender.ts";
import { lockDevice } from "../../src/linux/lock.ts";
import { Poller } from "../../src/linux/poll.ts";
import { openSharedFile } from "../../src/linux/shared-file.ts";
import { type LinuxDevice, Offload, openTun, type TunOptions } from "../../src/linux/tun.ts";
import { bindUdp, openUdpSocket, probeMaxSegments } from "../../src/linux/udp-socket.ts";
import { openUdpUnderlay } from "../../src/linux/udp-underlay.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { Gso, VIRTIO_NET_BYTES } from "../../src/packet/virtio-net.ts";
import { unaccounted } from "../fakes/balance.ts";
import { brokenMessages } from "../fakes/broken-messages.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { ACK, onesSum, tcpPacket, udpPacket } from "../fakes/ip-packets.ts";
import { laneOf } from "../fakes/lanes.ts";
import { rowsFor } from "../fakes/nodes.ts";
import { rowsOf } from "../fakes/rows-of.ts";
import { temporaryDirectory } from "../temporary.ts";
import { DEADLINE_MS, IN_VAIN_MS } from "./command.ts";

const self = fileURLToPath(import.meta.url);
const memory = new PacketMemory(4 << 20);
const batch = new DeviceBatch(memory, 16);
const queue = new DeviceQueue(16, 64);
const HOST = "10.9.0.1";
const OTHER = "10.9.0.2";
const CWR = 0x80;
/** USO came to TUNs with Linux 6.2. */
const [major, minor] = release().split(".").map(Number);
const hasUso = major! > 6 || (major === 6 && minor! >= 2);

function ip(...args: string[]): string {
  return execFileSync("ip", args, { encoding: "utf8" });
}

function setSysctl(name: string, value = 1): void {
  writeFileSync(`/proc/sys/net/${name}`, String(value));
}

/** An open TUN that is up, with an address of its own and no IPv6 chatter. */
function openUp(name = "tun0", address = `${HOST}/24`, options: TunOptions = {}): LinuxDevice {
  const device = openTun(name, memory, options);
  setSysctl(`ipv6/conf/${name}/disable_ipv6`);
  ip("address", "add", address, "dev", name);
  ip("link", "set", name, "up");
  return device;
}

const LINK_MAC = "02:42:0a:09:00:01";

/** Waits until the kernel has taken note of a link's carrier: until then it drops what is sent by it, without a word. */
function untilUp(name: string): void {
  const end = performance.now() + DEADLINE_MS;
  while (!/ state UP /.test(ip("-o", "link", "show", "dev", name))) {
    assert.ok(performance.now() < end, `${name} does not come up`);
  }
}

/** A veth pair: packets for HOST are put onto the one end, and the host has HOST on the other. */
function makeLink(): void {
  ip("link", "add", "veth0", "type", "veth", "peer", "name", "veth1", "address", LINK_MAC);
  for (const name of ["veth0", "veth1"]) {
    setSysctl(`ipv6/conf/${name}/disable_ipv6`);
    ip("link", "set", name, "up");
  }
  for (const name of ["veth0", "veth1"]) untilUp(name);
  ip("address", "add", `${HOST}/32`, "dev", "veth1");
}

interface LinkedDevice {
  device: LinuxDevice;
  links: LinkSender;
  /** Of the clock that the links are looked up by. */
  seconds: number;
}

/** A TUN that is down, so that it takes nothing, with a link for HOST. */
function openLinked(mac = LINK_MAC): LinkedDevice {
  const links = openLinkSender(memory, {
    isOurs: (address) => address === ipv4(HOST),
    name: () => "veth0",
    mac: () => mac,
    source: "02:42:00:00:00:01",
    now: () => linked.seconds,
  });
  const linked: LinkedDevice = { device: openTun("tun0", memory, { links }), links, seconds: 0 };
  return linked;
}

/** One datagram of so many bytes through the device; returns how many were refused. */
function writeDatagram(device: LinuxDevice, destinationPort: number, bytes = 5, destination = HOST): number {
  slice(udpPacket({ destination, destinationPort, payload: Buffer.alloc(bytes, "x") }));
  queue.finish();
  return device.write(queue);
}

/** Waits for one packet to read, and returns its bytes. */
function readOne(device: LinuxDevice): Uint8Array {
  const poller = new Poller(memory, device.fds);
  while (device.read(batch) === 0) assert.notEqual(poller.wait(DEADLINE_MS), 0, "nothing to read");
  poller.close();
  return memory.u8.slice(batch.offset[0]!, batch.offset[0]! + batch.length[0]!);
}

/** Writes packet bytes into memory, cut into slices, as the next message's. */
function slice(packet: Uint8Array, ...cuts: number[]): void {
  const at = memory.alloc(packet.length + 1);
  memory.u8.set(packet, at);
  [0, ...cuts].forEach((from, i) => {
    queue.slice(at + from, (cuts[i] ?? packet.length) - from);
  });
}

/** A UDP socket of the host, without Node's event loop. */
class HostSocket {
  readonly port: number;
  readonly #fd = openUdpSocket();
  readonly #poller = new Poller(memory, [this.#fd]);
  readonly #list = new DatagramList(memory, 1, 1);
  readonly #buffer = memory.alloc(65536);

  constructor(address = HOST) {
    this.port = bindUdp(this.#fd, ipv4(address), 0);
  }

  send(payload: Uint8Array, to: string, port: number, segmentBytes = 0): void {
    memory.u8.set(payload, this.#buffer);
    this.#list.clear();
    this.#list.slice(this.#buffer, payload.length);
    this.#list.finishTo(ipv4(to), port, segmentBytes, 0);
    assert.equal(this.#list.send(this.#fd, 0, 1), 1);
  }

  receive(): Uint8Array {
    assert.notEqual(this.#poller.wait(DEADLINE_MS), 0, "no datagram arrived");
    const bytes = libc.read(this.#fd, libc.pointerTo(memory, this.#buffer), 65536);
    return memory.u8.slice(this.#buffer, this.#buffer + bytes);
  }
}

/** Two datagrams in slices, one with its checksum still to be made: the host gets both. */
function writeSliced(device: LinuxDevice): void {
  const host = new HostSocket();
  const fields = { destinationPort: host.port, payload: Buffer.from("hello there") };
  slice(udpPacket(fields), 20, 28, 33);
  queue.finish();
  slice(udpPacket({ ...fields, partial: true }), 28);
  queue.finishPartial(Gso.None, 0, 0, 20, 6);
  assert.equal(device.write(queue), 0);
  for (let i = 0; i < 2; i++) assert.equal(Buffer.from(host.receive()).toString(), "hello there");
}

/** A UDP super-packet: the host gets its segments. */
function writeSuperPacket(device: LinuxDevice): void {
  const host = new HostSocket();
  slice(udpPacket({ destinationPort: host.port, payload: Buffer.alloc(2500, "x"), partial: true }), 28, 1028);
  queue.finishPartial(Gso.Udp4, 1000, 28, 20, 6);
  assert.equal(device.write(queue), hasUso ? 0 : 1);
  if (!hasUso) return;
  assert.deepEqual(
    [1, 2, 3].map(() => host.receive().length),
    [1000, 1000, 500],
  );
}

/** Another process tries to open a queue; returns what it says. */
function openElsewhere(name: string): string {
  const { stdout, stderr } = spawnSync(process.execPath, [self, "--open", name], { encoding: "utf8" });
  return stdout + stderr;
}

export const scenarios: Record<string, () => void | Promise<void>> = {
  "a TUN opens with every offload that this kernel has"() {
    const { checksum, tcp, udp } = openTun("tun0", memory).offloads;
    assert.deepEqual([checksum, tcp], [true, true]);
    assert.equal(udp, hasUso);
  },

  "a kernel that refuses an offload is asked for less"() {
    const unknown = 0x8000;
    const device = openTun("tun0", memory, { offloadSteps: [unknown, unknown | Offload.Tso4, Offload.Checksum, 0] });
    assert.deepEqual(device.offloads, { checksum: true, tcp: false, udp: false });
  },

  "USO with only one of its two bits is refused, so both are asked for"() {
    const device = openTun("tun0", memory, { offloadSteps: [Offload.Checksum | Offload.Uso4, Offload.Checksum] });
    assert.deepEqual(device.offloads, { checksum: true, tcp: false, udp: false });
  },

  "a TUN outlives its process's queue, with its address, and can be opened again"() {
    openUp().close();
    assert.match(ip("address", "show", "dev", "tun0"), /10\.9\.0\.1\/24/);
    const device = openTun("tun0", memory);
    untilUp("tun0");
    new HostSocket().send(Buffer.from("hello"), OTHER, 2000);
    assert.equal(readOne(device).length, 33);
  },

  "a TUN that iproute2 made beforehand is taken over"() {
    ip("tuntap", "add", "dev", "tun0", "mode", "tun", "multi_queue");
    openTun("tun0", memory);
    assert.match(ip("-details", "link", "show", "dev", "tun0"), /user root group root/);
  },

  "a TUN made for a single queue is refused, and says which"() {
    ip("tuntap", "add", "dev", "tun0", "mode", "tun");
    assert.throws(() => openTun("tun0", memory), { name: "PlatformError", message: /tun0 cannot be opened.*EINVAL/ });
    openTun("tun1", memory);
  },

  "a second process is refused, and told who serves the device"() {
    const device = openTun("tun0", memory);
    assert.match(openElsewhere("tun0"), new RegExp(`process ${process.pid}, serves tun0`));
    assert.match(openElsewhere("tun1"), /^opened/);
    device.close();
    assert.match(openElsewhere("tun0"), /^opened/);
  },

  "agents that see other files, as in two containers on the host's network, exclude each other"() {
    openTun("tun0", memory);
    const apart = ["--mount", "sh", "-c", `mount -t tmpfs none /run; exec ${process.execPath} ${self} --open tun0`];
    const { stdout, stderr } = spawnSync("unshare", apart, { encoding: "utf8" });
    assert.match(stdout + stderr, new RegExp(`process ${process.pid}, serves tun0`));
  },

  async "another user who has the lock's name, listens or not, keeps no agent from the device, nor lets two have it"() {
    for (const how of ["listening", "bound", "full"]) {
      const squatter = spawn(process.execPath, [self, "--squat", "tun0", how], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(squatter.stdout, "data");
      const device = openTun("tun0", memory);
      assert.match(openElsewhere("tun0"), new RegExp(`process ${process.pid}, serves tun0`));
      device.close();
      squatter.kill("SIGKILL");
      await once(squatter, "exit");
    }
  },

  async "however many agents were refused, the next is refused"() {
    openTun("tun0", memory);
    const name = Buffer.from("\x01\0\0overlayd:tun0", "latin1");
    for (let i = 0; i < 400; i++) {
      const asker = libc.socket(1, 0x801, 0);
      libc.connect(asker, name, name.length);
      libc.close(asker);
      if (i % 100 === 99) await delay(600);
    }
    assert.match(openElsewhere("tun0"), new RegExp(`process ${process.pid}, serves tun0`));
  },

  "the lock is of this network namespace: elsewhere the same name is free"() {
    openTun("tun0", memory);
    const { stdout } = spawnSync("unshare", ["--net", process.execPath, self, "--open", "tun0"], { encoding: "utf8" });
    assert.match(stdout, /^opened/);
  },

  "a refusal leaves no lock behind"() {
    ip("tuntap", "add", "dev", "tun0", "mode", "tun");
    assert.throws(() => openTun("tun0", memory));
    lockDevice("tun0").release();
  },

  "a process that holds the lock opens more queues"() {
    openUp();
    const second = openTun("tun0", memory, { locked: true });
    second.close();
  },

  "a packet that the host sends is read, its checksum still to be made"() {
    const device = openUp();
    const host = new HostSocket();
    host.send(Buffer.from("hello"), OTHER, 2000);
    const packet = readOne(device);
    assert.equal(Buffer.from(packet.subarray(28)).toString(), "hello");
    assert.equal(batch.needsChecksum[0], 1);
    assert.equal(batch.gso[0], Gso.None);
    const expected = udpPacket({
      source: HOST,
      destination: OTHER,
      sourcePort: host.port,
      payload: packet.slice(28),
      partial: true,
    });
    assert.deepEqual(packet.subarray(20), expected.subarray(20));
  },

  "without offloads the packet's checksum is complete"() {
    const device = openUp("tun0", `${HOST}/24`, { offloadSteps: [0] });
    new HostSocket().send(Buffer.from("hello"), OTHER, 2000);
    const packet = readOne(device);
    assert.equal(batch.needsChecksum[0], 0);
    assert.equal(onesSum(packet.subarray(12), 17 + packet.length - 20), 0xffff);
  },

  "a UDP super-packet is read whole, with the size of its segments"() {
    const device = openUp();
    const payload = Buffer.alloc(3000, "x");
    new HostSocket().send(payload, OTHER, 2000, 1200);
    const packet = readOne(device);
    if (!hasUso) {
      assert.deepEqual([packet.length, batch.gso[0]], [1228, Gso.None]);
      return;
    }
    assert.equal(packet.length, 3028);
    assert.deepEqual([batch.gso[0], batch.gsoBytes[0], batch.needsChecksum[0]], [Gso.Udp4, 1200, 1]);
  },

  "packets are written, in slices, with the checksum complete or still to be made"() {
    const device = openUp();
    writeSliced(device);
    assert.equal(queue.messages, 0);
  },

  "a UDP super-packet that is written arrives as its segments"() {
    writeSuperPacket(openUp());
  },

  "a TCP super-packet with CWR keeps its size through the host, and its ECN bit is no GSO type"() {
    const device = openUp();
    const onward = openUp("tun1", "10.8.0.1/24");
    setSysctl("ipv4/ip_forward");
    slice(tcpPacket({ destination: "10.8.0.2", payload: new Uint8Array(3000), partial: true, flags: ACK | CWR }), 40);
    queue.finishPartial(Gso.Tcp4, 1000, 40, 20, 16);
    assert.equal(device.write(queue), 0);
    const packet = readOne(onward);
    assert.equal(packet.length, 3040);
    assert.equal(packet[33], 0x90);
    assert.deepEqual([batch.gso[0], batch.gsoBytes[0], batch.needsChecksum[0]], [Gso.Tcp4, 1000, 1]);
    assert.equal(onward.unreadable, 0);
  },

  "the checksum inside a tunnel that the host makes is completed"() {
    const device = openUp();
    ip(
      "link",
      "add",
      "vx0",
      "address",
      "02:00:00:00:00:01",
      "type",
      "vxlan",
      "id",
      "5",
      "remote",
      OTHER,
      "dstport",
      "4790",
    );
    setSysctl("ipv6/conf/vx0/disable_ipv6");
    ip("address", "add", "10.7.0.1/24", "dev", "vx0");
    ip("link", "set", "vx0", "up");
    ip("neighbour", "add", "10.7.0.2", "lladdr", "02:00:00:00:00:02", "dev", "vx0");
    new HostSocket("10.7.0.1").send(Buffer.from("inside"), "10.7.0.2", 2000);
    const packet = readOne(device);
    assert.equal(batch.needsChecksum[0], 0);
    const inner = packet.subarray(20 + 8 + 8 + 14);
    assert.equal(onesSum(inner.subarray(12), 17 + inner.length - 20), 0xffff);
  },

  "broken messages are refused and counted, and the others of the batch go out"() {
    const device = openUp();
    const host = new HostSocket();
    for (const { title, packet, finish } of brokenMessages) {
      slice(packet);
      finish(queue);
      slice(udpPacket({ destinationPort: host.port, payload: Buffer.from(title) }));
      queue.finish();
      assert.equal(device.write(queue), 1, title);
      assert.equal(Buffer.from(host.receive()).toString(), title);
    }
    assert.equal(device.faults, brokenMessages.length);
    assert.equal(
      device.writeErrors.reduce((sum, count) => sum + count),
      0,
    );
  },

  "the kernel itself would take some broken messages"() {
    const device = openUp();
    const taken = brokenMessages.filter(({ packet, finish }) => {
      slice(packet);
      finish(queue);
      const took = kernelTakes(device.fds[0]!, packet);
      queue.clear();
      return took;
    });
    assert.equal(taken.length > 0 && taken.length < brokenMessages.length, true);
  },

  "what passes our check, the kernel takes"() {
    const device = openUp();
    let passed = 0;
    const near = (value: number) => fc.oneof({ weight: 6, arbitrary: fc.constant(value) }, fc.nat(65535));
    const flag = fc.oneof({ weight: 6, arbitrary: fc.constant(1) }, fc.constant(0));
    const property = fc.property(
      fc.boolean(),
      fc.nat(3000),
      fc.record({
        gso: fc.constantFrom(Gso.None, Gso.Tcp4, ...(hasUso ? [Gso.Udp4] : [])),
        gsoBytes: fc.oneof(fc.integer({ min: 48, max: 65535 }), fc.constantFrom(0, 1, 7)),
        needsChecksum: flag,
      }),
      fc.record({ header: near(0), start: near(20), offset: near(0) }),
      fc.array(fc.tuple(fc.nat(39), fc.nat(255)), { maxLength: 1 }),
      (tcp, payloadBytes, { gso, gsoBytes, needsChecksum }, places, changes) => {
        const fields = { payload: new Uint8Array(payloadBytes), partial: true };
        const packet = tcp ? tcpPacket(fields) : udpPacket(fields);
        for (const [at, value] of changes) if (at < packet.length) packet[at] = value;
        memory.u8.set(packet, at);
        queue.slice(at, packet.length);
        const offset = places.offset || (tcp ? 16 : 6);
        queue.finishPartial(gso, gsoBytes, places.header || (tcp ? 40 : 28), places.start, offset);
        queue.needsChecksum[0] = needsChecksum;
        device.writeErrors.fill(0);
        if (device.write(queue) === 0) passed++;
        assert.deepEqual([...device.writeErrors].filter(Boolean), []);
      },
    );
    const at = memory.alloc(4096);
    fc.assert(property, { numRuns: 5000 });
    assert.ok(passed > 100 && device.faults > 100, `${passed} passed, ${device.faults} did not`);
  },

  "a message of more slices than the kernel takes is refused"() {
    const device = openUp();
    const slices = new DeviceQueue(1, 2000);
    const packet = udpPacket({ payload: new Uint8Array(1100) });
    const at = memory.alloc(packet.length);
    memory.u8.set(packet, at);
    slices.slice(at, 28);
    for (let i = 28; i < packet.length; i++) slices.slice(at + i, 1);
    slices.finish();
    assert.equal(device.write(slices), 1);
    assert.equal(device.faults, 1);
  },

  "what is written while the device is down is counted by its error"() {
    const device = openTun("tun0", memory);
    slice(udpPacket());
    queue.finish();
    assert.equal(device.write(queue), 1);
    assert.equal(device.writeErrors[constants.errno.EIO], 1);
  },

  "a device that was removed says so"() {
    const device = openUp();
    const poller = new Poller(memory, device.fds);
    ip("link", "delete", "tun0");
    assert.equal(poller.wait(DEADLINE_MS), 1);
    assert.throws(() => device.read(batch), { name: "PlatformError", message: /tun0 is gone/ });
    slice(udpPacket());
    queue.finish();
    assert.throws(() => device.write(queue), { name: "PlatformError", message: /tun0 is gone/ });
  },

  "packets for an endpoint's link go onto it, past the device, in slices and with the checksum still to be made"() {
    makeLink();
    const { device, links } = openLinked();
    writeSliced(device);
    assert.equal(links.sent, 2);
  },

  "a UDP super-packet that goes onto a link arrives as its segments"() {
    makeLink();
    writeSuperPacket(openLinked().device);
  },

  "what has no link, or is too large for it, goes through the device"() {
    makeLink();
    const { device, links } = openLinked();
    setSysctl("ipv6/conf/tun0/disable_ipv6");
    ip("address", "add", "10.8.0.1/32", "dev", "tun0");
    ip("link", "set", "tun0", "up");
    ip("link", "set", "veth0", "mtu", "1000");
    const host = new HostSocket();
    const other = new HostSocket("10.8.0.1");
    assert.equal(writeDatagram(device, other.port, 7, "10.8.0.1"), 0);
    assert.equal(other.receive().length, 7);
    assert.equal(writeDatagram(device, host.port, 1400), 0);
    assert.equal(host.receive().length, 1400);
    assert.equal(links.sent, 0);
    assert.equal(writeDatagram(device, host.port), 0);
    assert.equal(host.receive().length, 5);
    assert.equal(links.sent, 1);
  },

  "a link that is made anew is found again, and one that is missing is asked for once a second"() {
    makeLink();
    const linked = openLinked();
    const { device, links } = linked;
    assert.equal(writeDatagram(device, 2000), 0);
    ip("link", "delete", "veth0");
    assert.equal(writeDatagram(device, 2000), 1);
    assert.equal(device.writeErrors[constants.errno.EIO], 1);
    makeLink();
    const host = new HostSocket();
    assert.equal(writeDatagram(device, host.port), 0, "a link that fails is looked up at the next packet");
    assert.equal(host.receive().length, 5);
    ip("link", "delete", "veth0");
    assert.deepEqual([writeDatagram(device, host.port), writeDatagram(device, host.port)], [1, 1]);
    makeLink();
    assert.equal(writeDatagram(device, host.port), 1);
    linked.seconds = 1;
    assert.equal(writeDatagram(device, host.port), 0);
    assert.equal(links.sent, 3);
  },

  "a hundred thousand packets that go onto a link make no garbage"() {
    makeLink();
    const { device, links } = openLinked("02:42:00:00:00:99"); // of nobody
    const packets = 100_000;
    const packet = udpPacket({ payload: new Uint8Array(100) });
    const at = memory.alloc(packet.length);
    memory.u8.set(packet, at);
    const carry = () => {
      for (let left = packets; left > 0; left -= 10) {
        for (let i = 0; i < 10; i++) {
          queue.slice(at, packet.length);
          queue.finish();
        }
        device.write(queue);
      }
    };
    assert.ok(gc, "run with --expose-gc");
    carry();
    gc();
    const before = process.memoryUsage().heapUsed;
    carry();
    const bytes = (process.memoryUsage().heapUsed - before) / packets;
    assert.equal(links.sent, 2 * packets);
    assert.equal(bytes < 4, true, `${bytes} bytes a packet`);
  },

  "a read takes no more than the batch holds, and the next gives the rest"() {
    const device = openUp();
    const host = new HostSocket();
    for (let i = 0; i < batch.capacity + 1; i++) host.send(Uint8Array.of(i), OTHER, 2000);
    assert.equal(device.read(batch), batch.capacity);
    assert.equal(device.read(batch), 1);
    assert.equal(memory.u8[batch.offset[0]! + 28], batch.capacity);
    assert.equal(device.read(batch), 0);
  },

  "what one container sends fills only its own lane, whichever worker it comes to"() {
    const workers = 2;
    const first = openUp("tun0", `${HOST}/24`, { lanes: LANES, chooseFor: workers });
    assert.equal(first.unsorted, null);
    const second = openTun("tun0", memory, { lanes: LANES, locked: true });
    const addresses = Array.from({ length: 40 }, (_, i) => `10.9.0.${i + 1}`);
    for (const address of addresses.slice(1)) ip("address", "add", `${address}/24`, "dev", "tun0");
    const used = new Set<number>();
    for (const address of addresses) {
      const host = new HostSocket(address);
      const expected = laneOf(ipv4(address));
      used.add(expected);
      let ofFirst = 0;
      for (let port = 1; port <= 200; port++) host.send(Uint8Array.of(1), "10.9.0.200", port);
      for (const device of [first, second]) {
        for (const [lane] of device.fds.entries()) {
          let count = 0;
          while (device.read(batch, 1 << lane) > 0) count += batch.count;
          if (lane !== expected) assert.equal(count, 0, `${address}: ${count} packets in lane ${lane}`);
          if (lane === expected && device === first) ofFirst = count;
          if (lane === expected && device === second) assert.equal(ofFirst + count, 200);
        }
      }
      assert.ok(ofFirst > 50 && ofFirst < 150, `${address}: ${ofFirst} of 200 to the first worker`);
    }
    assert.equal(used.size, LANES);
  },

  "both directions of a flow come to one worker, and fragments by their addresses"() {
    const first = openUp("tun0", `${HOST}/24`, { lanes: LANES, chooseFor: 2 });
    const second = openTun("tun0", memory, { lanes: LANES, locked: true });
    setSysctl("ipv4/ip_forward");
    setSysctl("ipv4/conf/all/rp_filter", 0);
    setSysctl("ipv4/conf/tun0/rp_filter", 0);
    setSysctl("ipv4/conf/all/send_redirects", 0);
    setSysctl("ipv4/conf/tun0/send_redirects", 0);
    const workerOf = (fields: Parameters<typeof udpPacket>[0]): boolean => {
      slice(udpPacket({ ttl: 9, ...fields }));
      queue.finish();
      assert.equal(first.write(queue), 0); // the host sends it on through the same device
      const [byFirst, bySecond] = [first.read(batch), second.read(batch)];
      assert.equal(byFirst + bySecond, 1);
      return byFirst === 1;
    };
    const [one, other] = ["10.9.0.77", "10.9.0.99"];
    const ofFirst: boolean[] = [];
    for (let port = 1; port <= 40; port++) {
      const there = workerOf({ source: one, destination: other, sourcePort: port, destinationPort: 80 });
      const back = workerOf({ source: other, destination: one, sourcePort: 80, destinationPort: port });
      assert.equal(there, back);
      ofFirst.push(there);
    }
    assert.ok(ofFirst.includes(true) && ofFirst.includes(false));
    const fragments = Array.from({ length: 40 }, (_, i) =>
      workerOf({ source: one, destination: other, sourcePort: i + 1, fragment: 0x2000, payload: new Uint8Array(8) }),
    );
    assert.equal(new Set(fragments).size, 1);
  },

  "a full lane takes its part of a batch, and no packet of another lane is lost"() {
    const device = openUp("tun0", `${HOST}/24`, { lanes: LANES, chooseFor: 1 });
    const greedy = new HostSocket(HOST);
    ip("address", "add", `${OTHER}/24`, "dev", "tun0");
    const modest = new HostSocket(OTHER);
    assert.notEqual(laneOf(ipv4(HOST)), laneOf(ipv4(OTHER)));
    const { dropped } = transmitted("tun0");
    for (let i = 0; i < 3000; i++) greedy.send(Uint8Array.of(1), "10.9.0.200", 9);
    assert.ok(transmitted("tun0").dropped - dropped > 2000, "the lane of the first is full");
    for (let i = 0; i < 400; i++) modest.send(Uint8Array.of(2), "10.9.0.200", 9);
    const poller = new Poller(memory, device.fds);
    const ready = poller.look();
    assert.equal(ready, (1 << laneOf(ipv4(HOST))) | (1 << laneOf(ipv4(OTHER))));
    let answered = 0;
    for (let reads = 0; reads < 400 / (batch.capacity / 2); reads++) {
      assert.equal(device.read(batch, ready), batch.capacity);
      assert.equal(device.unread, ready);
      for (let i = 0; i < batch.count; i++) if (memory.u8[batch.offset[i]! + 28] === 2) answered++;
    }
    assert.equal(answered, 400);
    assert.equal(poller.look(), 1 << laneOf(ipv4(HOST)));
    poller.close();
  },

  "a kernel that takes no program has one queue, also where an agent before has left one"() {
    openTun("tun0", memory, { lanes: LANES, chooseFor: 1 }).close();
    const refuse = ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"];
    const { stdout, stderr } = spawnSync(refuse[0]!, [...refuse.slice(1), process.execPath, self, "--lanes", "tun0"], {
      encoding: "utf8",
    });
    assert.match(stdout, /^1 bpf: .*EPERM/, stderr);
    const first = openUp();
    const second = openTun("tun0", memory, { locked: true });
    const host = new HostSocket();
    for (let port = 1; port <= 40; port++) host.send(Uint8Array.of(1), OTHER, port);
    assert.ok(first.read(batch) > 0, "the kernel spreads a container's flows by itself again");
    assert.ok(second.read(batch) > 0);
  },

  "a hundred thousand packets written and read make no garbage"() {
    const device = openUp();
    setSysctl("ipv4/ip_forward");
    setSysctl("ipv4/conf/all/send_redirects", 0);
    setSysctl("ipv4/conf/tun0/send_redirects", 0);
    const packets = 100_000;
    const packet = udpPacket({ destination: "10.9.0.3", payload: new Uint8Array(100) });
    const at = memory.alloc(packet.length);
    memory.u8.set(packet, at);
    const carry = () => {
      for (let left = packets; left > 0; left -= batch.capacity) {
        memory.u8.set(packet, at);
        for (let i = 0; i < batch.capacity; i++) {
          queue.slice(at, packet.length);
          queue.finish();
        }
        device.write(queue); // the host sends it on through the same device
        let count = 0;
        while (count < batch.capacity) count += device.read(batch);
      }
    };
    assert.ok(gc, "run with --expose-gc");
    carry();
    gc();
    const before = process.memoryUsage().heapUsed;
    carry();
    const bytes = (process.memoryUsage().heapUsed - before) / packets;
    assert.equal(device.faults, 0);
    assert.equal(bytes < 4, true, `${bytes} bytes a packet`);
  },

  "a shared file for which there is no room is refused, and nothing is left of it"() {
    const directory = temporaryDirectory("full");
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", directory]);
    const path = join(directory, "flows");
    try {
      const refused = { name: "PlatformError", message: /no room for .*flows, 1048576 bytes.*ENOSPC.*df -h/ };
      assert.throws(() => openSharedFile(path, 1 << 20), refused);
      assert.deepEqual(readdirSync(directory), []);
      writeFileSync(path, "", { mode: 0o600 });
      truncateSync(path, 1 << 20); // of the right size, but a hole: touching it would be SIGBUS
      assert.throws(() => openSharedFile(path, 1 << 20), refused);
      assert.equal(statSync(path).size, 1 << 20);
    } finally {
      execFileSync("umount", [directory]);
      rmdirSync(directory);
    }
  },

  "every packet is taken or counted as lost before, and what is taken is sent on, answered or dropped with a reason":
    balance,

  "with the loopback device down the underlay opens without segmentation, and says so"() {
    const warnings: string[] = [];
    const log = createLog("warn", { write: (line) => warnings.push(line) });
    ip("tuntap", "add", "dev", "tun0", "mode", "tun");
    ip("address", "add", `${HOST}/24`, "dev", "tun0");
    const underlay = openUdpUnderlay(memory, { address: ipv4(HOST), port: 0, log });
    assert.equal(underlay.offloads.maxSegments, 1);
    assert.match(warnings.join(""), /UDP_SEGMENT does not work here/);
    underlay.close();
    ip("link", "set", "lo", "up");
    assert.equal(probeMaxSegments(memory) >= 64, true);
  },

  "an underlay counts what is larger than the link's MTU, and the rest go out"() {
    const device = openUp("tun0", `${HOST}/24`, { offloadSteps: [0] });
    ip("link", "set", "lo", "up");
    ip("link", "set", "tun0", "mtu", "1000");
    const underlay = openUdpUnderlay(memory, { address: ipv4(HOST), port: 0 });
    const outgoing = new UnderlayQueue(4, 4);
    const at = memory.alloc(3000);
    for (const [bytes, segmentBytes] of [
      [100, 0],
      [973, 0],
      [2000, 973],
      [1944, 972],
    ] as const) {
      outgoing.slice(at, bytes);
      outgoing.finish(ipv4(OTHER), 4789, 3, segmentBytes, 0);
    }
    assert.equal(underlay.send(outgoing), 1 + 3);
    assert.equal(underlay.oversize, 1 + 3);
    assert.equal(underlay.sent, 2);
    const sizes: number[] = [];
    device.read(batch);
    for (let i = 0; i < batch.count; i++) sizes.push(batch.length[i]!);
    assert.deepEqual(sizes, [128, 1000, 1000]);
  },

  "the kernel joins datagrams that have a checksum, and none without one: what it joined is verified"() {
    makeLink();
    ip("link", "set", "lo", "up");
    execFileSync("ethtool", ["-K", "veth0", "tso", "off"]); // with it on, its other end does without GRO
    execFileSync("ethtool", ["-K", "veth1", "gro", "on"]);
    // Packets that come one by one wait for each other so long, in nanoseconds.
    execFileSync("mount", ["-t", "sysfs", "sysfs", "/sys"]);
    writeFileSync("/sys/class/net/veth1/gro_flush_timeout", "50000000");
    const { device } = openLinked();
    const underlay = openUdpUnderlay(memory, { address: ipv4(HOST), port: 0 });
    const received = new UnderlayBatch(memory, 16);
    const wait = new Poller(memory, [underlay.fd]);
    const whole = udpPacket({ destination: HOST, destinationPort: underlay.port, payload: Buffer.alloc(100, "x") });
    const at = memory.alloc(whole.length);
    /** Sends a datagram eight times at once; returns how many there were in each message that came. */
    const joined = (packet: Uint8Array, patienceMs = DEADLINE_MS): number[] => {
      memory.u8.set(packet, at);
      for (let i = 0; i < 8; i++) {
        queue.slice(at, packet.length);
        queue.finish();
      }
      assert.equal(device.write(queue), 0);
      const counts: number[] = [];
      while (counts.reduce((sum, count) => sum + count, 0) < 8 && wait.wait(patienceMs) !== 0) {
        underlay.receive(received);
        for (let i = 0; i < received.count; i++) counts.push(received.length[i]! / received.segmentBytes[i]!);
      }
      return counts;
    };
    const end = performance.now() + DEADLINE_MS;
    while (joined(whole).length === 8) assert.ok(performance.now() < end, "none of those with a checksum are joined");
    const without = whole.with(26, 0).with(27, 0);
    for (let i = 0; i < 10; i++) assert.deepEqual(joined(without), new Array<number>(8).fill(1));
    assert.deepEqual(joined(whole.with(whole.length - 1, 0), IN_VAIN_MS), []);
  },
};

/** The packets that a whole data path takes, and those that the kernel drops before, are all that were sent to it. */
async function balance(): Promise<void> {
  const own = new PacketMemory(ENGINE_MEMORY_BYTES);
  ip("link", "set", "lo", "up");
  const device = openTun("tun0", own);
  setSysctl("ipv6/conf/tun0/disable_ipv6");
  ip("address", "add", "10.192.0.2/10", "dev", "tun0");
  ip("link", "set", "tun0", "up");
  const underlay = openUdpUnderlay(own, { address: ipv4("127.0.0.1"), port: 0 });
  const flows = FlowTable.open(new ArrayBuffer(FlowTable.bytesFor(1024)), 1024, 1);
  const engine = new Engine({
    ...{ memory: own, device, underlay, flows, isFirst: true },
    ...{ now: () => performance.now(), random: Math.random },
  });
  const nodes = { "127.0.0.1": "10.192.0.2", "127.0.0.2": "10.192.0.3" };
  const networks = { 4096: { subnet: "10.192.32.0/20" } };
  const endpoints = { "10.192.32.20": { vtep: "127.0.0.2", vni: 4096 } };
  engine.apply(diffTables(new Map(), rowsOf(rowsFor({ nodes, networks, endpoints }, "127.0.0.1"))));
  const drain = (): void => {
    for (let more = 1; more !== 0; ) {
      engine.step(Side.All);
      more = engine.carried;
    }
  };
  // The host sends half to an endpoint and half to an address without one: more than the device's queue holds.
  const host = new HostSocket("10.192.0.2");
  const before = transmitted("tun0");
  for (let i = 0; i < 3000; i++) host.send(new Uint8Array(100), i % 2 === 0 ? "10.192.32.20" : "10.192.32.99", 9);
  const overruns = (await deviceOverruns("tun0")) - before.dropped;
  assert.ok(overruns > 0, "the device's queue is full");
  drain();
  const fromHost = engine.report();
  assert.equal(transmitted("tun0").packets - before.packets, fromHost.packets.taken);
  assert.equal(fromHost.packets.taken + overruns, 3000);
  assert.ok((fromHost.drops["no-route"] ?? 0) > 0);
  // The wire brings more than the socket's buffer holds; the kernel tells how many it lost with the next datagram.
  const peer = new HostSocket("127.0.0.2");
  const datagrams = 40_000;
  for (let i = 0; i < datagrams; i++) peer.send(new Uint8Array(1000), "127.0.0.1", underlay.port);
  drain();
  peer.send(new Uint8Array(1000), "127.0.0.1", underlay.port);
  drain();
  const { packets, drops } = engine.report();
  const overrun = drops["underlay-overrun"] ?? 0;
  assert.ok(overrun > 0, "the socket's buffer is full");
  assert.equal(packets.taken - fromHost.packets.taken + overrun, datagrams + 1);
  assert.equal(unaccounted({ packets, drops }), 0);
  engine.close();
}

function transmitted(device: string): { packets: number; dropped: number } {
  const [link] = JSON.parse(ip("-json", "-statistics", "link", "show", "dev", device)) as {
    stats64: { tx: { packets: number; dropped: number } };
  }[];
  return link!.stats64.tx;
}

/** Writes the queue's only message past our own checks; returns whether the kernel took it. */
function kernelTakes(fd: number, packet: Uint8Array): boolean {
  const partial = queue.needsChecksum[0] === 1;
  const gso = queue.gso[0]! !== Gso.None;
  const header = Buffer.alloc(VIRTIO_NET_BYTES);
  header.writeUInt8(partial ? 1 : 0, 0);
  header.writeUInt8(queue.gso[0]!, 1);
  if (gso) header.writeUInt16LE(queue.headerBytes[0]!, 2);
  if (gso) header.writeUInt16LE(queue.gsoBytes[0]!, 4);
  if (partial) header.writeUInt16LE(queue.checksumStart[0]!, 6);
  if (partial) header.writeUInt16LE(queue.checksumOffset[0]!, 8);
  try {
    writevSync(fd, [header, packet]);
    return true;
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "EINVAL");
    return false;
  }
}

/** Becomes another user, takes the name of the device's lock and keeps it. */
function squat(device: string, how: string): void {
  process.setgroups!([]);
  process.setgid!(65534);
  process.setuid!(65534);
  const name = Buffer.from(`\x01\0\0overlayd:${device}`, "latin1");
  const fd = libc.checked("socket", libc.socket(1, 1, 0));
  libc.checked("bind", libc.bind(fd, name, name.length));
  if (how !== "bound") libc.checked("listen", libc.listen(fd, how === "full" ? 0 : 128));
  if (how === "full") libc.checked("connect", libc.connect(libc.socket(1, 1, 0), name, name.length));
  console.log("squats");
  setInterval(() => {}, 60_000);
}

const [role, name] = process.argv.slice(2);
if (role === "--squat") squat(name!, process.argv[4]!);
else if (role === "--open") {
  openTun(name!, memory);
  console.log("opened");
} else if (role === "--lanes") {
  const { fds, unsorted } = openTun(name!, memory, { lanes: LANES, chooseFor: 1 });
  console.log(fds.length, unsorted);
} else if (role !== undefined && process.argv[1] === self) {
  await scenarios[role]!();
}
