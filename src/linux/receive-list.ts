// struct mmsghdr and control messages of incoming datagrams, for recvmmsg(2) straight into a batch's buffers.
import type { UnderlayBatch } from "../datapath/batch.ts";
import { get32 } from "../lib/bytes.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { CMSG_BYTES, SOCKADDR_BYTES } from "./datagram-list.ts";
import * as libc from "./libc.ts";
import * as message from "./message-list.ts";
import { ControlMessage, Level } from "./sockets.ts";

const MAX_MESSAGES = 64;
/** More than the largest UDP payload. */
const BUFFER_BYTES = 65536;
const MSG_TRUNC = 0x20;
const NO_TIMEOUT = 0n;
const CONTROL_BYTES = 3 * (CMSG_BYTES + 8);

export class ReceiveList {
  /** Datagrams that the kernel dropped for want of room. */
  drops = 0;
  truncated = 0;
  readonly #memory: PacketMemory;
  readonly #base: libc.Base;
  readonly #headers: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #iovecs: number;
  readonly #headersPointer: bigint;
  #batch: UnderlayBatch | undefined;

  constructor(memory: PacketMemory) {
    this.#memory = memory;
    this.#base = libc.baseOf(memory);
    this.#headers = memory.alloc(message.MMSGHDR_BYTES * MAX_MESSAGES);
    this.#headersPointer = libc.pointerTo(memory, this.#headers);
    this.#names = memory.alloc(SOCKADDR_BYTES * MAX_MESSAGES);
    this.#controls = memory.alloc(CONTROL_BYTES * MAX_MESSAGES);
    this.#iovecs = memory.alloc(libc.IOVEC_BYTES * MAX_MESSAGES);
    const { i32 } = memory;
    for (let i = 0; i < MAX_MESSAGES; i++) {
      const header = this.#headers + message.MMSGHDR_BYTES * i;
      libc.putPointer(i32, header + message.NAME_AT, this.#base, this.#names + SOCKADDR_BYTES * i);
      libc.putPointer(i32, header + message.IOV_AT, this.#base, this.#iovecs + libc.IOVEC_BYTES * i);
      libc.putSize(i32, header + message.IOV_LENGTH_AT, 1);
      libc.putPointer(i32, header + message.CONTROL_AT, this.#base, this.#controls + CONTROL_BYTES * i);
      this.#rearm(i);
    }
  }

  /** Fills the batch with what waits; returns how many. Hot path: must not allocate. */
  receive(fd: number, batch: UnderlayBatch): number {
    if (batch !== this.#batch) this.#aim(batch);
    const room = Math.min(batch.capacity, MAX_MESSAGES);
    const received = libc.recvmmsg(fd, this.#headersPointer, room, 0, NO_TIMEOUT);
    if (received < 0) {
      const errno = libc.errno();
      if (errno !== libc.Errno.Again && errno !== libc.Errno.Intr) throw libc.syscallError("recvmmsg", errno);
      batch.count = 0;
      return 0;
    }
    for (let i = 0; i < received; i++) {
      this.#decode(batch, i);
      this.#rearm(i);
    }
    batch.count = received;
    return received;
  }

  #aim(batch: UnderlayBatch): void {
    this.#batch = batch;
    for (let i = 0; i < Math.min(batch.capacity, MAX_MESSAGES); i++) {
      const at = this.#iovecs + libc.IOVEC_BYTES * i;
      libc.putIovec(this.#memory.i32, at, this.#base, batch.offset[i]!, BUFFER_BYTES);
    }
  }

  /** The kernel shortened these to what it wrote. */
  #rearm(i: number): void {
    const { i32 } = this.#memory;
    const header = this.#headers + message.MMSGHDR_BYTES * i;
    i32[(header + message.NAME_LENGTH_AT) >> 2] = SOCKADDR_BYTES;
    libc.putSize(i32, header + message.CONTROL_LENGTH_AT, CONTROL_BYTES);
  }

  #decode(batch: UnderlayBatch, i: number): void {
    const { i32, u8 } = this.#memory;
    const header = this.#headers + message.MMSGHDR_BYTES * i;
    let length = i32[(header + message.LENGTH_AT) >> 2]!;
    if ((i32[(header + message.FLAGS_AT) >> 2]! & MSG_TRUNC) !== 0) {
      this.truncated++;
      length = 0; // a packet of no bytes is dropped as too short
    }
    batch.length[i] = length;
    batch.source[i] = get32(u8, this.#names + SOCKADDR_BYTES * i + 4);
    batch.segmentBytes[i] = length;
    batch.tos[i] = 0;
    this.#decodeControl(batch, i, i32[(header + message.CONTROL_LENGTH_AT) >> 2]!);
  }

  #decodeControl(batch: UnderlayBatch, i: number, bytes: number): void {
    const { i32, u8 } = this.#memory;
    const first = this.#controls + CONTROL_BYTES * i;
    for (let at = first; at + CMSG_BYTES <= first + bytes; ) {
      const length = i32[at >> 2]!;
      if (length < CMSG_BYTES) return;
      const level = i32[(at + 8) >> 2]!;
      const type = i32[(at + 12) >> 2]!;
      const value = at + CMSG_BYTES;
      if (level === Level.Udp && type === ControlMessage.UdpGro) batch.segmentBytes[i] = i32[value >> 2]!;
      else if (level === Level.Ip && type === ControlMessage.Tos) batch.tos[i] = u8[value]!;
      else if (level === Level.Socket && type === ControlMessage.ReceiveOverflow) this.drops = i32[value >> 2]! >>> 0;
      at += (length + 7) & ~7;
    }
  }
}
