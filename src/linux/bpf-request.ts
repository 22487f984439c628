// One call of bpf(2): its argument, union bpf_attr of include/uapi/linux/bpf.h, and what that points to lie in one piece of
// memory, which the call keeps alive. Not for the hot path; bpf-map.ts keeps its arguments.
import * as libc from "./libc.ts";

/** The commands by the names that the kernel and bpf(2) have for them. */
export const COMMANDS = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_PROG_LOAD: 5,
  BPF_OBJ_PIN: 6,
  BPF_OBJ_GET: 7,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_PROG_QUERY: 16,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: 21,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_MAP_UPDATE_BATCH: 26,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_DETACH: 34,
} as const;
export type Command = keyof typeof COMMANDS;

/** Longer than the union is in Linux 6.18: what follows the fields of a command must be there and zero, or not be there. */
const ATTR_BYTES = 160;
const ALIGNMENT = 8;
/** Bytes of a name with its closing zero, BPF_OBJ_NAME_LEN. */
const NAME_BYTES = 16;

export class BpfRequest {
  /** The argument, then what it points to. */
  readonly bytes: Buffer;
  readonly #address: bigint;
  #next = ATTR_BYTES;

  /** `room`: bytes of all that is pointed to, each rounded up to a multiple of 8. */
  constructor(room = 0) {
    this.bytes = Buffer.from(new ArrayBuffer(ATTR_BYTES + room));
    this.#address = libc.addressOfBuffer(this.bytes.buffer);
  }

  u32(at: number, value: number): this {
    this.bytes.writeUInt32LE(value, at);
    return this;
  }
  u64(at: number, value: bigint): this {
    this.bytes.writeBigUInt64LE(value, at);
    return this;
  }
  /** The name of an object, as far as the kernel keeps it. It takes letters, digits, '_' and '.'. */
  name(at: number, name: string): this {
    this.bytes.write(name.slice(0, NAME_BYTES - 1), at, "latin1");
    return this;
  }
  /** Puts a pointer to a copy of `content` at `at`. Returns where the copy is. */
  pointTo(at: number, content: Uint8Array): number {
    const copy = this.pointToRoom(at, content.length);
    this.bytes.set(content, copy);
    return copy;
  }
  /** Puts a pointer to zeroed bytes, into which the kernel writes, at `at`. Returns where they are. */
  pointToRoom(at: number, bytes: number): number {
    const room = this.#next;
    this.#next += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    if (this.#next > this.bytes.length) throw new RangeError("the request has no room for all that it points to");
    this.u64(at, this.#address + BigInt(room));
    return room;
  }
  pointToText(at: number, text: string): number {
    return this.pointTo(at, Buffer.from(`${text}\0`));
  }

  /** Calls bpf(2). Returns its result: below zero with errno(). */
  try(command: Command): number {
    return libc.bpf(COMMANDS[command], this.bytes, ATTR_BYTES);
  }
  /** As try(); throws SyscallError with the command and `what` it was about. */
  call(command: Command, what: string): number {
    const result = this.try(command);
    if (result < 0) throw bpfError(command, what);
    return result;
  }
}

/** Room for pointTo() and pointToText() of these. */
export function roomFor(...contents: readonly (Uint8Array | string)[]): number {
  let room = 0;
  for (const content of contents) {
    const bytes = typeof content === "string" ? Buffer.byteLength(content) + 1 : content.length;
    room += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  }
  return room;
}

/** The error of a bpf(2) that failed. `detail`: what else a person wants to read. */
export function bpfError(command: Command, what: string, number = libc.errno(), detail = ""): libc.SyscallError {
  return new libc.SyscallError(`bpf: ${command} of ${what}`, number, detail);
}
