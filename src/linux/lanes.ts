// Which queue of a TUN takes a packet: the queues are lanes, LANES of each worker, one after the other. The worker follows
// from the flow, in either direction, so that a container's flows are spread over all workers. The lane follows from the
// source address alone, so that a container that sends more than is read fills only its own lane.
// An extended BPF program chooses: the kernel's Documentation/networking/filter.rst and include/uapi/linux/if_tun.h.
import { BpfAssembler, r0, r1, r6, r7, r8, r9 } from "./bpf-assembler.ts";
import { loadProgram, ProgramType } from "./bpf-program.ts";
import * as libc from "./libc.ts";

export const LANE_BITS = 3;
/** Lanes of one worker. */
export const LANES = 1 << LANE_BITS;
/** From the golden ratio: addresses that follow one another, or lie evenly apart, get different lanes. */
export const LANE_MULTIPLIER = 0x9e3779b1;
const FLOW_MULTIPLIER = 0x85ebca6b;

const TUNSETSTEERINGEBPF = 0x800454e0;
const NO_PROGRAM = -1;

const VERSION_AND_LENGTH = 0;
const FRAGMENT = 6;
const FRAGMENT_BITS = 0x3fff; // more fragments, or an offset
const PROTOCOL = 9;
const SOURCE = 12;
const DESTINATION = 16;
const TCP = 6;
const UDP = 17;

/** A packet that is too short goes to the first queue. */
function programOf(workers: number): Uint8Array {
  const lane = r7;
  const flow = r8;
  const ports = r9;
  const program = new BpfAssembler();
  program.mov(r6, r1); // where loadPacket() expects the context
  program.loadPacket(4, SOURCE).mov32(lane, r0);
  program.loadPacket(4, DESTINATION).mov32(flow, r0);
  program.alu32("xor", flow, lane);
  program.loadPacket(2, FRAGMENT).alu32("and", r0, FRAGMENT_BITS);
  program.when(r0, "ne", 0, "hash"); // no ports in fragments
  program.loadPacket(1, PROTOCOL);
  program.when(r0, "eq", TCP, "ports");
  program.when(r0, "ne", UDP, "hash");

  program.label("ports");
  program.loadPacket(1, VERSION_AND_LENGTH);
  program.alu32("and", r0, 0xf).alu32("lsh", r0, 2); // the header's length
  program.loadPacketAt(4, r0, 0).mov32(ports, r0); // both ports
  program.alu32("rsh", ports, 16).alu32("xor", ports, r0).alu32("and", ports, 0xffff);
  program.alu32("xor", flow, ports);

  program.label("hash");
  program.alu32("mul", flow, FLOW_MULTIPLIER).alu32("rsh", flow, 16);
  program.alu32("mul", flow, workers).alu32("rsh", flow, 16); // the worker
  program.alu32("lsh", flow, LANE_BITS); // its first lane
  program.alu32("mul", lane, LANE_MULTIPLIER).alu32("rsh", lane, 32 - LANE_BITS);
  program.mov32(r0, flow).alu32("add", r0, lane);
  return program.exit().assemble();
}

/**
 * Lets the program choose among the queues of the device to which the queue `fd` belongs, in the place of a program that an
 * earlier agent left there. Throws SyscallError when the kernel refuses; then the device spreads flows over its queues by itself.
 */
export function chooseLanes(fd: number, workers: number): void {
  try {
    const code = programOf(workers);
    const program = loadProgram({ type: ProgramType.SocketFilter, name: "choose_lane", code });
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
