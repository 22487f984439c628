// The assembler's bytes: against the opcodes of RFC 9669, appendix A, against what the macros of the kernel's
// include/linux/filter.h make, and against what the kernel computes with them.
import test from "ava";
import { Skb } from "../../src/linux/bpf-abi.ts";
import {
  BpfAssembler,
  type Register,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  r7,
  r8,
  r9,
  r10,
} from "../../src/linux/bpf-assembler.ts";
import { loadProgram, ProgramType, runProgram } from "../../src/linux/bpf-program.ts";
import * as libc from "../../src/linux/libc.ts";
import { bpfTest } from "../fakes/bpf-test.ts";

type Build = (program: BpfAssembler) => BpfAssembler;
const hex = (build: Build): string => Buffer.from(build(new BpfAssembler()).assemble()).toString("hex");
/** The first byte of the first instruction. */
const opcode = (build: Build): string => hex(build).slice(0, 2);

const ALU = ["add", "sub", "mul", "div", "or", "and", "lsh", "rsh", "mod", "xor", "mov", "arsh"] as const;
const ALU_OPCODES = "07 17 27 37 47 57 67 77 97 a7 b7 c7".split(" ");
const JUMPS = ["eq", "gt", "ge", "set", "ne", "sgt", "sge", "lt", "le", "slt", "sle"] as const;
const JUMP_OPCODES = "15 25 35 45 55 65 75 a5 b5 c5 d5".split(" ");
const plus = (code: string, value: number): string => (Number.parseInt(code, 16) + value).toString(16).padStart(2, "0");

for (const [i, operation] of ALU.entries()) {
  test(`${operation} has the opcodes of RFC 9669`, (t) => {
    const code = ALU_OPCODES[i]!;
    t.is(
      opcode((p) => p.alu(operation, r1, 5)),
      code,
    );
    t.is(
      opcode((p) => p.alu(operation, r1, r2)),
      plus(code, 8),
    );
    t.is(
      opcode((p) => p.alu32(operation, r1, 5)),
      plus(code, -3),
    );
    t.is(
      opcode((p) => p.alu32(operation, r1, r2)),
      plus(code, 5),
    );
  });
}

for (const [i, comparison] of JUMPS.entries()) {
  test(`a jump when ${comparison} has the opcodes of RFC 9669`, (t) => {
    const code = JUMP_OPCODES[i]!;
    const jump = (build: Build): string => opcode((p) => build(p).label("there").exit());
    t.is(
      jump((p) => p.when(r1, comparison, 5, "there")),
      code,
    );
    t.is(
      jump((p) => p.when(r1, comparison, r2, "there")),
      plus(code, 8),
    );
    t.is(
      jump((p) => p.when32(r1, comparison, 5, "there")),
      plus(code, 1),
    );
    t.is(
      jump((p) => p.when32(r1, comparison, r2, "there")),
      plus(code, 9),
    );
  });
}

const ENCODINGS: [what: string, build: Build, bytes: string][] = [
  ["BPF_MOV64_REG(r1, r2)", (p) => p.mov(r1, r2), "bf21000000000000"],
  ["BPF_MOV64_IMM(r0, -1)", (p) => p.mov(r0, -1), "b7000000ffffffff"],
  ["BPF_MOV32_REG(r7, r9)", (p) => p.mov32(r7, r9), "bc97000000000000"],
  ["BPF_MOV32_IMM(r3, 0x9e3779b1)", (p) => p.mov32(r3, 0x9e3779b1), "b4030000b179379e"],
  ["BPF_ALU64_IMM(BPF_ADD, r2, -20)", (p) => p.alu("add", r2, -20), "07020000ecffffff"],
  ["BPF_NEG of r4", (p) => p.neg(r4), "8704000000000000"],
  ["BPF_ENDIAN(BPF_TO_BE, r1, 16)", (p) => p.bigEndian(r1, 16), "dc01000010000000"],
  ["BPF_ENDIAN(BPF_TO_LE, r1, 32)", (p) => p.littleEndian(r1, 32), "d401000020000000"],
  ["BPF_BSWAP(r5, 64)", (p) => p.byteSwap(r5, 64), "d705000040000000"],
  ["BPF_LDX_MEM(BPF_B, r1, r7, 23)", (p) => p.load(1, r1, r7, 23), "7171170000000000"],
  ["BPF_LDX_MEM(BPF_H, r1, r7, 12)", (p) => p.load(2, r1, r7, 12), "69710c0000000000"],
  ["BPF_LDX_MEM(BPF_W, r7, r6, 76)", (p) => p.load(4, r7, r6, Skb.Data), "61674c0000000000"],
  ["BPF_LDX_MEM(BPF_DW, r2, r9, 8)", (p) => p.load(8, r2, r9, 8), "7992080000000000"],
  ["BPF_ST_MEM(BPF_B, r10, -1, 255)", (p) => p.store(1, r10, -1, 255), "720affffff000000"],
  ["BPF_ST_MEM(BPF_H, r10, -2, -1)", (p) => p.store(2, r10, -2, -1), "6a0afeffffffffff"],
  ["BPF_ST_MEM(BPF_W, r10, -4, 7)", (p) => p.store(4, r10, -4, 7), "620afcff07000000"],
  ["BPF_ST_MEM(BPF_DW, r10, -8, -1)", (p) => p.store(8, r10, -8, -1), "7a0af8ffffffffff"],
  ["BPF_STX_MEM(BPF_B, r10, r3, -1)", (p) => p.store(1, r10, -1, r3), "733affff00000000"],
  ["BPF_STX_MEM(BPF_H, r10, r3, -2)", (p) => p.store(2, r10, -2, r3), "6b3afeff00000000"],
  ["BPF_STX_MEM(BPF_W, r10, r3, -4)", (p) => p.store(4, r10, -4, r3), "633afcff00000000"],
  ["BPF_STX_MEM(BPF_DW, r10, r8, -8)", (p) => p.store(8, r10, -8, r8), "7b8af8ff00000000"],
  ["BPF_ATOMIC_OP(BPF_DW, BPF_ADD, r9, r1, 16)", (p) => p.atomicAdd(8, r9, 16, r1), "db19100000000000"],
  ["BPF_ATOMIC_OP(BPF_W, BPF_ADD, r9, r1, 16)", (p) => p.atomicAdd(4, r9, 16, r1), "c319100000000000"],
  ["BPF_LD_ABS(BPF_B, 9)", (p) => p.loadPacket(1, 9), "3000000009000000"],
  ["BPF_LD_ABS(BPF_H, 6)", (p) => p.loadPacket(2, 6), "2800000006000000"],
  ["BPF_LD_ABS(BPF_W, 12)", (p) => p.loadPacket(4, 12), "200000000c000000"],
  ["BPF_LD_IND(BPF_W, r7, 2)", (p) => p.loadPacketAt(4, r7, 2), "4070000002000000"],
  [
    "BPF_LD_IMM64(r1, 0x1122334455667788)",
    (p) => p.constant(r1, 0x1122334455667788n),
    "18010000887766550000000044332211",
  ],
  ["BPF_LD_IMM64(r2, -1)", (p) => p.constant(r2, -1n), "18020000ffffffff00000000ffffffff"],
  ["BPF_LD_MAP_FD(r1, 5)", (p) => p.map(r1, 5), "18110000050000000000000000000000"],
  ["BPF_LD_MAP_VALUE(r1, 5, 64)", (p) => p.mapValue(r1, 5, 64), "18210000050000000000000040000000"],
  ["BPF_CALL of helper 155", (p) => p.call(155), "850000009b000000"],
  ["BPF_EXIT_INSN()", (p) => p.exit(), "9500000000000000"],
  ["an exit with a result", (p) => p.exit(-1), "b7000000ffffffff9500000000000000"],
  [
    "BPF_JMP_A(1)",
    (p) => p.jump("end").mov(r0, 0).label("end").exit(),
    "0500010000000000b7000000000000009500000000000000",
  ],
  [
    "a jump back, past a constant of two instructions",
    (p) => p.label("again").constant(r1, 1n).jump("again"),
    "18010000010000000000000000000000" + "0500fdff00000000",
  ],
];
for (const [what, build, bytes] of ENCODINGS) {
  test(`${what} is assembled as the kernel has it`, (t) => {
    t.is(hex(build), bytes);
  });
}

const far = (count: number): Build => {
  return (p) => {
    p.jump("far");
    for (let i = 0; i < count; i++) p.mov(r0, 0);
    return p.label("far").exit();
  };
};

const REFUSALS: [what: string, build: Build, message: RegExp][] = [
  [
    "a label that is missing",
    (p) => p.exit().jump("nowhere"),
    /^instruction 1 jumps to the label 'nowhere', which is missing$/,
  ],
  ["a label that stands twice", (p) => p.label("next").exit().label("next"), /^the label 'next' stands twice$/],
  ["a label after the last instruction", (p) => p.jump("end").label("end"), /^no instruction follows the label 'end'$/],
  ["a jump that is too far", far(32768), /^the label 'far' is too far: 32768 instructions from the jump at 0$/],
  [
    "an immediate whose sign would change it",
    (p) => p.alu("and", r1, 0xffffffff),
    /^the immediate 4294967295 does not fit/,
  ],
  [
    "a comparison whose sign would change it",
    (p) => p.when(r1, "eq", 0x80000000, "x"),
    /^the immediate 2147483648 does not/,
  ],
  ["an immediate of 33 bits", (p) => p.alu32("add", r1, 2 ** 32), /^the immediate 4294967296 does not fit in 32 bits$/],
  ["an immediate that is no integer", (p) => p.mov(r1, 0.5), /^the immediate 0.5 does not fit/],
  [
    "an immediate that is too large for its store",
    (p) => p.store(1, r10, -1, 256),
    /^the immediate 256 does not fit in 8 bits$/,
  ],
  ["an offset of 17 bits", (p) => p.load(4, r1, r2, 32768), /^the offset 32768 has more than 16 bits$/],
  [
    "a constant of 65 bits",
    (p) => p.constant(r1, 2n ** 64n),
    /^the constant 18446744073709551616 has more than 64 bits$/,
  ],
];
for (const [what, build, message] of REFUSALS) {
  test(`the assembler refuses ${what}`, (t) => {
    t.throws(() => build(new BpfAssembler()).assemble(), { name: "RangeError", message });
  });
}

const REGISTERS: readonly Register[] = [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10];
for (const [i, register] of REGISTERS.entries()) {
  test(`r${i} is the register ${i} on either side`, (t) => {
    t.is(hex((p) => p.mov(r0, register)).slice(2, 4), `${i.toString(16)}0`);
    t.is(hex((p) => p.mov(register, r0)).slice(2, 4), `0${i.toString(16)}`);
  });
}

test("a jump as far as 16 bits go is assembled", (t) => {
  t.is(hex(far(32767)).slice(0, 16), "0500ff7f00000000");
});

const VALUES = [0n, 1n, 5n, 0x7fffffffn, 0x80000000n, 0x1122334455667788n, 0x8000000000000001n, 0xffffffffffffffffn];
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);

/** What the operation makes of two values of `bits` bits, RFC 9669, section 4.1. */
function computed(operation: (typeof ALU)[number], bits: 32 | 64, left: bigint, right: bigint): bigint {
  const [a, b] = [BigInt.asUintN(bits, left), BigInt.asUintN(bits, right)];
  const shift = b & BigInt(bits - 1);
  const results = {
    add: () => a + b,
    sub: () => a - b,
    mul: () => a * b,
    div: () => (b === 0n ? 0n : a / b),
    or: () => a | b,
    and: () => a & b,
    lsh: () => a << shift,
    rsh: () => a >> shift,
    mod: () => (b === 0n ? a : a % b),
    xor: () => a ^ b,
    mov: () => b,
    arsh: () => BigInt.asIntN(bits, a) >> shift,
  };
  return BigInt.asUintN(bits, results[operation]());
}

function holds(comparison: (typeof JUMPS)[number], bits: 32 | 64, left: bigint, right: bigint): boolean {
  const [a, b] = [BigInt.asUintN(bits, left), BigInt.asUintN(bits, right)];
  const [x, y] = [BigInt.asIntN(bits, left), BigInt.asIntN(bits, right)];
  return {
    eq: a === b,
    gt: a > b,
    ge: a >= b,
    set: (a & b) !== 0n,
    ne: a !== b,
    sgt: x > y,
    sge: x >= y,
    lt: a < b,
    le: a <= b,
    slt: x < y,
    sle: x <= y,
  }[comparison];
}

/** Runs steps that each leave a result in r1, and returns the results: they are stored into a packet, 8 bytes each. */
function resultsOf(steps: readonly ((program: BpfAssembler) => void)[]): bigint[] {
  const bytes = 8 * steps.length;
  const program = new BpfAssembler();
  program.load(4, r7, r1, Skb.Data).load(4, r8, r1, Skb.DataEnd);
  program.mov(r2, r7).alu("add", r2, bytes).when(r2, "gt", r8, "short");
  for (const [i, step] of steps.entries()) {
    step(program);
    program.store(8, r7, 8 * i, r1);
  }
  program.exit(0).label("short").exit(1);
  const fd = loadProgram({ type: ProgramType.SchedCls, name: "results", code: program.assemble() });
  const { verdict, frame } = runProgram(fd, new Uint8Array(bytes));
  libc.close(fd);
  if (verdict !== 0) throw new Error("the packet was too short");
  const view = new DataView(frame.buffer);
  return steps.map((_, i) => view.getBigUint64(8 * i, true));
}

for (const operation of ALU) {
  bpfTest(`the kernel computes ${operation} as RFC 9669 says`, (t) => {
    const pairs = VALUES.flatMap((left) => VALUES.map((right) => [left, right] as const));
    const steps = pairs.map(([left, right]) => [
      (p: BpfAssembler) => p.constant(r1, left).constant(r2, right).alu(operation, r1, r2),
      (p: BpfAssembler) => p.constant(r1, left).constant(r2, right).alu32(operation, r1, r2),
    ]);
    const wanted = pairs.map(([left, right]) => [
      computed(operation, 64, left, right),
      computed(operation, 32, left, right),
    ]);
    t.deepEqual(resultsOf(steps.flat()), wanted.flat());
  });
}

for (const comparison of JUMPS) {
  bpfTest(`the kernel jumps when ${comparison} as RFC 9669 says`, (t) => {
    const pairs = VALUES.flatMap((left) => VALUES.map((right) => [left, right] as const));
    const jump = (left: bigint, right: bigint, bits: 32 | 64, i: number) => (p: BpfAssembler) => {
      const label = `${i} ${bits}`;
      p.constant(r3, left).constant(r4, right).mov(r1, 1);
      if (bits === 64) p.when(r3, comparison, r4, label);
      else p.when32(r3, comparison, r4, label);
      p.mov(r1, 0).label(label);
    };
    const steps = pairs.map(([left, right], i) => [jump(left, right, 64, i), jump(left, right, 32, i)]);
    const wanted = pairs.map(([left, right]) => [
      holds(comparison, 64, left, right),
      holds(comparison, 32, left, right),
    ]);
    t.deepEqual(
      resultsOf(steps.flat()).map((result) => result === 1n),
      wanted.flat(),
    );
  });
}

bpfTest("the kernel negates, swaps and adds as RFC 9669 says", (t) => {
  const value = 0x1122334455667788n;
  const results = resultsOf([
    (p) => p.constant(r1, value).neg(r1),
    (p) => p.constant(r1, value).bigEndian(r1, 16),
    (p) => p.constant(r1, value).bigEndian(r1, 32),
    (p) => p.constant(r1, value).bigEndian(r1, 64),
    (p) => p.constant(r1, value).littleEndian(r1, 16),
    (p) => p.constant(r1, value).littleEndian(r1, 32),
    (p) => p.constant(r1, value).littleEndian(r1, 64),
    (p) => p.constant(r5, value).store(8, r10, -8, r5).mov(r5, 1).atomicAdd(8, r10, -8, r5).load(8, r1, r10, -8),
    (p) => p.store(8, r10, -8, -1).store(2, r10, -8, 7).load(8, r1, r10, -8),
  ]);
  t.deepEqual(results, [
    ...[u64(-value), 0x8877n, 0x88776655n, 0x8877665544332211n, 0x7788n, 0x55667788n, value],
    ...[value + 1n, 0xffffffffffff0007n],
  ]);
});
