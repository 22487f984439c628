// The ends of processes, of any parent: pidfd_open(2) gives a descriptor that becomes readable when its process ends, and one
// epoll(7) holds all of them. To ask who has ended costs one system call, however many processes there are.
import * as libc from "./libc.ts";
import { DATA_AT, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLLIN, EVENT_BYTES } from "./poll.ts";

const EPOLL_CLOEXEC = 0x80000;
/** Ends that one system call tells of. */
const MOST_EVENTS = 64;

export class ProcessEnds {
  readonly #epoll: number;
  readonly #events = Buffer.alloc(EVENT_BYTES * MOST_EVENTS);
  // BOUNDED: by the processes that are waited for; the descriptors of their pidfds.
  readonly #pidfds = new Set<number>();

  constructor() {
    this.#epoll = libc.checked("epoll_create1", libc.epollCreate(EPOLL_CLOEXEC));
  }

  /**
   * Waits for the process; returns the handle that take() and remove() know it by. A process that has ended already is among
   * the next that take() returns, if its parent has not heard of it; else there is no such process. Throws SyscallError.
   */
  add(pid: number): number {
    const pidfd = libc.checked("pidfd_open", libc.pidfdOpen(pid));
    const event = Buffer.alloc(EVENT_BYTES);
    event.writeUInt32LE(EPOLLIN, 0);
    event.writeUInt32LE(pidfd, DATA_AT);
    if (libc.epollCtl(this.#epoll, EPOLL_CTL_ADD, pidfd, event) < 0) {
      const error = libc.syscallError("epoll_ctl");
      libc.close(pidfd);
      throw error;
    }
    this.#pidfds.add(pidfd);
    return pidfd;
  }

  /** Waits for it no more. One that take() has returned is gone already. */
  remove(handle: number): void {
    if (!this.#pidfds.delete(handle)) return;
    // Closing alone would leave it in the epoll while a child that is being started has it as well.
    libc.epollCtl(this.#epoll, EPOLL_CTL_DEL, handle, this.#events);
    libc.close(handle);
  }

  /** The processes that have ended since the last call, by their handles, which are not valid any more. */
  take(): number[] {
    const ended: number[] = [];
    for (;;) {
      const ready = libc.epollTake(this.#epoll, this.#events, MOST_EVENTS, 0);
      for (let i = 0; i < ready; i++) ended.push(this.#events.readUInt32LE(EVENT_BYTES * i + DATA_AT));
      for (const handle of ended) this.remove(handle);
      if (ready < MOST_EVENTS) return ended;
    }
  }

  close(): void {
    for (const handle of [...this.#pidfds]) this.remove(handle);
    libc.close(this.#epoll);
  }
}
