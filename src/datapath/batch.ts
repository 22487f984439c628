// A batch of packets on its way in (buffers that a device or underlay fills) and on its way out
// (messages, each a list of slices, so that segmentation and coalescing copy no payload). Arrays, not objects:
// they are filled and cleared for every batch and nothing is allocated.
import type { PacketMemory } from "../packet/memory.ts";
import { Gso } from "../packet/virtio-net.ts";

/** Bytes before a received packet, for encapsulation in place and for the virtio-net header of a TUN. */
export const HEADROOM_BYTES = 64;
/** Bytes of the largest IP packet, and so of the largest read. */
export const PACKET_BYTES = 65536;

/** Received packets: `count` of them, each at `offset[i]`, with HEADROOM_BYTES free before it. */
class Batch {
  readonly capacity: number;
  count = 0;
  readonly offset: Int32Array;
  readonly length: Int32Array;

  constructor(memory: PacketMemory, capacity: number) {
    this.capacity = capacity;
    this.offset = new Int32Array(capacity);
    this.length = new Int32Array(capacity);
    for (let i = 0; i < capacity; i++) this.offset[i] = memory.alloc(HEADROOM_BYTES + PACKET_BYTES) + HEADROOM_BYTES;
  }
}

/** IP packets that a device gave. With Gso other than None a packet is a super-packet that is to be cut into segments. */
export class DeviceBatch extends Batch {
  readonly gso: Uint8Array;
  /** Payload bytes of each segment. */
  readonly gsoBytes: Uint16Array;
  /** 1: the transport checksum field holds only the pseudo-header's sum, not complemented. */
  readonly needsChecksum: Uint8Array;
  /** 1: the kernel says that the transport checksum is right. */
  readonly hasRightChecksum: Uint8Array;

  constructor(memory: PacketMemory, capacity: number) {
    super(memory, capacity);
    this.gso = new Uint8Array(capacity);
    this.gsoBytes = new Uint16Array(capacity);
    this.needsChecksum = new Uint8Array(capacity);
    this.hasRightChecksum = new Uint8Array(capacity);
  }
}

/** UDP payloads that an underlay gave. */
export class UnderlayBatch extends Batch {
  /** The sender's IPv4 address. */
  readonly source: Int32Array;
  /** Bytes of each datagram that UDP_GRO joined (the last may be shorter); the whole length when it joined none. */
  readonly segmentBytes: Uint16Array;
  /** The outer IP header's TOS byte. */
  readonly tos: Uint8Array;

  constructor(memory: PacketMemory, capacity: number) {
    super(memory, capacity);
    this.source = new Int32Array(capacity);
    this.segmentBytes = new Uint16Array(capacity);
    this.tos = new Uint8Array(capacity);
  }
}

/**
 * Messages waiting to be written: message i has the slices from `end[i - 1]` (0 for the first) to `end[i]`.
 * Call slice() for each piece, then the subclass's finish(); clear() after the flush.
 */
class Queue {
  readonly maxMessages: number;
  readonly maxSlices: number;
  messages = 0;
  slices = 0;
  readonly end: Int32Array;
  readonly sliceOffset: Int32Array;
  readonly sliceLength: Int32Array;

  constructor(maxMessages: number, maxSlices: number) {
    this.maxMessages = maxMessages;
    this.maxSlices = maxSlices;
    this.end = new Int32Array(maxMessages);
    this.sliceOffset = new Int32Array(maxSlices);
    this.sliceLength = new Int32Array(maxSlices);
  }

  /** Whether one more message of `slices` slices can be taken before a flush. */
  fits(slices: number): boolean {
    return this.messages < this.maxMessages && this.slices + slices <= this.maxSlices;
  }

  slice(offset: number, length: number): void {
    const at = this.slices++;
    this.sliceOffset[at] = offset;
    this.sliceLength[at] = length;
  }

  firstSlice(message: number): number {
    return message === 0 ? 0 : this.end[message - 1]!;
  }

  bytesOf(message: number): number {
    let bytes = 0;
    for (let i = this.firstSlice(message); i < this.end[message]!; i++) bytes += this.sliceLength[i]!;
    return bytes;
  }

  clear(): void {
    this.messages = 0;
    this.slices = 0;
  }
}

/** IP packets for a device. */
export class DeviceQueue extends Queue {
  readonly gso: Uint8Array;
  readonly gsoBytes: Uint16Array;
  /** Bytes of IP and transport header together, for Gso other than None. */
  readonly headerBytes: Uint16Array;
  readonly needsChecksum: Uint8Array;
  /** Where the transport header begins in the packet. */
  readonly checksumStart: Uint16Array;
  /** Where the checksum field is in the transport header. */
  readonly checksumOffset: Uint16Array;

  constructor(maxMessages: number, maxSlices: number) {
    super(maxMessages, maxSlices);
    this.gso = new Uint8Array(maxMessages);
    this.gsoBytes = new Uint16Array(maxMessages);
    this.headerBytes = new Uint16Array(maxMessages);
    this.needsChecksum = new Uint8Array(maxMessages);
    this.checksumStart = new Uint16Array(maxMessages);
    this.checksumOffset = new Uint16Array(maxMessages);
  }

  /** The number of packets that the message stands for. */
  packetsOf(message: number): number {
    const gsoBytes = this.gsoBytes[message]!;
    if (this.gso[message] === Gso.None || gsoBytes === 0) return 1;
    return Math.max(1, Math.ceil((this.bytesOf(message) - this.headerBytes[message]!) / gsoBytes));
  }

  /** Ends a message that is one whole packet with its checksums complete. */
  finish(): void {
    const at = this.messages++;
    this.end[at] = this.slices;
    this.gso[at] = Gso.None;
    this.needsChecksum[at] = 0;
  }

  /** Ends a message whose transport checksum field holds the pseudo-header's sum; with `gso`, a super-packet. */
  finishPartial(gso: Gso, gsoBytes: number, headerBytes: number, checksumStart: number, checksumOffset: number): void {
    const at = this.messages++;
    this.end[at] = this.slices;
    this.gso[at] = gso;
    this.gsoBytes[at] = gsoBytes;
    this.headerBytes[at] = headerBytes;
    this.needsChecksum[at] = 1;
    this.checksumStart[at] = checksumStart;
    this.checksumOffset[at] = checksumOffset;
  }
}

/** UDP datagrams for an underlay. */
export class UnderlayQueue extends Queue {
  readonly address: Int32Array;
  readonly port: Uint16Array;
  /** Index of the underlay's source port, 0 to SOURCE_PORTS - 1. */
  readonly sourcePort: Uint8Array;
  /** Bytes of the datagrams that the message is cut into (UDP_SEGMENT); 0: it is one datagram. */
  readonly segmentBytes: Uint16Array;
  readonly tos: Uint8Array;

  constructor(maxMessages: number, maxSlices: number) {
    super(maxMessages, maxSlices);
    this.address = new Int32Array(maxMessages);
    this.port = new Uint16Array(maxMessages);
    this.sourcePort = new Uint8Array(maxMessages);
    this.segmentBytes = new Uint16Array(maxMessages);
    this.tos = new Uint8Array(maxMessages);
  }

  /** The number of datagrams that the message is cut into. */
  packetsOf(message: number): number {
    const segmentBytes = this.segmentBytes[message]!;
    return segmentBytes === 0 ? 1 : Math.max(1, Math.ceil(this.bytesOf(message) / segmentBytes));
  }

  finish(address: number, port: number, sourcePort: number, segmentBytes: number, tos: number): void {
    const at = this.messages++;
    this.end[at] = this.slices;
    this.address[at] = address;
    this.port[at] = port;
    this.sourcePort[at] = sourcePort;
    this.segmentBytes[at] = segmentBytes;
    this.tos[at] = tos;
  }

  /** Adds the slices since the last finish() to the message that it ended, which is cut at `segmentBytes` now. */
  extendLast(segmentBytes: number): void {
    this.end[this.messages - 1] = this.slices;
    this.segmentBytes[this.messages - 1] = segmentBytes;
  }
}
