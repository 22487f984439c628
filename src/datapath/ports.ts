// The two sides of the data path, as it sees them, and the express lane between them. linux/ implements the sides over libc,
// dgram-underlay.ts is the portable underlay, express/ has the lane, and test/fakes/ has all of them without a kernel.
import type { Ipv4 } from "../lib/ip.ts";
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

/** What flows stand on, as the lane counts it. Each loss makes void what entered before, in every worker. */
export interface Grounds {
  /** Flows with an end, a VIP or a VTEP of this address are not in the lane any more; OUTSIDE: those of clients of published ports. */
  lose(address: Ipv4): void;
  /** No flow is. */
  loseAll(): void;
}

/** What the lane has counted of an entry. Packets and bytes only grow while the flow lives. */
export interface LaneReading {
  packets: number;
  /** Bytes of IP packets. */
  bytes: number;
  /** The second of the flows' clock in which it last carried a packet; 0: never. */
  seenSeconds: number;
  // The numbers of the last TCP segment that it carried: the one after it, and what it acknowledges.
  nextSequence: number;
  acknowledgment: number;
}

/**
 * The kernel's way for flows that this agent has decided. An entry of the flow table may have an entry there, and then its plain packets
 * come to the agent no more. Several workers share one lane as they share the flow table: any of them may write, read and take out
 * any entry. What an entry stands on is counted: it carries nothing once one of its five grounds was lost after its sum was taken.
 */
export interface ExpressLane extends Grounds {
  /** Whether flows may enter. While they may not, the lane carries nothing either. */
  readonly isOn: boolean;
  /** Entries of this worker that the lane had no room for. */
  readonly refused: number;
  /** The sum of the counters of the five grounds that FlowCheck.hasLostGround() names; VIP 0 and DEVICE never count. Hot path. */
  groundSum(client: Ipv4, server: Ipv4, vip: Ipv4, from: Ipv4, to: Ipv4): number;
  /**
   * Queues the writing of an entry of the flow with this version, which counts on from what the flow table has of the lane's counters.
   * `groundSum` was taken by this worker since it last changed its tables. What the entry says is read before the call returns.
   * `mtu` is the largest packet that passes there, `port` the UDP port of the peer that it goes to; 0: to none. False: it has no link to
   * go by, and its mark says that it was refused.
   */
  enter(entry: number, version: number, groundSum: number, mtu: number, port: number): boolean;
  /**
   * Writes what is queued. When it returns, each entry that was queued, but whose flow went meanwhile, lost its Ride bit to another worker
   * or was judged anew by it, is out of the lane again, and the mark of each that the lane had no room for says so. Cheap when nothing is
   * queued.
   */
  flush(): void;
  /** Reads what the lane has counted of an entry, if its flow is the one with this version; false: it is not in the lane. */
  read(entry: number, version: number, reading: LaneReading): boolean;
  /** Takes the entry out at once, and reads what it has counted until then. */
  take(entry: number, version: number, reading: LaneReading): boolean;
}

/**
 * AES-256-GCM with one key and its salt, as ESP has it (RFC 4106): the nonce is salt and IV, the SPI and the sequence are authenticated too. It
 * belongs to one thread. The words are taken as their 32 bits.
 */
export interface Aead {
  /** Encrypts `bytes` in place, and writes the ICV of 16 bytes behind them. Hot path: must not allocate. */
  seal(spi: number, sequence: number, ivHigh: number, ivLow: number, at: number, bytes: number): void;
  /** Decrypts `bytes` in place, with the ICV behind them. False: they are not genuine, and what is there means nothing. Hot path. */
  open(spi: number, sequence: number, ivHigh: number, ivLow: number, at: number, bytes: number): boolean;
  /** Forgets the key. It is not to be used any more. */
  close(): void;
}

/** Where a thread's keys come from; `key` has 36 bytes: the AES key and the salt (RFC 4106 section 8.1). */
export interface AeadKeys {
  sealing(key: Uint8Array): Aead;
  opening(key: Uint8Array): Aead;
}

/** The way of sealed packets to and from other nodes. */
export interface SealedSide {
  /** Sockets of their own: what comes there is sealed, and nothing clear goes out there. */
  underlay: Underlay;
  keys: AeadKeys;
}
