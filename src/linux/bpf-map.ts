// Maps of bpf(2): what programs in the kernel and this process both read and write. A map is a descriptor, the same number in
// all threads; each thread has a BpfMap of its own over it, whose arguments, keys and values lie in a PacketMemory.
import type { PacketMemory } from "../packet/memory.ts";
import { BpfRequest, bpfError, COMMANDS, type Command } from "./bpf-request.ts";
import * as libc from "./libc.ts";

const TYPES = { hash: 1, array: 2, lruHash: 9 } as const;
const BPF_F_NO_PREALLOC = 0x1;
const BPF_F_MMAPABLE = 0x400;

export interface MapShape {
  type: keyof typeof TYPES;
  /** 4 in an array, whose keys are indices. */
  keyBytes: number;
  valueBytes: number;
  /** A hash holds at most these, an array always has them all. A full `lruHash` gives up one that was not used for long. */
  entries: number;
  /** The kernel keeps 15 bytes: letters, digits, '_' and '.'. */
  name: string;
  /** An array that mapArray() takes. */
  mmapable?: boolean;
  /** A hash has memory for the entries that are in it, not for all that it could hold. */
  growing?: boolean;
}

/** The shape in the kernel's numbers: type, bytes of a key and of a value, entries, flags. */
export function mapNumbers(shape: MapShape): readonly number[] {
  const { type, keyBytes, valueBytes, entries, mmapable, growing } = shape;
  const flags = (mmapable ? BPF_F_MMAPABLE : 0) | (growing ? BPF_F_NO_PREALLOC : 0);
  return [TYPES[type], keyBytes, valueBytes, entries, flags];
}

/** Makes a map. Its descriptor is the caller's to close; programs that use it hold it too. Throws SyscallError. */
export function createMap(shape: MapShape): number {
  const request = new BpfRequest();
  for (const [i, number] of mapNumbers(shape).entries()) request.u32(4 * i, number);
  return request.name(28, shape.name).call("BPF_MAP_CREATE", `the map ${shape.name}`);
}

// union bpf_attr for one element: map_fd, key, value, flags. A deletion's argument ends with the key.
const ONE_BYTES = 32;
const DELETE_BYTES = 16;
// For a batch: in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags.
const BATCH_BYTES = 56;
const IN_BATCH_AT = 0;
const OUT_BATCH_AT = 8;
const KEYS_AT = 16;
const VALUES_AT = 24;
const COUNT_AT = 32;
const MAP_FD_AT = 36;

/** A thread's way to a map. Its calls throw SyscallError for what they do not answer. Hot path: they must not allocate. */
export class BpfMap {
  readonly fd: number;
  readonly shape: MapShape;
  /** The most entries of a call with a batch. */
  readonly capacity: number;
  /** Offset in the memory of the key of calls for one element. */
  readonly key: number;
  /** Offset of its value. */
  readonly value: number;
  /** Offset of the keys of calls with a batch: `capacity` of them, `keyBytes` apart. */
  readonly keys: number;
  /** Offset of their values, `valueBytes` apart. */
  readonly values: number;
  readonly #u8: Uint8Array;
  readonly #i32: Int32Array;
  readonly #base: libc.Base;
  readonly #one: number;
  readonly #onePointer: bigint;
  readonly #batch: number;
  readonly #batchPointer: bigint;
  /** Where a look-up in batches goes on, in the kernel's terms. */
  readonly #cursor: number;
  #place: "start" | "middle" | "end" = "start";

  /** `shape` must be that with which the map behind `fd` was made; the kernel does not check it against these buffers. */
  constructor(memory: PacketMemory, fd: number, shape: MapShape, capacity = 0) {
    this.fd = fd;
    this.shape = shape;
    this.capacity = capacity;
    this.key = memory.alloc(shape.keyBytes);
    this.value = memory.alloc(shape.valueBytes);
    this.keys = memory.alloc(shape.keyBytes * capacity);
    this.values = memory.alloc(shape.valueBytes * capacity);
    this.#u8 = memory.u8;
    this.#i32 = memory.i32;
    this.#base = libc.baseOf(memory);
    this.#one = memory.alloc(ONE_BYTES);
    this.#onePointer = libc.pointerTo(memory, this.#one);
    this.#batch = memory.alloc(BATCH_BYTES);
    this.#batchPointer = libc.pointerTo(memory, this.#batch);
    this.#cursor = memory.alloc(Math.max(4, shape.keyBytes));
    this.#i32[this.#one >> 2] = fd;
    libc.putPointer(this.#i32, this.#one + 8, this.#base, this.key);
    libc.putPointer(this.#i32, this.#one + 16, this.#base, this.value);
    this.#i32[(this.#batch + MAP_FD_AT) >> 2] = fd;
    libc.putPointer(this.#i32, this.#batch + OUT_BATCH_AT, this.#base, this.#cursor);
  }

  /** Writes `value` under `key`, in the place of what is there. False: the map is full. */
  update(): boolean {
    if (libc.bpfAt(COMMANDS.BPF_MAP_UPDATE_ELEM, this.#onePointer, ONE_BYTES) === 0) return true;
    const errno = libc.errno();
    if (isFull(errno)) return false;
    throw this.#error("BPF_MAP_UPDATE_ELEM", errno);
  }

  /** Reads into `value` what is under `key`. False: nothing is. */
  lookup(): boolean {
    return this.#isFound("BPF_MAP_LOOKUP_ELEM", ONE_BYTES);
  }
  /** Makes the key at `index` of `keys` that of the calls for one element. */
  aimAt(index: number): void {
    const { keyBytes } = this.shape;
    this.#copy(this.keys + index * keyBytes, this.key, keyBytes);
  }

  /** Moves a key and its value to another index of the batch. */
  move(from: number, to: number): void {
    const { keyBytes, valueBytes } = this.shape;
    this.#copy(this.keys + from * keyBytes, this.keys + to * keyBytes, keyBytes);
    this.#copy(this.values + from * valueBytes, this.values + to * valueBytes, valueBytes);
  }

  #copy(from: number, to: number, bytes: number): void {
    this.#u8.copyWithin(to, from, from + bytes);
  }

  /** Removes what is under `key`. False: nothing is. */
  delete(): boolean {
    return this.#isFound("BPF_MAP_DELETE_ELEM", DELETE_BYTES);
  }
  /** Reads into `value` what is under `key`, and removes it, in one step. False: nothing is. */
  lookupAndDelete(): boolean {
    return this.#isFound("BPF_MAP_LOOKUP_AND_DELETE_ELEM", ONE_BYTES);
  }

  #isFound(command: Command, bytes: number): boolean {
    if (libc.bpfAt(COMMANDS[command], this.#onePointer, bytes) === 0) return true;
    const errno = libc.errno();
    if (errno === libc.Errno.NoEntry) return false;
    throw this.#error(command, errno);
  }

  /**
   * Writes `values` under `keys`, `count` of them from index `first` on. Returns how many were written: fewer where the map is
   * full or gets no memory, and then the rest was not tried.
   */
  updateBatch(count: number, first = 0): number {
    this.#aim(count, first);
    if (libc.bpfAt(COMMANDS.BPF_MAP_UPDATE_BATCH, this.#batchPointer, BATCH_BYTES) === 0) return this.#done();
    const errno = libc.errno();
    if (!isFull(errno)) throw this.#error("BPF_MAP_UPDATE_BATCH", errno);
    return this.#done() < count ? this.#done() : 0; // a kernel without memory for the call itself leaves the count as it is
  }

  /** Lets lookupBatch() begin with the first entry. */
  rewind(): void {
    this.#place = "start";
  }

  /**
   * Reads the next entries into `keys` and `values`, and returns how many; 0 after the last one. What is written meanwhile may
   * be missed. A capacity below the entries of one of the map's buckets is ENOSPC: 256 are far above any.
   */
  lookupBatch(): number {
    if (this.capacity === 0) throw new RangeError(`the batches of ${this.shape.name} have no entries`);
    if (this.#place === "end") return 0;
    this.#aim(this.capacity, 0);
    if (this.#place === "start") libc.putSize(this.#i32, this.#batch + IN_BATCH_AT, 0);
    else libc.putPointer(this.#i32, this.#batch + IN_BATCH_AT, this.#base, this.#cursor);
    this.#place = "middle";
    if (libc.bpfAt(COMMANDS.BPF_MAP_LOOKUP_BATCH, this.#batchPointer, BATCH_BYTES) === 0) return this.#done();
    const errno = libc.errno();
    if (errno !== libc.Errno.NoEntry) throw this.#error("BPF_MAP_LOOKUP_BATCH", errno);
    this.#place = "end";
    return this.#done();
  }

  #aim(count: number, first: number): void {
    if (first + count > this.capacity) {
      throw new RangeError(`${first + count} entries, where the batches of ${this.shape.name} have ${this.capacity}`);
    }
    libc.putPointer(this.#i32, this.#batch + KEYS_AT, this.#base, this.keys + first * this.shape.keyBytes);
    libc.putPointer(this.#i32, this.#batch + VALUES_AT, this.#base, this.values + first * this.shape.valueBytes);
    this.#i32[(this.#batch + COUNT_AT) >> 2] = count;
  }

  /** Entries that the kernel did of the last batch. */
  #done(): number {
    return this.#i32[(this.#batch + COUNT_AT) >> 2]!;
  }

  #error(command: Command, errno: number): libc.SyscallError {
    return bpfError(command, `the map ${this.shape.name}`, errno);
  }
}

function isFull(errno: number): boolean {
  return errno === libc.Errno.TooBig || errno === libc.Errno.NoMemory;
}
