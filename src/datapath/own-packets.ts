// Room for packets that the agent makes itself. A queue refers to a packet until it is flushed, so the slots are used in turn and the
// queues are flushed before a slot is used again.
import type { PacketMemory } from "../packet/memory.ts";
import { HEADROOM_BYTES } from "./batch.ts";

const SLOTS = 64;

export class OwnPackets {
  readonly #first: number;
  readonly #stride: number;
  readonly #flush: () => void;
  #next = 0;

  /** `flush` writes out the queues that refer to the slots. */
  constructor(memory: PacketMemory, bytes: number, flush: () => void) {
    this.#stride = HEADROOM_BYTES + Math.ceil(bytes / 4) * 4;
    this.#first = memory.alloc(SLOTS * this.#stride) + HEADROOM_BYTES;
    this.#flush = flush;
  }

  /** The offset of a free slot, with HEADROOM_BYTES free before it. */
  take(): number {
    if (this.#next === SLOTS) {
      this.#flush();
      this.#next = 0;
    }
    return this.#first + this.#next++ * this.#stride;
  }
}
