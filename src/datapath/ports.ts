// The two sides of the data path, as it sees them. linux/ implements both over libc, dgram-underlay.ts is the portable underlay, and
// test/fakes/in-process.ts has both without a kernel.
import type { DeviceBatch, DeviceQueue, UnderlayBatch, UnderlayQueue } from "./batch.ts";

/**
 * Source ports that an underlay sends from, so that receivers can spread flows (RFC 7348 section 5). Each more costs one more
 * sendmmsg(2) at each flush, and fewer datagrams go as one.
 */
export const SOURCE_PORTS = 4;

/** The most lanes that a device has. */
export const MAX_LANES = 8;

/** What the platform does for an underlay. A limit of 1 means: nothing. */
export interface UnderlayOffloads {
  /** The most datagrams that one message may be cut into. */
  readonly maxSegments: number;
}

export interface DeviceOffloads {
  /** Takes and gives TCP super-packets. */
  readonly tcp: boolean;
  /** Takes and gives UDP super-packets. */
  readonly udp: boolean;
  /** Takes and gives packets whose transport checksum is still to be made. */
  readonly checksum: boolean;
}

/** Where the overlay's packets come from and go to: a TUN. */
export interface Device {
  readonly offloads: DeviceOffloads;
  /**
   * The descriptors to wait for, one a lane. A lane is a queue for the packets of some containers; there are at most
   * MAX_LANES. -1: the implementation calls `onReadable` when there is something to read.
   */
  readonly fds: readonly number[];
  /**
   * Fills `batch` from its start with what waits, never blocks; returns how many. `lanes` has a bit for each lane to
   * read; lanes that have more than the batch holds share it.
   */
  read(batch: DeviceBatch, lanes: number): number;
  /** Lanes that the last read() took their whole share from, so that they may have more, as bits. */
  readonly unread: number;
  /** Writes and clears the queue. Returns how many packets were refused; each packet of a super-packet counts. The rest went out. */
  write(queue: DeviceQueue): number;
  /** Packets that read() took from the kernel and could not return. */
  readonly unreadable: number;
  close(): void;
}

/** What carries datagrams to other nodes: UDP. */
export interface Underlay {
  readonly offloads: UnderlayOffloads;
  /** One descriptor, as those in Device.fds. */
  readonly fd: number;
  receive(batch: UnderlayBatch): number;
  /** Does what Device.write() does, with datagrams. */
  send(queue: UnderlayQueue): number;
  /** Datagrams that were lost because nothing received them in time. */
  readonly receiveDrops: number;
  /** Datagrams that send() has taken, and that failed later. */
  readonly failedLater: number;
  close(): void;
}
