// struct mmsghdr and iovec of outgoing messages, written into packet memory for sendmmsg(2). What is before the payload, where a
// message goes and what the kernel is told beside is the business of its user (datagram-list.ts, link-sender.ts).
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";

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

interface MessageListOptions {
  maxMessages: number;
  maxSlices: number;
  /** Bytes of each message's address, a multiple of four. */
  nameBytes: number;
  /** Bytes that a message's control messages take at most, a multiple of eight. */
  controlBytes?: number;
}

/** Messages in the order in which they were finished. For each, call slice() for its pieces and then finish(). Hot path: must not allocate. */
export class MessageList {
  readonly maxMessages: number;
  readonly maxSlices: number;
  messages = 0;
  slices = 0;
  readonly #memory: PacketMemory;
  readonly #base: libc.Base;
  readonly #headers: number;
  readonly #headerPointers: readonly bigint[];
  readonly #names: number;
  readonly #nameBytes: number;
  readonly #controls: number;
  readonly #controlBytes: number;
  readonly #iovecs: number;
  #firstSlice = 0;

  constructor(memory: PacketMemory, { maxMessages, maxSlices, nameBytes, controlBytes = 0 }: MessageListOptions) {
    this.maxMessages = maxMessages;
    this.maxSlices = maxSlices;
    this.#memory = memory;
    this.#base = libc.baseOf(memory);
    this.#headers = memory.alloc(MMSGHDR_BYTES * maxMessages);
    this.#headerPointers = Array.from({ length: maxMessages }, (_, i) =>
      libc.pointerTo(memory, this.#headers + MMSGHDR_BYTES * i),
    );
    this.#nameBytes = nameBytes;
    this.#names = memory.alloc(nameBytes * maxMessages);
    this.#controlBytes = controlBytes;
    this.#controls = memory.alloc(controlBytes * maxMessages);
    this.#iovecs = memory.alloc(libc.IOVEC_BYTES * maxSlices);
    for (let i = 0; i < maxMessages; i++) this.#prepare(i);
  }

  #prepare(message: number): void {
    const { i32 } = this.#memory;
    const header = this.#headers + MMSGHDR_BYTES * message;
    libc.putPointer(i32, header + NAME_AT, this.#base, this.nameOf(message));
    i32[(header + NAME_LENGTH_AT) >> 2] = this.#nameBytes;
    if (this.#controlBytes > 0) libc.putPointer(i32, header + CONTROL_AT, this.#base, this.controlOf(message));
  }

  /** The offset of a message's address, which stays as it is when the list is cleared. */
  nameOf(message: number): number {
    return this.#names + this.#nameBytes * message;
  }

  /** The offset of a message's control messages, which stay as they are when the list is cleared. */
  controlOf(message: number): number {
    return this.#controls + this.#controlBytes * message;
  }

  clear(): void {
    this.messages = 0;
    this.slices = 0;
    this.#firstSlice = 0;
  }

  /** Adds `bytes` of the packet memory at `offset` to the next message. */
  slice(offset: number, bytes: number): void {
    libc.putIovec(this.#memory.i32, this.#iovecs + libc.IOVEC_BYTES * this.slices++, this.#base, offset, bytes);
  }

  /** Ends the next message; `controlBytes` of its control messages count. */
  finish(controlBytes: number): void {
    const { i32 } = this.#memory;
    const header = this.#headers + MMSGHDR_BYTES * this.messages++;
    libc.putPointer(i32, header + IOV_AT, this.#base, this.#iovecs + libc.IOVEC_BYTES * this.#firstSlice);
    libc.putSize(i32, header + IOV_LENGTH_AT, this.slices - this.#firstSlice);
    libc.putSize(i32, header + CONTROL_LENGTH_AT, controlBytes);
    this.#firstSlice = this.slices;
  }

  /** Calls sendmmsg(2) for the messages from `first` up to `end`. Returns how many were sent, or -1 when the first of them failed. */
  send(fd: number, first: number, end: number): number {
    return libc.sendmmsg(fd, this.#headerPointers[first]!, end - first, 0);
  }
}
