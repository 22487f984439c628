// The C library: the one place that declares foreign functions. Structures are written into a PacketMemory as 32-bit
// halves, and pointers to them are BigInts made once: an address as a number would cost 16 bytes in every call.
// A call that fails returns -1 and leaves errno().
import { getSystemErrorMap, promisify } from "node:util";
import koffi from "koffi";
import type { PacketMemory } from "../packet/memory.ts";

const libc = koffi.load("libc.so.6");

export const ioctl = libc.func("int ioctl(int, ulong, void*)") as (fd: number, op: number, arg: Uint8Array) => number;
export const ioctlValue = libc.func("ioctl", "int", ["int", "ulong", "ulong"]) as (
  fd: number,
  op: number,
  value: number,
) => number;

export const socket = libc.func("int socket(int, int, int)") as (
  domain: number,
  type: number,
  protocol: number,
) => number;
/** For descriptors that were opened here; what `node:fs` opened it must close, for it keeps account in workers. */
export const close = libc.func("int close(int)") as (fd: number) => number;
export const bind = libc.func("int bind(int, void*, uint)") as (fd: number, name: Uint8Array, bytes: number) => number;
export const listen = libc.func("int listen(int, int)") as (fd: number, backlog: number) => number;
export const accept = libc.func("int accept(int, uintptr_t, uintptr_t)") as (
  fd: number,
  address: number,
  bytes: number,
) => number;
export const flock = libc.func("int flock(int, int)") as (fd: number, operation: number) => number;
export const connect = libc.func("int connect(int, void*, uint)") as (
  fd: number,
  name: Uint8Array,
  bytes: number,
) => number;
export const getsockname = libc.func("int getsockname(int, void*, void*)") as (
  fd: number,
  name: Uint8Array,
  bytes: Uint8Array,
) => number;
export const setsockopt = libc.func("int setsockopt(int, int, int, void*, uint)") as (
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
  bytes: number,
) => number;
export const getsockopt = libc.func("int getsockopt(int, int, int, void*, void*)") as (
  fd: number,
  level: number,
  option: number,
  value: Uint8Array,
  bytes: Uint8Array,
) => number;

export const read = libc.func("int64_t read(int, uintptr_t, size_t)") as (
  fd: number,
  pointer: bigint,
  bytes: number,
) => number;
/** As read(), from `offset` of the file. */
export const pread = libc.func("int64_t pread(int, uintptr_t, size_t, int64_t)") as (
  fd: number,
  pointer: bigint,
  bytes: number,
  offset: number,
) => number;
export const writev = libc.func("int64_t writev(int, uintptr_t, int)") as (
  fd: number,
  iovecs: bigint,
  count: number,
) => number;
export const recvmmsg = libc.func("int recvmmsg(int, uintptr_t, uint, int, uintptr_t)") as (
  fd: number,
  messages: bigint,
  count: number,
  flags: number,
  timeout: bigint,
) => number;
export const sendmmsg = libc.func("int sendmmsg(int, uintptr_t, uint, int)") as (
  fd: number,
  messages: bigint,
  count: number,
  flags: number,
) => number;
/** epoll_create1(2). */
export const epollCreate = libc.func("epoll_create1", "int", ["int"]) as (flags: number) => number;
export const epollCtl = libc.func("int epoll_ctl(int, int, int, void*)") as (
  epoll: number,
  operation: number,
  fd: number,
  event: Uint8Array,
) => number;
const epollWaitFunction = libc.func("int epoll_wait(int, uintptr_t, int, int)");
export const epollWait = epollWaitFunction as (
  epoll: number,
  events: bigint,
  most: number,
  timeoutMs: number,
) => number;
/** As epollWait(), with the events in a buffer of Node's. */
export const epollTake = libc.func("epoll_wait", "int", ["int", "void*", "int", "int"]) as (
  epoll: number,
  events: Uint8Array,
  most: number,
  timeoutMs: number,
) => number;
/** In a thread of its own, so that this thread's event loop goes on. */
export const epollWaitAsync = promisify(epollWaitFunction.async) as (
  epoll: number,
  events: bigint,
  most: number,
  timeoutMs: number,
) => Promise<number>;
/** Moves the calling thread to the namespace that the descriptor names. */
export const setns = libc.func("int setns(int, int)") as (fd: number, type: number) => number;
export const getrlimit = libc.func("int getrlimit(int, void*)") as (resource: number, limit: Uint8Array) => number;
export const setrlimit = libc.func("int setrlimit(int, void*)") as (resource: number, limit: Uint8Array) => number;
export const schedYield = libc.func("int sched_yield(void)") as () => number;
export const eventfd = libc.func("int eventfd(uint, int)") as (initial: number, flags: number) => number;

const NO_SYSCALL = -1; // ENOSYS
/** The number of sched_setattr(2) on each architecture: older C libraries have no function for it. */
const SCHED_SETATTR: Readonly<Record<string, number>> = { x64: 314, arm64: 274 };
const schedSetattrFunction = libc.func("syscall", "int", ["long", "int", "void*", "uint"]);
/** sched_setattr(2) with no flags; `tid` 0 is the calling thread. undefined on architectures whose number is not here. */
export const schedSetattr = (tid: number, attributes: Uint8Array): number | undefined => {
  const number = SCHED_SETATTR[process.arch];
  return number === undefined ? undefined : schedSetattrFunction(number, tid, attributes, 0);
};

/** The number of pidfd_open(2), which is the same on each architecture that Node runs on. */
const PIDFD_OPEN = 434;
const pidfdOpenFunction = libc.func("syscall", "int", ["long", "int", "uint"]);
/** pidfd_open(2) with no flags. */
export const pidfdOpen = (pid: number): number => pidfdOpenFunction(PIDFD_OPEN, pid, 0);

const BPF: Readonly<Record<string, number>> = { x64: 321, arm64: 280 };
const BPF_NUMBER = BPF[process.arch] ?? NO_SYSCALL;
const bpfFunction = libc.func("syscall", "int", ["long", "int", "void*", "uint"]);
const bpfAtFunction = libc.func("syscall", "int", ["long", "int", "uintptr_t", "uint"]);
/**
 * bpf(2). `bytes` of `attributes` are its argument; what lies behind them is the caller's. Fails on architectures whose number
 * is not here, as a kernel without it does.
 */
export const bpf = (command: number, attributes: Uint8Array, bytes: number): number =>
  bpfFunction(BPF_NUMBER, command, attributes, bytes);
/** As bpf(), with the address of the argument. Hot path: must not allocate. */
export const bpfAt = (command: number, attributes: bigint, bytes: number): number =>
  bpfAtFunction(BPF_NUMBER, command, attributes, bytes);

/** mount(2); `options` are those of the file system. */
export const mount = libc.func("int mount(const char*, const char*, const char*, ulong, const char*)") as (
  source: string,
  directory: string,
  type: string,
  flags: number,
  options: string,
) => number;
/** umount2(2). */
export const unmount = libc.func("umount2", "int", ["const char*", "int"]) as (path: string, flags: number) => number;

/** Returns the error number itself; errno() is not set. */
export const posixFallocate = libc.func("int posix_fallocate(int, int64_t, int64_t)") as (
  fd: number,
  offset: number,
  bytes: number,
) => number;
export const mmap = libc.func("intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)") as (
  address: number,
  bytes: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => number;
export const munmap = libc.func("int munmap(uintptr_t, size_t)") as (address: number, bytes: number) => number;

/** The last failed call's error number, of this thread. */
export const errno = (): number => koffi.errno();

export const Errno = {
  NotPermitted: 1,
  NoEntry: 2,
  Intr: 4,
  Io: 5,
  TooBig: 7,
  Again: 11,
  NoMemory: 12,
  Exists: 17,
  NoDevice: 19,
  NoSpace: 28,
  BadFileDescriptorState: 77,
  MessageTooLong: 90,
  AddressInUse: 98,
  AddressNotAvailable: 99,
} as const;

/** Error numbers are below this, so that an array can count by them. */
export const ERRNO_LIMIT = 134;

/** Errors that Node has no words for. */
const MORE_ERRORS: ReadonlyMap<number, readonly [code: string, text: string]> = new Map([
  [67, ["ENOLINK", "the link has been severed"]],
  [77, ["EBADFD", "file descriptor in bad state"]],
  [524, ["ENOTSUPP", "the kernel does not support it"]],
]);

export class SyscallError extends Error {
  override name = "SyscallError";
  readonly syscall: string;
  readonly errno: number;
  /** As node:errors have it: "EADDRINUSE". */
  readonly code: string;

  /** `detail`: what else a person wants to read. */
  constructor(syscall: string, number: number, detail = "") {
    const [code, text] = getSystemErrorMap().get(-number) ?? MORE_ERRORS.get(number) ?? [`E${number}`, "unknown error"];
    super(`${syscall}: ${text} (${code})${detail === "" ? "" : `: ${detail}`}`);
    this.syscall = syscall;
    this.errno = number;
    this.code = code;
  }
}

/** The error of a system call that failed. */
export function syscallError(syscall: string, number = errno(), detail?: string): SyscallError {
  return new SyscallError(syscall, number, detail);
}

/** The result of a system call that must not fail. */
export function checked(syscall: string, result: number): number {
  if (result < 0) throw syscallError(syscall);
  return result;
}

/** The address of a memory's offset 0, in two small integers: low 30 bits and the rest. */
export interface Base {
  readonly low: number;
  readonly high: number;
}

const LOW_BITS = 30;
const LOW_MASK = (1 << LOW_BITS) - 1;

function addressOf(memory: PacketMemory): bigint {
  return koffi.address(memory.memory.buffer);
}

export function baseOf(memory: PacketMemory): Base {
  if (memory.u8.length > LOW_MASK) throw new RangeError("pointers are made for packet memories below 1 GiB");
  const address = addressOf(memory);
  return { low: Number(address & BigInt(LOW_MASK)), high: Number(address >> BigInt(LOW_BITS)) };
}

/** The address of `offset`, for a system call. Not for the hot path: keep it. */
export function pointerTo(memory: PacketMemory, offset: number): bigint {
  return addressOf(memory) + BigInt(offset);
}

/** The address of a buffer, which does not move. The caller keeps it alive. */
export function addressOfBuffer(buffer: ArrayBufferLike): bigint {
  return koffi.address(buffer);
}

/** The bytes at `address` as an ArrayBuffer, which must not be used after they are unmapped. */
export function bufferAt(address: number, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes);
}

/** Writes a pointer to `offset` at byte offset `at`, a multiple of four. Hot path: must not allocate. */
export function putPointer(i32: Int32Array, at: number, base: Base, offset: number): void {
  const low = base.low + offset; // below 2^31, for both are below 2^30: a small integer in every tier of V8
  const high = base.high + (low >>> LOW_BITS);
  i32[at >> 2] = (low & LOW_MASK) | (high << LOW_BITS);
  i32[(at >> 2) + 1] = high >>> (32 - LOW_BITS);
}

/** Writes a size_t below 2^31 at byte offset `at`. Hot path: must not allocate. */
export function putSize(i32: Int32Array, at: number, value: number): void {
  i32[at >> 2] = value;
  i32[(at >> 2) + 1] = 0;
}

export const IOVEC_BYTES = 16;
/** Most iovecs in one call (IOV_MAX). */
export const MAX_IOVECS = 1024;

/** Writes a struct iovec at byte offset `at`. Hot path: must not allocate. */
export function putIovec(i32: Int32Array, at: number, base: Base, offset: number, bytes: number): void {
  putPointer(i32, at, base, offset);
  putSize(i32, at + 8, bytes);
}
