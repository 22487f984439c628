// Programs of bpf(2): loading one, with what the verifier says when it refuses, and running one on a packet of the caller's.
import { counted } from "../lib/counted.ts";
import { SKB_BYTES, Skb } from "./bpf-abi.ts";
import { BpfRequest, bpfError, roomFor } from "./bpf-request.ts";
import * as libc from "./libc.ts";

/** What a program is for: a TUN's choice of a queue, or a packet on a tc or tcx hook. */
export const ProgramType = { SocketFilter: 1, SchedCls: 3 } as const;

const LICENSE = "Apache-2.0";
const INSTRUCTION_BYTES = 8;
/** The kernel keeps the end of a log that is longer. */
const LOG_BYTES = 1 << 20;
const LOG_LEVEL = 1;
/** The verifier gives up with EAGAIN when a signal comes. */
const TRIES = 5;

interface ProgramCode {
  type: (typeof ProgramType)[keyof typeof ProgramType];
  /** The kernel keeps 15 bytes: letters, digits, '_' and '.'. */
  name: string;
  /** What BpfAssembler.assemble() returns. */
  code: Uint8Array;
}

/**
 * Loads a program and returns its descriptor, which is the caller's to close; what it is attached to holds it too. Throws
 * SyscallError; where the verifier refuses it, the message ends with the last lines of the verifier's log.
 */
export function loadProgram(program: ProgramCode): number {
  const quiet = loadRequest(program, 0);
  for (let tries = 1; ; tries++) {
    const fd = quiet.try("BPF_PROG_LOAD");
    if (fd >= 0) return fd;
    const errno = libc.errno();
    if (errno === libc.Errno.Again && tries < TRIES) continue;
    throw bpfError("BPF_PROG_LOAD", program.name, errno, errno === libc.Errno.NotPermitted ? "" : verdict(program));
  }
}

/** A request that asks for the verifier's log when it has room for one. The log costs time. */
function loadRequest({ type, name, code }: ProgramCode, logBytes: number): BpfRequest {
  const request = new BpfRequest(roomFor(code, LICENSE) + logBytes);
  request.u32(0, type);
  request.u32(4, code.length / INSTRUCTION_BYTES);
  request.pointTo(8, code);
  request.pointToText(16, LICENSE);
  return request.name(48, name);
}

/** What the verifier has against the program, found by loading it again. Empty: it says nothing. */
function verdict(program: ProgramCode): string {
  const request = loadRequest(program, LOG_BYTES).u32(24, LOG_LEVEL).u32(28, LOG_BYTES);
  const log = request.pointToRoom(32, LOG_BYTES);
  const fd = request.try("BPF_PROG_LOAD");
  if (fd >= 0) libc.close(fd); // it was the moment, not the program
  const text = request.bytes.toString("latin1", log, request.bytes.indexOf(0, log));
  return lastWords(text);
}

/** Lines of a log that an error shows. The last one says what is wrong; those before, where. */
const SHOWN_LINES = 12;
const SHOWN_LINE_BYTES = 160;
/** The verifier's figures about its own work, at the end of each log. */
const FIGURES = /^(processed \d+ insns|verification time|stack depth|mark_precise|max_states)/;

/** The end of a verifier's log as a person reads it. */
export function lastWords(log: string): string {
  const lines = log.split("\n").filter((line) => line !== "" && !FIGURES.test(line));
  const shown = lines.slice(-SHOWN_LINES).map((line) => line.slice(0, SHOWN_LINE_BYTES));
  if (lines.length > shown.length) shown.unshift(`(${counted(lines.length - shown.length, "line")} before these)`);
  return shown.join("\n");
}

/** Fields of a packet's context that runProgram() takes and returns. */
export interface SkbContext {
  mark?: number;
  priority?: number;
  /** The interface that the packet came in by; it must be there. By default the loopback. */
  ifindex?: number;
  gsoSegments?: number;
  gsoBytes?: number;
}

const CONTEXT_FIELDS = [
  ["mark", Skb.Mark],
  ["priority", Skb.Priority],
  ["ifindex", Skb.Ifindex],
  ["gsoSegments", Skb.GsoSegs],
  ["gsoBytes", Skb.GsoSize],
] as const;

export interface ProgramRun {
  /** The program's result, with its sign: a verdict of Tcx. */
  verdict: number;
  /** The packet as the program left it. */
  frame: Uint8Array;
  context: Required<SkbContext>;
  /** The mean duration of a run in nanoseconds. */
  nanoseconds: number;
}

/** Bytes that a packet may grow by, and that a run on it returns. */
const GROWTH_BYTES = 512;

/** Flags of runProgram(). */
export const RunFlag = {
  /**
   * The packet comes with the sum of its bytes, as a network card gives it (CHECKSUM_COMPLETE). The run is EBADMSG when the program has left
   * a sum that is not the packet's. Linux 6.11.
   */
  ChecksumComplete: 1 << 2,
} as const;

/**
 * Runs a program of type SchedCls `repeat` times on a packet that begins with its Ethernet header, without any network. Each
 * run takes the packet as the one before has left it. Throws SyscallError: EINVAL also for a packet of more than about 3,500 bytes.
 */
export function runProgram(
  program: number,
  frame: Uint8Array,
  context: SkbContext = {},
  repeat = 1,
  flags = 0,
): ProgramRun {
  const outBytes = frame.length + GROWTH_BYTES;
  const request = new BpfRequest(roomFor(frame) + roomFor(new Uint8Array(outBytes)) + 2 * SKB_BYTES);
  request.u32(0, program).u32(8, frame.length).u32(12, outBytes).u32(32, repeat);
  request.u32(40, SKB_BYTES).u32(44, SKB_BYTES).u32(64, flags);
  request.pointTo(16, frame);
  const out = request.pointToRoom(24, outBytes);
  const contextIn = request.pointToRoom(48, SKB_BYTES);
  const contextOut = request.pointToRoom(56, SKB_BYTES);
  for (const [field, at] of CONTEXT_FIELDS) request.u32(contextIn + at, context[field] ?? 0);
  request.call("BPF_PROG_TEST_RUN", `program ${program}`);
  const { bytes } = request;
  const fields = CONTEXT_FIELDS.map(([field, at]) => [field, bytes.readUInt32LE(contextOut + at)]);
  return {
    verdict: bytes.readInt32LE(4),
    frame: Uint8Array.from(bytes.subarray(out, out + bytes.readUInt32LE(12))),
    context: Object.fromEntries(fields) as Required<SkbContext>,
    nanoseconds: bytes.readUInt32LE(36),
  };
}
