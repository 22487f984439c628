// poll(2) over a fixed set of file descriptors and an eventfd, through which another thread ends the wait.
import { writeSync } from "node:fs";
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const POLLIN = 1;
const POLLFD_BYTES = 8; // fd i32, events u16, revents u16
const MAX_FDS = 30;
const ONE = Buffer.from(BigUint64Array.of(1n).buffer);

/** Ends the wait, or the next one, of the poller with this eventfd. For any thread. */
export function wakePoller(eventFd: number): void {
  writeSync(eventFd, ONE);
}

export class Poller {
  /** What wakePoller() takes. */
  readonly eventFd: number;
  /** The bit of wait()'s answer that says wakePoller() was called. */
  readonly wokenBit: number;
  readonly #memory: PacketMemory;
  readonly #count: number;
  readonly #pollFds: number;
  readonly #pollFdsPointer: bigint;
  readonly #counterPointer: bigint;

  /** `fds`: at most 30; one below zero is never ready. */
  constructor(memory: PacketMemory, fds: readonly number[]) {
    if (fds.length > MAX_FDS) throw new RangeError(`${fds.length} file descriptors, at most ${MAX_FDS}`);
    this.eventFd = libc.checked("eventfd", libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    this.wokenBit = 1 << fds.length;
    this.#memory = memory;
    this.#count = fds.length + 1;
    this.#pollFds = memory.alloc(POLLFD_BYTES * this.#count);
    this.#pollFdsPointer = libc.pointerTo(memory, this.#pollFds);
    this.#counterPointer = libc.pointerTo(memory, memory.alloc(8));
    [...fds, this.eventFd].forEach((fd, i) => {
      memory.i32[(this.#pollFds + POLLFD_BYTES * i) >> 2] = fd;
      memory.u16[(this.#pollFds + POLLFD_BYTES * i + 4) >> 1] = POLLIN;
    });
  }

  /**
   * Blocks until a descriptor is ready, someone wakes, or `timeoutMs` passed (0: lets others have the processor, and
   * looks; -1: for ever). Bit i of the answer: fds[i] has something to read, or an error to say on the next read. Hot
   * path: must not allocate.
   */
  wait(timeoutMs: number): number {
    if (timeoutMs === 0) libc.schedYield();
    const ready = libc.poll(this.#pollFdsPointer, this.#count, timeoutMs);
    if (ready < 0 && libc.errno() !== libc.Errno.Intr) throw libc.syscallError("poll");
    return ready <= 0 ? 0 : this.#readyBits();
  }

  /** As wait(), while this thread's event loop goes on. One at a time. */
  async waitAsync(timeoutMs: number): Promise<number> {
    const ready = await libc.pollAsync(this.#pollFdsPointer, this.#count, timeoutMs);
    return ready <= 0 ? 0 : this.#readyBits();
  }

  #readyBits(): number {
    let bits = 0;
    for (let i = 0; i < this.#count; i++) {
      if (this.#memory.u16[(this.#pollFds + POLLFD_BYTES * i + 6) >> 1] !== 0) bits |= 1 << i;
    }
    if ((bits & this.wokenBit) !== 0) libc.read(this.eventFd, this.#counterPointer, 8);
    return bits;
  }

  close(): void {
    libc.close(this.eventFd);
  }
}
