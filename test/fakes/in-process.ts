// A device and a wire without a kernel, for whole agents in one process: no privilege, no timers. Messages that a kernel would refuse or
// corrupt throw here, so that a test sees them.

import {
  type DeviceBatch,
  type DeviceQueue,
  PACKET_BYTES,
  type UnderlayBatch,
  type UnderlayQueue,
} from "../../src/datapath/batch.ts";
import type { Device, DeviceOffloads, Underlay, UnderlayOffloads } from "../../src/datapath/ports.ts";
import { SOURCE_PORTS } from "../../src/datapath/ports.ts";
import { formatIpv4, type Ipv4 } from "../../src/lib/ip.ts";
import type { PacketMemory } from "../../src/packet/memory.ts";
import { Gso, VirtioFault, virtioFault } from "../../src/packet/virtio-net.ts";

const QUEUE_LIMIT = 1024;

/** What an IP packet carries beside its bytes through a TUN. */
export interface DevicePacket {
  readonly bytes: Uint8Array;
  readonly gso: Gso;
  readonly gsoBytes: number;
  readonly needsChecksum: boolean;
  /** The kernel says that the checksum is right; left out: it says nothing. */
  readonly hasRightChecksum?: boolean;
}

export class InProcessDevice implements Device {
  readonly fds = [-1];
  readonly offloads: DeviceOffloads;
  /** Called when there is something to read. */
  onReadable: (() => void) | undefined;
  readonly unreadable = 0;
  unread = 0;
  /** Refuses every message, as a kernel without room does. */
  isFull = false;
  /** Packets injected while the queue was full. */
  drops = 0;
  readonly #memory: PacketMemory;
  // BOUNDED: QUEUE_LIMIT packets, as a TUN's queue.
  readonly #injected: DevicePacket[] = [];
  // BOUNDED: by the test, which takes them.
  #written: DevicePacket[] = [];

  constructor(memory: PacketMemory, offloads: DeviceOffloads = { tcp: true, udp: true, checksum: true }) {
    this.#memory = memory;
    this.offloads = offloads;
  }

  /** A packet from a container or the host; read() gives it. */
  inject(bytes: Uint8Array, carried: Partial<Omit<DevicePacket, "bytes">> = {}): void {
    if (this.#injected.length === QUEUE_LIMIT) {
      this.drops++;
      return;
    }
    const { gso = Gso.None, gsoBytes = 0, needsChecksum = gso !== Gso.None, hasRightChecksum = false } = carried;
    this.#injected.push({ bytes: bytes.slice(), gso, gsoBytes, needsChecksum, hasRightChecksum });
    this.onReadable?.();
  }

  /** The packets written since the last call. */
  takeWritten(): DevicePacket[] {
    const written = this.#written;
    this.#written = [];
    return written;
  }

  read(batch: DeviceBatch): number {
    const packets = this.#injected.splice(0, batch.capacity);
    packets.forEach(({ bytes, gso, gsoBytes, needsChecksum, hasRightChecksum }, i) => {
      this.#memory.u8.set(bytes, batch.offset[i]!);
      batch.length[i] = bytes.length;
      batch.gso[i] = gso;
      batch.gsoBytes[i] = gsoBytes;
      batch.needsChecksum[i] = needsChecksum ? 1 : 0;
      batch.hasRightChecksum[i] = hasRightChecksum ? 1 : 0;
    });
    batch.count = packets.length;
    this.unread = this.#injected.length > 0 ? 1 : 0;
    return packets.length;
  }

  /** Throws when a message is one that a TUN refuses or corrupts. */
  write(queue: DeviceQueue): number {
    let refused = 0;
    for (let message = 0; message < queue.messages; message++) {
      const fault = virtioFault(this.#memory, queue, message);
      if (fault !== VirtioFault.None) throw new Error(`message ${message} is broken: ${faultName(fault)}`);
      if (this.isFull) {
        refused += queue.packetsOf(message);
        continue;
      }
      const gso = queue.gso[message]! as Gso;
      this.#written.push({
        bytes: gather(this.#memory, queue, message),
        gso,
        gsoBytes: gso === Gso.None ? 0 : queue.gsoBytes[message]!,
        needsChecksum: queue.needsChecksum[message] === 1,
      });
    }
    queue.clear();
    return refused;
  }

  close(): void {
    this.#injected.length = 0;
  }
}

function faultName(fault: VirtioFault): string {
  return Object.entries(VirtioFault).find(([, value]) => value === fault)![0];
}

/** A datagram on the wire between two underlays. */
export interface Datagram {
  readonly from: Ipv4;
  readonly fromPort: number;
  readonly to: Ipv4;
  readonly toPort: number;
  readonly tos: number;
  readonly payload: Uint8Array;
  /** The size of the segments of a super-packet that comes in one piece, as a kernel tells it. */
  readonly segmentBytes?: number;
}

/** The datagrams that go on in the place of one: [] loses it; earlier ones may be among them. */
export type WireFilter = (datagram: Datagram) => readonly Datagram[];

export interface NetworkOptions {
  filter?: WireFilter;
  /** The links' MTU, outer IP header included. */
  mtu?: number;
}

const FIRST_SOURCE_PORT = 49152;
const IP_UDP_BYTES = 28;

export class InProcessNetwork {
  filter: WireFilter | undefined;
  mtu: number;
  // BOUNDED: by the nodes of the test; keyed by VTEP address and port.
  readonly #underlays = new Map<string, InProcessUnderlay>();

  constructor({ filter, mtu = 1500 }: NetworkOptions = {}) {
    this.filter = filter;
    this.mtu = mtu;
  }

  /** A node's place on the wire. */
  attach(memory: PacketMemory, options: InProcessUnderlayOptions): InProcessUnderlay {
    const place = placeOf(options.address, options.port);
    if (this.#underlays.has(place)) throw new Error(`${place} is attached already`);
    const underlay = new InProcessUnderlay(this, memory, options);
    this.#underlays.set(place, underlay);
    return underlay;
  }

  detach(address: Ipv4, port: number): void {
    this.#underlays.delete(placeOf(address, port));
  }

  /** Puts a datagram on the wire, also one that no underlay sent. A datagram for no underlay is lost. */
  carry(datagram: Datagram): void {
    for (const passed of this.filter === undefined ? [datagram] : this.filter(datagram)) {
      this.#underlays.get(placeOf(passed.to, passed.toPort))?.deliver(passed);
    }
  }
}

const placeOf = (address: Ipv4, port: number): string => `${formatIpv4(address)}:${port}`;

export interface InProcessUnderlayOptions {
  address: Ipv4;
  port: number;
  /** Most datagrams that one message may be cut into. */
  maxSegments?: number;
  /** Joins datagrams of one sender and size, as UDP_GRO does. */
  join?: boolean;
}

export class InProcessUnderlay implements Underlay {
  readonly fd = -1;
  readonly address: Ipv4;
  readonly port: number;
  readonly offloads: UnderlayOffloads;
  /** Called when there is something to receive. */
  onReadable: (() => void) | undefined;
  /** Messages larger than the network's MTU. */
  oversize = 0;
  /** Datagrams that arrived while the queue was full. */
  receiveDrops = 0;
  readonly failedLater = 0;
  readonly #network: InProcessNetwork;
  readonly #memory: PacketMemory;
  readonly #join: boolean;
  // BOUNDED: QUEUE_LIMIT datagrams, as a socket's buffer.
  readonly #arrived: Datagram[] = [];

  constructor(network: InProcessNetwork, memory: PacketMemory, options: InProcessUnderlayOptions) {
    this.#network = network;
    this.#memory = memory;
    this.address = options.address;
    this.port = options.port;
    this.offloads = { maxSegments: options.maxSegments ?? 128 };
    this.#join = options.join ?? false;
  }

  /** From the network. */
  deliver(datagram: Datagram): void {
    if (this.#arrived.length === QUEUE_LIMIT) {
      this.receiveDrops++;
      return;
    }
    this.#arrived.push(datagram);
    this.onReadable?.();
  }

  receive(batch: UnderlayBatch): number {
    let count = 0;
    for (; count < batch.capacity && this.#arrived.length > 0; count++) {
      const first = this.#arrived[0]!;
      const joined = this.#join ? joinable(this.#arrived) : 1;
      let length = 0;
      for (const { payload } of this.#arrived.splice(0, joined)) {
        this.#memory.u8.set(payload, batch.offset[count]! + length);
        length += payload.length;
      }
      batch.length[count] = length;
      batch.source[count] = first.from;
      batch.segmentBytes[count] = first.segmentBytes ?? first.payload.length;
      batch.tos[count] = first.tos;
    }
    batch.count = count;
    return count;
  }

  /** Throws when a message is cut into more segments than was offered, or is larger than a datagram can be. */
  send(queue: UnderlayQueue): number {
    let refused = 0;
    for (let message = 0; message < queue.messages; message++) {
      const payload = gather(this.#memory, queue, message);
      const segmentBytes = Math.min(queue.segmentBytes[message]! || payload.length, payload.length);
      if (payload.length > segmentBytes * this.offloads.maxSegments) throw new Error(`message ${message}: segments`);
      if (payload.length + IP_UDP_BYTES >= PACKET_BYTES) throw new Error(`message ${message}: ${payload.length} bytes`);
      if (segmentBytes + IP_UDP_BYTES > this.#network.mtu) {
        this.oversize++;
        refused += queue.packetsOf(message);
        continue;
      }
      this.#sendSegments(queue, message, payload, segmentBytes);
    }
    queue.clear();
    return refused;
  }

  close(): void {
    this.#network.detach(this.address, this.port);
  }

  #sendSegments(queue: UnderlayQueue, message: number, payload: Uint8Array, segmentBytes: number): void {
    let at = 0;
    do {
      this.#network.carry({
        from: this.address,
        fromPort: FIRST_SOURCE_PORT + (queue.sourcePort[message]! % SOURCE_PORTS),
        to: queue.address[message]!,
        toPort: queue.port[message]!,
        tos: queue.tos[message]!,
        payload: payload.subarray(at, at + segmentBytes),
      });
      at += segmentBytes;
    } while (at < payload.length);
  }
}

/** How many datagrams from the first on UDP_GRO would join: all as long as the first, but the last may be shorter. */
function joinable(datagrams: readonly Datagram[]): number {
  const first = datagrams[0]!;
  let bytes = first.payload.length;
  let count = 1;
  for (; count < datagrams.length; count++) {
    const { from, fromPort, tos, payload } = datagrams[count]!;
    const same = from === first.from && fromPort === first.fromPort && tos === first.tos;
    const size = payload.length;
    if (!same || size === 0 || size > first.payload.length || bytes + size + IP_UDP_BYTES >= PACKET_BYTES) break;
    bytes += size;
    if (size < first.payload.length) return count + 1;
  }
  return count;
}

/** A message's slices as one array of its own. */
function gather({ u8 }: PacketMemory, queue: DeviceQueue | UnderlayQueue, message: number): Uint8Array {
  const slices: Uint8Array[] = [];
  for (let i = queue.firstSlice(message); i < queue.end[message]!; i++) {
    slices.push(u8.subarray(queue.sliceOffset[i]!, queue.sliceOffset[i]! + queue.sliceLength[i]!));
  }
  return Uint8Array.from(Buffer.concat(slices));
}
