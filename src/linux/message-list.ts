// struct mmsghdr, iovec and control messages of outgoing datagrams, written into packet memory for sendmmsg(2).
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";
import { ControlMessage, Family, Level } from "./sockets.ts";

// struct mmsghdr: msg_name, msg_namelen, msg_iov, msg_iovlen, msg_control, msg_controllen, msg_flags; msg_len
export const MMSGHDR_BYTES = 64;
export const NAME_AT = 0;
export const NAME_LENGTH_AT = 8;
export const IOV_AT = 16;
export const IOV_LENGTH_AT = 24;
export const CONTROL_AT = 32;
export const CONTROL_LENGTH_AT = 40;
export const FLAGS_AT = 48;
export const LENGTH_AT = 56;

// struct sockaddr_in: family u16, port u16, address u32, zero
export const SOCKADDR_BYTES = 16;

// struct cmsghdr: length size_t, level i32, type i32; then the value, all rounded up to 8
export const CMSG_BYTES = 16;
const TOS_CMSG_BYTES = CMSG_BYTES + 8;
const SEGMENT_CMSG_BYTES = CMSG_BYTES + 8;

/**
 * Messages in the order they were finished, each made by slice() for its pieces and finish(). Hot path: nothing here
 * allocates.
 */
export class MessageList {
  readonly maxMessages: number;
  readonly maxSlices: number;
  messages = 0;
  slices = 0;
  readonly #memory: PacketMemory;
  readonly #base: libc.Base;
  readonly #headers: number;
  readonly #names: number;
  readonly #controls: number;
  readonly #iovecs: number;
  readonly #headerPointers: readonly bigint[];
  #firstSlice = 0;

  constructor(memory: PacketMemory, maxMessages: number, maxSlices: number) {
    this.maxMessages = maxMessages;
    this.maxSlices = maxSlices;
    this.#memory = memory;
    this.#base = libc.baseOf(memory);
    this.#headers = memory.alloc(MMSGHDR_BYTES * maxMessages);
    this.#headerPointers = Array.from({ length: maxMessages }, (_, i) =>
      libc.pointerTo(memory, this.#headers + MMSGHDR_BYTES * i),
    );
    this.#names = memory.alloc(SOCKADDR_BYTES * maxMessages);
    this.#controls = memory.alloc((TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES) * maxMessages);
    this.#iovecs = memory.alloc(libc.IOVEC_BYTES * maxSlices);
    for (let i = 0; i < maxMessages; i++) this.#prepare(i);
  }

  #prepare(message: number): void {
    const { i32, u16 } = this.#memory;
    const header = this.#headers + MMSGHDR_BYTES * message;
    const name = this.#names + SOCKADDR_BYTES * message;
    const control = this.#controls + (TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES) * message;
    libc.putPointer(i32, header + NAME_AT, this.#base, name);
    libc.putPointer(i32, header + CONTROL_AT, this.#base, control);
    i32[(header + NAME_LENGTH_AT) >> 2] = SOCKADDR_BYTES;
    u16[name >> 1] = Family.Inet;
    putCmsg(i32, control, CMSG_BYTES + 4, Level.Ip, ControlMessage.Tos);
    putCmsg(i32, control + TOS_CMSG_BYTES, CMSG_BYTES + 2, Level.Udp, ControlMessage.UdpSegment);
  }

  clear(): void {
    this.messages = 0;
    this.slices = 0;
    this.#firstSlice = 0;
  }

  /** `bytes` of the packet memory at `offset`. */
  slice(offset: number, bytes: number): void {
    libc.putIovec(this.#memory.i32, this.#iovecs + libc.IOVEC_BYTES * this.slices++, this.#base, offset, bytes);
  }

  /** `segmentBytes` 0: one datagram. */
  finish(address: number, port: number, segmentBytes: number, tos: number): void {
    const { u8, u16, i32 } = this.#memory;
    const message = this.messages++;
    const header = this.#headers + MMSGHDR_BYTES * message;
    const name = this.#names + SOCKADDR_BYTES * message;
    const control = this.#controls + (TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES) * message;
    u8[name + 2] = port >>> 8;
    u8[name + 3] = port;
    u8[name + 4] = address >>> 24;
    u8[name + 5] = address >>> 16;
    u8[name + 6] = address >>> 8;
    u8[name + 7] = address;
    libc.putPointer(i32, header + IOV_AT, this.#base, this.#iovecs + libc.IOVEC_BYTES * this.#firstSlice);
    libc.putSize(i32, header + IOV_LENGTH_AT, this.slices - this.#firstSlice);
    i32[(control + CMSG_BYTES) >> 2] = tos;
    u16[(control + TOS_CMSG_BYTES + CMSG_BYTES) >> 1] = segmentBytes;
    const controlBytes = segmentBytes === 0 ? TOS_CMSG_BYTES : TOS_CMSG_BYTES + SEGMENT_CMSG_BYTES;
    libc.putSize(i32, header + CONTROL_LENGTH_AT, controlBytes);
    this.#firstSlice = this.slices;
  }

  /** sendmmsg(2) of the messages from `first` up to `end`: how many were sent, or -1 when the first of them failed. */
  send(fd: number, first: number, end: number): number {
    return libc.sendmmsg(fd, this.#headerPointers[first]!, end - first, 0);
  }
}

function putCmsg(i32: Int32Array, at: number, length: number, level: number, type: number): void {
  libc.putSize(i32, at, length);
  i32[(at + 8) >> 2] = level;
  i32[(at + 12) >> 2] = type;
}
