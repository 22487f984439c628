// The memory that packets live in: one WebAssembly.Memory of fixed size, so that system calls, typed arrays and
// WebAssembly work on the same bytes and it never moves. Offsets into it are what the data path passes around.

const PAGE_BYTES = 65536;
const CACHE_LINE_BYTES = 64;

export class PacketMemory {
  readonly memory: WebAssembly.Memory;
  readonly u8: Uint8Array;
  /** For the fields of packets on the hot path: a load and a swap, where bytes would be four loads. */
  readonly view: DataView;
  /** Host order, for structures of the kernel; even offsets only. */
  readonly u16: Uint16Array;
  /** Host order; offsets of multiples of four only. */
  readonly i32: Int32Array;
  #next = CACHE_LINE_BYTES; // offset 0 stays unused, so that 0 can mean none

  constructor(bytes: number) {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.u8 = new Uint8Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.u16 = new Uint16Array(this.memory.buffer);
    this.i32 = new Int32Array(this.memory.buffer);
  }

  /** Takes `bytes` for good, aligned to a cache line, zeroed; returns their offset. */
  alloc(bytes: number): number {
    const offset = this.#next;
    this.#next += Math.ceil(bytes / CACHE_LINE_BYTES) * CACHE_LINE_BYTES;
    if (this.#next > this.u8.length) throw new RangeError("packet memory is used up");
    return offset;
  }
}
