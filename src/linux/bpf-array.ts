// The values of an array of bpf(2), mapped into this process: what a program reads there is a store of this process away.
import type { MapShape } from "./bpf-map.ts";
import * as libc from "./libc.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const VALUE_ALIGNMENT = 8;

export interface MappedArray {
  /** The values. Atomics work on it, from several threads too. It must not be touched after close(). */
  readonly buffer: ArrayBuffer;
  /** Bytes from one value to the next: a value's, rounded up to a multiple of 8. */
  readonly stride: number;
  close(): void;
}

/** Maps the array behind `fd`, which was made with `shape`: each thread for itself. Throws SyscallError. */
export function mapArray(fd: number, shape: MapShape): MappedArray {
  const stride = Math.ceil(shape.valueBytes / VALUE_ALIGNMENT) * VALUE_ALIGNMENT;
  const bytes = stride * shape.entries;
  const address = libc.mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address === -1) throw libc.syscallError(`mmap of the map ${shape.name}`);
  return {
    buffer: libc.bufferAt(address, bytes),
    stride,
    close: () => libc.checked("munmap", libc.munmap(address, bytes)),
  };
}
