// Which queue of a TUN takes a packet: the queues are lanes, LANES of each worker, one after the other. The worker follows
// from the flow, in either direction, so that a container's flows are spread over all workers. The lane follows from the
// source address alone, so that a container that sends more than is read fills only its own lane.
// An extended BPF program chooses: bpf(2), and the kernel's include/uapi/linux/bpf.h, filter.h and if_tun.h.
import type { PacketMemory } from "../packet/memory.ts";
import * as libc from "./libc.ts";

export const LANE_BITS = 3;
/** Lanes of one worker. */
export const LANES = 1 << LANE_BITS;
/** From the golden ratio: addresses that follow one another, or lie evenly apart, get different lanes. */
export const LANE_MULTIPLIER = 0x9e3779b1;
const FLOW_MULTIPLIER = 0x85ebca6b;

const TUNSETSTEERINGEBPF = 0x800454e0;
const NO_PROGRAM = -1;
const BPF_PROG_LOAD = 5;
const SOCKET_FILTER = 1;
// union bpf_attr for BPF_PROG_LOAD
const ATTR_BYTES = 128;
const COUNT_AT = 4;
const INSTRUCTIONS_AT = 8;
const LICENSE_AT = 16;
const LICENSE = "Apache-2.0";
const INSTRUCTION_BYTES = 8; // code u8, destination and source register u4 each, offset i16, immediate i32

const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const LOAD_BYTE = 0x30;
const LOAD_WORD_INDEXED = 0x40;
const MOVE_64 = 0xbf;
const MOVE_32 = 0xbc;
const XOR_32 = 0xac;
const ADD_32 = 0x0c;
const AND_CONSTANT = 0x54;
const MULTIPLY_CONSTANT = 0x24;
const SHIFT_LEFT_CONSTANT = 0x64;
const SHIFT_RIGHT_CONSTANT = 0x74;
const JUMP_EQUAL = 0x15;
const JUMP_NOT_EQUAL = 0x55;
const EXIT = 0x95;

const VERSION_AND_LENGTH = 0;
const FRAGMENT = 6;
const FRAGMENT_BITS = 0x3fff; // more fragments, or an offset
const PROTOCOL = 9;
const SOURCE = 12;
const DESTINATION = 16;
const TCP = 6;
const UDP = 17;

// Registers. Loads from the packet go to RESULT, take the packet from CONTEXT and leave 6 to 9 as they are.
const RESULT = 0;
const ARGUMENT = 1;
const CONTEXT = 6;
const LANE = 7;
const FLOW = 8;
const PORTS = 9;

type Instruction = readonly [code: number, to: number, from: number, offset: number, immediate: number];

/** A load that would go past the packet's end ends the program with 0. */
function programOf(workers: number): readonly Instruction[] {
  return [
    [MOVE_64, CONTEXT, ARGUMENT, 0, 0],
    [LOAD_WORD, 0, 0, 0, SOURCE],
    [MOVE_32, LANE, RESULT, 0, 0],
    [LOAD_WORD, 0, 0, 0, DESTINATION],
    [MOVE_32, FLOW, RESULT, 0, 0],
    [XOR_32, FLOW, LANE, 0, 0],
    [LOAD_HALF, 0, 0, 0, FRAGMENT],
    [AND_CONSTANT, RESULT, 0, 0, FRAGMENT_BITS],
    [JUMP_NOT_EQUAL, RESULT, 0, 12, 0], // no ports in fragments
    [LOAD_BYTE, 0, 0, 0, PROTOCOL],
    [JUMP_EQUAL, RESULT, 0, 1, TCP],
    [JUMP_NOT_EQUAL, RESULT, 0, 9, UDP],
    [LOAD_BYTE, 0, 0, 0, VERSION_AND_LENGTH],
    [AND_CONSTANT, RESULT, 0, 0, 0xf],
    [SHIFT_LEFT_CONSTANT, RESULT, 0, 0, 2],
    [LOAD_WORD_INDEXED, 0, RESULT, 0, 0], // both ports
    [MOVE_32, PORTS, RESULT, 0, 0],
    [SHIFT_RIGHT_CONSTANT, PORTS, 0, 0, 16],
    [XOR_32, PORTS, RESULT, 0, 0],
    [AND_CONSTANT, PORTS, 0, 0, 0xffff],
    [XOR_32, FLOW, PORTS, 0, 0],
    [MULTIPLY_CONSTANT, FLOW, 0, 0, FLOW_MULTIPLIER],
    [SHIFT_RIGHT_CONSTANT, FLOW, 0, 0, 16],
    [MULTIPLY_CONSTANT, FLOW, 0, 0, workers],
    [SHIFT_RIGHT_CONSTANT, FLOW, 0, 0, 16],
    [SHIFT_LEFT_CONSTANT, FLOW, 0, 0, LANE_BITS],
    [MULTIPLY_CONSTANT, LANE, 0, 0, LANE_MULTIPLIER],
    [SHIFT_RIGHT_CONSTANT, LANE, 0, 0, 32 - LANE_BITS],
    [MOVE_32, RESULT, FLOW, 0, 0],
    [ADD_32, RESULT, LANE, 0, 0],
    [EXIT, 0, 0, 0, 0],
  ];
}

/**
 * Lets the program choose among the queues of the device to which the queue `fd` belongs, in the place of a program that an
 * earlier agent left there. Throws SyscallError when the kernel refuses; then the device spreads flows over its queues by itself.
 */
export function chooseLanes(memory: PacketMemory, fd: number, workers: number): void {
  try {
    const program = load(memory, programOf(workers));
    try {
      libc.checked("TUNSETSTEERINGEBPF", setProgram(fd, program)); // the device holds it now
    } finally {
      libc.close(program);
    }
  } catch (error) {
    setProgram(fd, NO_PROGRAM); // fails only where there can be none
    throw error;
  }
}

function setProgram(fd: number, program: number): number {
  return libc.ioctl(fd, TUNSETSTEERINGEBPF, Buffer.from(Int32Array.of(program).buffer));
}

function load(memory: PacketMemory, program: readonly Instruction[]): number {
  const code = memory.alloc(program.length * INSTRUCTION_BYTES);
  for (const [i, [operation, to, from, offset, immediate]] of program.entries()) {
    const at = code + i * INSTRUCTION_BYTES;
    memory.u8[at] = operation;
    memory.u8[at + 1] = (from << 4) | to;
    memory.u16[(at + 2) >> 1] = offset;
    memory.i32[(at + 4) >> 2] = immediate | 0;
  }
  const license = memory.alloc(LICENSE.length + 1);
  memory.u8.set(Buffer.from(LICENSE), license);
  const attributes = Buffer.alloc(ATTR_BYTES);
  attributes.writeUInt32LE(SOCKET_FILTER, 0);
  attributes.writeUInt32LE(program.length, COUNT_AT);
  attributes.writeBigUInt64LE(libc.pointerTo(memory, code), INSTRUCTIONS_AT);
  attributes.writeBigUInt64LE(libc.pointerTo(memory, license), LICENSE_AT);
  return libc.checked("bpf", libc.bpf(BPF_PROG_LOAD, attributes));
}
