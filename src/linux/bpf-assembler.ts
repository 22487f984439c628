// An assembler of eBPF, RFC 9669: calls with registers and labels, one an instruction, in the order of the program; out come
// the bytes that bpf-program.ts loads. Only for little-endian machines, as the agent's are: there the destination register is
// the low half of its byte.

export interface Register {
  readonly register: number;
}

const register = (number: number): Register => Object.freeze({ register: number });
/** Results of helpers, and of the program. */
export const r0 = register(0);
/** r1 to r5: arguments of helpers, which are lost in a call. At the start r1 is the context. */
export const r1 = register(1);
export const r2 = register(2);
export const r3 = register(3);
export const r4 = register(4);
export const r5 = register(5);
/** r6 to r9: a call leaves them as they are. */
export const r6 = register(6);
export const r7 = register(7);
export const r8 = register(8);
export const r9 = register(9);
/** The end of the 512 bytes of stack, which lie below it. Read only. */
export const r10 = register(10);

type Operand = Register | number;
/** Bytes that a load or store moves. */
type Size = 1 | 2 | 4 | 8;
type Bits = 16 | 32 | 64;

const INSTRUCTION_BYTES = 8; // code u8, destination and source register u4 each, offset i16, immediate i32

// The three low bits of a code, section 3.1.
const Class = { Load: 0, LoadRegister: 1, Store: 2, StoreRegister: 3, Alu: 4, Jump: 5, Jump32: 6, Alu64: 7 } as const;
/** The right side of arithmetic or of a jump is a register, not the immediate. */
const FROM_REGISTER = 0x08;

// Loads and stores, section 5.
const Mode = { Immediate: 0x00, Absolute: 0x20, Indirect: 0x40, Memory: 0x60, Atomic: 0xc0 } as const;
const SIZE_CODES = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 } as const;
const ATOMIC_ADD = 0x00;
const MAP_BY_DESCRIPTOR = 1;
const VALUE_OF_MAP_BY_DESCRIPTOR = 2;

// Arithmetic, section 4.1.
const ALU_CODES = {
  add: 0x00,
  sub: 0x10,
  mul: 0x20,
  div: 0x30,
  or: 0x40,
  and: 0x50,
  lsh: 0x60,
  rsh: 0x70,
  mod: 0x90,
  xor: 0xa0,
  mov: 0xb0,
  arsh: 0xc0,
} as const;
type AluOperation = keyof typeof ALU_CODES;
const NEGATE = 0x80;
// Byte swaps, section 4.2: of the class Alu to an order, of the class Alu64 in any case.
const SWAP = 0xd0;
const TO_LITTLE = 0x00;
const TO_BIG = 0x08;

// Jumps, section 4.3.
const JUMP_CODES = {
  eq: 0x10,
  gt: 0x20,
  ge: 0x30,
  set: 0x40,
  ne: 0x50,
  sgt: 0x60,
  sge: 0x70,
  lt: 0xa0,
  le: 0xb0,
  slt: 0xc0,
  sle: 0xd0,
} as const;
type Comparison = keyof typeof JUMP_CODES;
const ALWAYS = 0x00;
const CALL = 0x80;
const EXIT = 0x90;

interface Instruction {
  readonly code: number;
  readonly to: number;
  readonly from: number;
  readonly offset: number;
  readonly immediate: number;
  /** Where a jump goes, in the place of `offset`. */
  readonly label?: string;
}

/** Its methods throw RangeError for what has no encoding, such as an immediate of 40 bits. */
export class BpfAssembler {
  readonly #instructions: Instruction[] = [];
  // BOUNDED: by the program; keyed by label. The index of the instruction that follows it.
  readonly #labels = new Map<string, number>();

  /** The place that jumps to `name` go to: the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`the label '${name}' stands twice`);
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  /** 64 bits wide. An immediate is sign-extended. */
  alu(operation: AluOperation, to: Register, value: Operand): this {
    return this.#compute(Class.Alu64 | ALU_CODES[operation], to, signed(32, value));
  }
  /** On the low 32 bits; the high ones become 0. */
  alu32(operation: AluOperation, to: Register, value: Operand): this {
    return this.#compute(Class.Alu | ALU_CODES[operation], to, fitting(32, value));
  }
  mov(to: Register, value: Operand): this {
    return this.alu("mov", to, value);
  }
  mov32(to: Register, value: Operand): this {
    return this.alu32("mov", to, value);
  }
  neg(to: Register): this {
    return this.#put(Class.Alu64 | NEGATE, to, 0, 0, 0);
  }

  /** Turns the low `bits` between the machine's byte order and that of the network, and clears the others. */
  bigEndian(to: Register, bits: Bits): this {
    return this.#put(Class.Alu | SWAP | TO_BIG, to, 0, 0, bits);
  }
  /** As bigEndian() with the other order: on this machine it only clears the other bits. */
  littleEndian(to: Register, bits: Bits): this {
    return this.#put(Class.Alu | SWAP | TO_LITTLE, to, 0, 0, bits);
  }
  /** Turns the low `bits` round, whatever the machine's order is, and clears the others. Linux 6.6. */
  byteSwap(to: Register, bits: Bits): this {
    return this.#put(Class.Alu64 | SWAP, to, 0, 0, bits);
  }

  /** A constant of 64 bits, signed or not; it takes two instructions. */
  constant(to: Register, value: bigint): this {
    if (BigInt.asIntN(64, value) !== value && BigInt.asUintN(64, value) !== value) {
      throw new RangeError(`the constant ${value} has more than 64 bits`);
    }
    return this.#wide(to, 0, Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n)));
  }
  /** The map behind a descriptor of the process that loads the program, for helpers. */
  map(to: Register, fd: number): this {
    return this.#wide(to, MAP_BY_DESCRIPTOR, fd, 0);
  }
  /** The address of byte `offset` of the value of an array with one entry. */
  mapValue(to: Register, fd: number, offset = 0): this {
    return this.#wide(to, VALUE_OF_MAP_BY_DESCRIPTOR, fd, offset);
  }

  load(size: Size, to: Register, base: Register, offset: number): this {
    return this.#put(Class.LoadRegister | Mode.Memory | SIZE_CODES[size], to, base.register, offset, 0);
  }
  /** An immediate of 8 bytes is sign-extended from 32 bits. */
  store(size: Size, base: Register, offset: number, value: Operand): this {
    if (typeof value !== "number") {
      return this.#put(Class.StoreRegister | Mode.Memory | SIZE_CODES[size], base, value.register, offset, 0);
    }
    const immediate = size === 8 ? signed(32, value) : fitting((size * 8) as 8 | 16 | 32, value);
    return this.#put(Class.Store | Mode.Memory | SIZE_CODES[size], base, 0, offset, immediate);
  }
  atomicAdd(size: 4 | 8, base: Register, offset: number, value: Register): this {
    const code = Class.StoreRegister | Mode.Atomic | SIZE_CODES[size];
    return this.#put(code, base, value.register, offset, ATOMIC_ADD);
  }
  /**
   * Loads from the packet into r0, in the machine's order; r6 is the context, and r1 to r5 are lost. It ends the program
   * with 0 where the packet is too short. Section 5.5.
   */
  loadPacket(size: 1 | 2 | 4, offset: number): this {
    return this.#put(Class.Load | Mode.Absolute | SIZE_CODES[size], r0, 0, 0, signed(32, offset));
  }
  /** As loadPacket(), at `index` and `offset` together. */
  loadPacketAt(size: 1 | 2 | 4, index: Register, offset: number): this {
    return this.#put(Class.Load | Mode.Indirect | SIZE_CODES[size], r0, index.register, 0, signed(32, offset));
  }

  jump(label: string): this {
    return this.#put(Class.Jump | ALWAYS, r0, 0, 0, 0, label);
  }
  /** Jumps to `label` when the comparison holds, 64 bits wide; "set": when they have a bit in common. An immediate is sign-extended. */
  when(left: Register, comparison: Comparison, right: Operand, label: string): this {
    return this.#compute(Class.Jump | JUMP_CODES[comparison], left, signed(32, right), label);
  }
  /** As when(), on the low 32 bits. */
  when32(left: Register, comparison: Comparison, right: Operand, label: string): this {
    return this.#compute(Class.Jump32 | JUMP_CODES[comparison], left, fitting(32, right), label);
  }
  /** Calls a helper function of the kernel (bpf-abi.ts), with r1 to r5; the result is in r0. */
  call(helper: number): this {
    return this.#put(Class.Jump | CALL, r0, 0, 0, signed(32, helper));
  }
  /** Ends the program with r0, or with `result`. */
  exit(result?: number): this {
    if (result !== undefined) this.mov(r0, result);
    return this.#put(Class.Jump | EXIT, r0, 0, 0, 0);
  }

  /** The program's bytes. Throws RangeError for a label that is missing or too far from a jump to it. */
  assemble(): Uint8Array {
    const bytes = new Uint8Array(this.#instructions.length * INSTRUCTION_BYTES);
    const view = new DataView(bytes.buffer);
    for (const [i, { code, to, from, offset, immediate, label }] of this.#instructions.entries()) {
      const at = i * INSTRUCTION_BYTES;
      view.setUint8(at, code);
      view.setUint8(at + 1, (from << 4) | to);
      view.setInt16(at + 2, label === undefined ? offset : this.#distance(label, i), true);
      view.setInt32(at + 4, immediate, true);
    }
    return bytes;
  }

  /** Instructions between a jump and its label. */
  #distance(label: string, jump: number): number {
    const to = this.#labels.get(label);
    if (to === undefined) throw new RangeError(`instruction ${jump} jumps to the label '${label}', which is missing`);
    if (to === this.#instructions.length) throw new RangeError(`no instruction follows the label '${label}'`);
    const distance = to - jump - 1;
    if (!isSigned(16, distance)) {
      throw new RangeError(`the label '${label}' is too far: ${distance} instructions from the jump at ${jump}`);
    }
    return distance;
  }

  #compute(code: number, to: Register, value: Operand, label?: string): this {
    return typeof value === "number"
      ? this.#put(code, to, 0, 0, value, label)
      : this.#put(code | FROM_REGISTER, to, value.register, 0, 0, label);
  }

  #wide(to: Register, from: number, low: number, high: number): this {
    this.#put(Class.Load | Mode.Immediate | SIZE_CODES[8], to, from, 0, signed(32, low));
    return this.#put(0, r0, 0, 0, signed(32, high));
  }

  #put(code: number, to: Register, from: number, offset: number, immediate: number, label?: string): this {
    if (!isSigned(16, offset)) throw new RangeError(`the offset ${offset} has more than 16 bits`);
    const where = label === undefined ? {} : { label };
    this.#instructions.push({ code, to: to.register, from, offset, immediate: immediate | 0, ...where });
    return this;
  }
}

function isSigned(bits: number, value: number): boolean {
  return Number.isInteger(value) && value >= -(2 ** (bits - 1)) && value < 2 ** (bits - 1);
}

/** The operand, if it fits as a signed number: what is sign-extended would be another number than the one that is written. */
function signed<T extends Operand>(bits: number, value: T): T {
  if (typeof value !== "number" || isSigned(bits, value)) return value;
  throw new RangeError(`the immediate ${value} does not fit in ${bits} bits with a sign; constant() takes 64`);
}

/** The operand, if it fits with a sign or without. */
function fitting<T extends Operand>(bits: 8 | 16 | 32, value: T): T {
  if (typeof value !== "number" || isSigned(bits, value)) return value;
  if (Number.isInteger(value) && value >= 0 && value < 2 ** bits) return value;
  throw new RangeError(`the immediate ${value} does not fit in ${bits} bits`);
}
