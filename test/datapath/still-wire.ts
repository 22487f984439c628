// A device and an underlay that allocate nothing, between two engines on one packet memory: what a run of packets
// allocates is the data path's own.
import type { DeviceBatch, DeviceQueue, UnderlayBatch, UnderlayQueue } from "../../src/datapath/batch.ts";
import type { Device, ExpressLane, Underlay } from "../../src/datapath/ports.ts";
import type { PacketMemory } from "../../src/packet/memory.ts";
import { Gso } from "../../src/packet/virtio-net.ts";

const HELD_BYTES = 4 << 20;
const HELD_MESSAGES = 256;

/** Gives the same packets whenever it is armed. */
export class StillDevice implements Device {
  readonly fds = [-1];
  readonly unreadable = 0;
  readonly unread = 0;
  readonly offloads = { tcp: true, udp: true, checksum: true };
  /** Bytes that came out. */
  readonly writtenBytes = new Float64Array(1);
  readonly #u8: Uint8Array;
  readonly #at: Int32Array;
  readonly #length: Int32Array;
  readonly #gsoBytes: Int32Array;
  armed = false;
  /** Every packet that is read has another source port: each is a flow of its own. */
  newFlows = false;
  #next = 1;

  /** Packets without a transport checksum, with the size of the segments that they are to be cut into, or 0. */
  constructor(memory: PacketMemory, packets: readonly { bytes: Uint8Array; gsoBytes: number }[]) {
    this.#u8 = memory.u8;
    this.#at = Int32Array.from(packets, ({ bytes }) => {
      const at = memory.alloc(bytes.length);
      memory.u8.set(bytes, at);
      return at;
    });
    this.#length = Int32Array.from(packets, ({ bytes }) => bytes.length);
    this.#gsoBytes = Int32Array.from(packets, ({ gsoBytes }) => gsoBytes);
  }

  read(batch: DeviceBatch): number {
    const count = this.armed ? Math.min(batch.capacity, this.#at.length) : 0;
    this.armed = false;
    for (let i = 0; i < count; i++) {
      const from = this.#at[i]!;
      const to = batch.offset[i]!;
      this.#u8.copyWithin(to, from, from + this.#length[i]!);
      if (this.newFlows) {
        this.#next = (this.#next % 60_000) + 1;
        this.#u8[to + 20] = this.#next >> 8;
        this.#u8[to + 21] = this.#next;
      }
      const gsoBytes = this.#gsoBytes[i]!;
      batch.length[i] = this.#length[i]!;
      batch.gso[i] = gsoBytes === 0 ? Gso.None : Gso.Tcp4;
      batch.gsoBytes[i] = gsoBytes;
      batch.needsChecksum[i] = 1;
    }
    batch.count = count;
    return count;
  }

  write(queue: DeviceQueue): number {
    for (let i = 0; i < queue.slices; i++) this.writtenBytes[0]! += queue.sliceLength[i]!;
    queue.clear();
    return 0;
  }

  close(): void {}
}

/** A lane that takes every entry and carries nothing: each packet comes to the agent. */
export class StillLane implements ExpressLane {
  readonly isOn = true;
  readonly refused = 0;
  entered = 0;
  groundSum(client: number, server: number, vip: number, from: number, to: number): number {
    return (client + server + vip + from + to) | 0;
  }
  enter(): boolean {
    this.entered++;
    return true;
  }
  flush(): void {}
  read(): boolean {
    return false;
  }
  take(): boolean {
    return false;
  }
  lose(): void {}
  loseAll(): void {}
}

/** Holds what its peer sent until it is received, each message as UDP_GRO gives it. */
export class StillUnderlay implements Underlay {
  readonly fd = -1;
  readonly receiveDrops = 0;
  readonly failedLater = 0;
  readonly offloads = { maxSegments: 128 };
  readonly #u8: Uint8Array;
  readonly #address: number;
  #peer: StillUnderlay | undefined;
  readonly #held: number;
  #heldBytes = 0;
  #count = 0;
  #taken = 0;
  readonly #offset = new Int32Array(HELD_MESSAGES);
  readonly #length = new Int32Array(HELD_MESSAGES);
  readonly #segmentBytes = new Int32Array(HELD_MESSAGES);

  constructor(memory: PacketMemory, address: number) {
    this.#u8 = memory.u8;
    this.#address = address;
    this.#held = memory.alloc(HELD_BYTES);
  }

  connect(peer: StillUnderlay): void {
    this.#peer = peer;
  }

  send(queue: UnderlayQueue): number {
    for (let message = 0; message < queue.messages; message++) this.#peer!.#hold(queue, message);
    queue.clear();
    return 0;
  }

  #hold(queue: UnderlayQueue, message: number): void {
    const start = this.#held + this.#heldBytes;
    let at = start;
    for (let i = queue.firstSlice(message); i < queue.end[message]!; i++) {
      const from = queue.sliceOffset[i]!;
      const length = queue.sliceLength[i]!;
      this.#u8.copyWithin(at, from, from + length);
      at += length;
    }
    this.#offset[this.#count] = start;
    this.#length[this.#count] = at - start;
    this.#segmentBytes[this.#count++] = queue.segmentBytes[message]! || at - start;
    this.#heldBytes = at - this.#held;
  }

  receive(batch: UnderlayBatch): number {
    let count = 0;
    for (; count < batch.capacity && this.#taken < this.#count; count++, this.#taken++) {
      const from = this.#offset[this.#taken]!;
      const length = this.#length[this.#taken]!;
      this.#u8.copyWithin(batch.offset[count]!, from, from + length);
      batch.length[count] = length;
      batch.segmentBytes[count] = this.#segmentBytes[this.#taken]!;
      batch.source[count] = this.#peer!.#address;
      batch.tos[count] = 0;
    }
    if (this.#taken === this.#count) this.#taken = this.#count = this.#heldBytes = 0;
    batch.count = count;
    return count;
  }

  close(): void {}
}
