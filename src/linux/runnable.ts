// How many threads of the machine run or wait for a processor, from /proc/loadavg, proc_loadavg(5).
import { closeSync, openSync } from "node:fs";
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";

const PATH = "/proc/loadavg";
/** The line is "0.20 0.18 0.12 3/80 11206": three averages, the threads that run or wait, all of them, the last process. */
const LINE_BYTES = 128;
/** Spaces before the number. */
const SPACES = 3;
const SPACE = 0x20;
const ZERO = 0x30;

export class RunnableThreads {
  readonly #fd: number;
  readonly #u8: Uint8Array;
  readonly #line: number;
  readonly #pointer: bigint;

  /** Throws where there is no such file, as in a /proc of processes alone (subset=pid). */
  constructor(memory: PacketMemory, path = PATH) {
    this.#fd = openSync(path, "r");
    this.#u8 = memory.u8;
    this.#line = memory.alloc(LINE_BYTES);
    this.#pointer = libc.pointerTo(memory, this.#line);
  }

  /** The caller's thread is one of them. 0: the kernel did not say. Hot path: must not allocate. */
  count(): number {
    const end = this.#line + libc.pread(this.#fd, this.#pointer, LINE_BYTES, 0);
    const u8 = this.#u8;
    let at = this.#line;
    for (let spaces = 0; spaces < SPACES && at < end; at++) if (u8[at] === SPACE) spaces++;
    let threads = 0;
    for (; at < end; at++) {
      const digit = u8[at]! - ZERO;
      if (digit < 0 || digit > 9) break;
      threads = 10 * threads + digit;
    }
    return threads;
  }

  close(): void {
    closeSync(this.#fd);
  }
}
