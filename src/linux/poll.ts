// epoll(7) over a fixed set of file descriptors and an eventfd, through which another thread ends the wait. It costs what is
// ready, where poll(2) costs every descriptor at every look.
import { writeSync } from "node:fs";
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const EPOLL_CLOEXEC = 0x80000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLLIN = 1;
/** Bytes of a struct epoll_event: events u32, data u64, which only x86-64 packs. */
export const EVENT_BYTES = process.arch === "x64" ? 12 : 16;
export const DATA_AT = EVENT_BYTES - 8;
const MAX_FDS = 30;
const ONE = Buffer.from(BigUint64Array.of(1n).buffer);

/** Ends the wait, or the next one, of the poller with this eventfd. For any thread. */
export function wakePoller(eventFd: number): void {
  writeSync(eventFd, ONE);
}

export class Poller {
  /** The argument of wakePoller(). */
  readonly eventFd: number;
  /** The bit of wait()'s answer that says wakePoller() was called: above those of the descriptors. */
  readonly wokenBit = 1 << MAX_FDS;
  readonly #memory: PacketMemory;
  readonly #epoll: number;
  readonly #most: number;
  readonly #events: number;
  readonly #eventsPointer: bigint;
  readonly #counterPointer: bigint;

  /** `fds`: at most 30; one below zero is never ready. */
  constructor(memory: PacketMemory, fds: readonly number[]) {
    if (fds.length > MAX_FDS) throw new RangeError(`${fds.length} file descriptors, at most ${MAX_FDS}`);
    this.eventFd = libc.checked("eventfd", libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    this.#epoll = libc.checked("epoll_create1", libc.epollCreate(EPOLL_CLOEXEC));
    this.#memory = memory;
    this.#most = fds.length + 1;
    this.#events = memory.alloc(EVENT_BYTES * this.#most);
    this.#eventsPointer = libc.pointerTo(memory, this.#events);
    this.#counterPointer = libc.pointerTo(memory, memory.alloc(8));
    for (const [i, fd] of fds.entries()) if (fd >= 0) this.#add(fd, 1 << i);
    this.#add(this.eventFd, this.wokenBit);
  }

  #add(fd: number, bit: number): void {
    const event = Buffer.alloc(EVENT_BYTES);
    event.writeUInt32LE(EPOLLIN, 0);
    event.writeUInt32LE(bit, DATA_AT);
    libc.checked("epoll_ctl", libc.epollCtl(this.#epoll, EPOLL_CTL_ADD, fd, event));
  }

  /**
   * Blocks until a descriptor is ready, another thread wakes it, or `timeoutMs` passed (0: yields the processor and looks;
   * -1: for ever). Bit i of the answer: fds[i] has something to read, or an error for the next read. Hot path: must not
   * allocate.
   */
  wait(timeoutMs: number): number {
    if (timeoutMs === 0) libc.schedYield();
    const ready = libc.epollWait(this.#epoll, this.#eventsPointer, this.#most, timeoutMs);
    if (ready < 0 && libc.errno() !== libc.Errno.Intr) throw libc.syscallError("epoll_wait");
    return ready <= 0 ? 0 : this.#readyBits(ready);
  }

  /** The descriptors that are ready now, as wait() returns them, without a yield of the processor. Hot path: must not allocate. */
  look(): number {
    const ready = libc.epollWait(this.#epoll, this.#eventsPointer, this.#most, 0);
    return ready <= 0 ? 0 : this.#readyBits(ready);
  }

  /** As wait(), while this thread's event loop goes on. One at a time. */
  async waitAsync(timeoutMs: number): Promise<number> {
    const ready = await libc.epollWaitAsync(this.#epoll, this.#eventsPointer, this.#most, timeoutMs);
    return ready <= 0 ? 0 : this.#readyBits(ready);
  }

  #readyBits(ready: number): number {
    const { i32 } = this.#memory;
    let bits = 0;
    for (let i = 0; i < ready; i++) bits |= i32[(this.#events + EVENT_BYTES * i + DATA_AT) >> 2]!;
    if ((bits & this.wokenBit) !== 0) libc.read(this.eventFd, this.#counterPointer, 8);
    return bits;
  }

  close(): void {
    libc.close(this.#epoll);
    libc.close(this.eventFd);
  }
}
