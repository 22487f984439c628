// Programs in the real kernel: what the verifier takes and refuses, and what a run on a packet returns.
import test from "ava";
import { Helper, Skb, Tcx } from "../../src/linux/bpf-abi.ts";
import { BpfAssembler, r0, r1, r2, r3, r4, r6, r7, r8, r9 } from "../../src/linux/bpf-assembler.ts";
import {
  lastWords,
  loadProgram,
  type ProgramRun,
  ProgramType,
  runProgram,
  type SkbContext,
} from "../../src/linux/bpf-program.ts";
import * as libc from "../../src/linux/libc.ts";
import { bpfTest } from "../fakes/bpf-test.ts";

const load = (program: BpfAssembler): number =>
  loadProgram({ type: ProgramType.SchedCls, name: "tried", code: program.assemble() });

/** Runs a program once, and closes it. */
function ran(program: BpfAssembler, frame: Uint8Array, context: SkbContext = {}): ProgramRun {
  const fd = load(program);
  try {
    return runProgram(fd, frame, context);
  } finally {
    libc.close(fd);
  }
}

const ROOM_AFTER_MAC = 1;
const frame = Uint8Array.from({ length: 64 }, (_, i) => i);
/** With the EtherType of IPv4: adjust_room takes no other. */
const ipv4Frame = Uint8Array.from({ length: 100 }, (_, i) => [0x08, 0x00][i - 12] ?? i);

bpfTest("a program returns its verdict, and the packet as it left it", (t) => {
  const program = new BpfAssembler();
  program.mov(r6, r1).load(4, r7, r6, Skb.Data).load(4, r8, r6, Skb.DataEnd);
  program.mov(r2, r7).alu("add", r2, 20).when(r2, "gt", r8, "next");
  program.load(1, r9, r7, 14).alu("add", r9, 1).store(1, r7, 14, r9);
  program.exit(Tcx.Drop).label("next").exit(Tcx.Next);
  const { verdict, frame: out, nanoseconds } = ran(program, frame);
  t.is(verdict, Tcx.Drop);
  t.deepEqual(
    out,
    Uint8Array.from(frame, (byte, i) => (i === 14 ? byte + 1 : byte)),
  );
  t.true(nanoseconds >= 0);
  t.is(ran(program, frame.subarray(0, 19)).verdict, Tcx.Next);
});

bpfTest("a program sees the context that it is given, and what it leaves there is returned", (t) => {
  const program = new BpfAssembler();
  program.mov(r6, r1).load(4, r7, r6, Skb.Mark).alu32("add", r7, 1).store(4, r6, Skb.Mark, r7);
  program.load(4, r7, r6, Skb.GsoSize).load(4, r8, r6, Skb.GsoSegs).alu("mul", r7, r8).mov(r0, r7).exit();
  const context = { mark: 41, gsoBytes: 1000, gsoSegments: 3, priority: 5 };
  const { verdict, context: after } = ran(program, frame, context);
  t.is(verdict, 3000);
  t.deepEqual({ ...after, ifindex: 0 }, { ...context, mark: 42, ifindex: 0 });
});

bpfTest("a program makes a packet longer and shorter", (t) => {
  for (const bytes of [50, -20]) {
    const program = new BpfAssembler();
    program.mov(r2, bytes).mov(r3, ROOM_AFTER_MAC).mov(r4, 0).call(Helper.SkbAdjustRoom).exit();
    const { verdict, frame: out } = ran(program, ipv4Frame);
    t.is(verdict, 0);
    t.is(out.length, ipv4Frame.length + bytes);
    t.deepEqual(out.subarray(0, 14), ipv4Frame.subarray(0, 14));
    t.deepEqual(out.subarray(-20), ipv4Frame.subarray(-20));
  }
});

bpfTest("a program that reads what is not set is refused, with what the verifier says", (t) => {
  const error = t.throws(() => load(new BpfAssembler().mov(r0, 0).load(4, r3, r9, 0).exit()), {
    instanceOf: libc.SyscallError,
  });
  t.is(error.code, "EACCES");
  t.regex(error.message, /^bpf: BPF_PROG_LOAD of tried: .*\(EACCES\): /);
  t.regex(error.message, /\n1: .*r3 = .*\nR9 !read_ok$/);
});

bpfTest("a long verifier's log is cut to its end", (t) => {
  const program = new BpfAssembler().mov(r6, r1);
  for (let i = 0; i < 2000; i++) program.load(4, r7, r6, Skb.Len);
  const { message } = t.throws(() => load(program.load(8, r0, r7, 0).exit()));
  t.regex(message, /\(\d{4} lines before these\)\n/);
  t.true(message.split("\n").length < 20);
  t.regex(message, /\nR7 invalid mem access 'scalar'$/);
});

bpfTest("a helper that the kernel has not is named by the verifier", (t) => {
  t.throws(() => load(new BpfAssembler().call(99_999).exit()), { message: /EINVAL.*\n?.*invalid func unknown#99999/s });
});

bpfTest("a program without instructions is refused by the kernel, without a log", (t) => {
  t.throws(() => load(new BpfAssembler()), { message: /^bpf: BPF_PROG_LOAD of tried: .*\(E2BIG\)$/ });
});

bpfTest("a packet that is shorter than its Ethernet header is refused", (t) => {
  const program = new BpfAssembler().exit(Tcx.Pass);
  t.throws(() => ran(program, frame.subarray(0, 13)), { message: /^bpf: BPF_PROG_TEST_RUN of program \d+: .*EINVAL/ });
});

bpfTest("an interface that is not there is no context", (t) => {
  const program = new BpfAssembler().exit(Tcx.Pass);
  t.throws(() => ran(program, frame, { ifindex: 2 ** 31 - 1 }), { message: /BPF_PROG_TEST_RUN/ });
});

test("the last words of a verifier are its last lines, without its figures and short", (t) => {
  const lines = Array.from({ length: 20 }, (_, i) => `${i}: (bf) r1 = r2`);
  const log = [
    ...lines,
    "R2 !read_ok".padEnd(300, "!"),
    "processed 21 insns (limit 1000000) max_states_per_insn 0",
    "",
  ];
  const shown = lastWords(log.join("\n")).split("\n");
  t.is(shown.length, 13);
  t.is(shown[0], "(9 lines before these)");
  t.is(shown[1], "9: (bf) r1 = r2");
  t.is(shown[12]!.length, 160);
  t.is(lastWords(""), "");
});
