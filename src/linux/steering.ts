// Which worker's socket takes a datagram: a classic BPF program on the SO_REUSEPORT group (socket(7)), so that probes
// come to the first worker, which keeps their sessions, and every other flow to one worker by its source port. Sealed datagrams come to the
// worker that has the association: the SPI, which this node chose, says which.
import type { PacketMemory } from "../packet/memory.ts";
import { MANAGEMENT_VNI } from "../packet/vxlan.ts";
import * as libc from "./libc.ts";
import { Level } from "./sockets.ts";

const SO_ATTACH_REUSEPORT_CBPF = 51;
const INSTRUCTION_BYTES = 8; // code u16, jt u8, jf u8, k u32

// linux/bpf_common.h and filter.h.
const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const SHIFT_RIGHT = 0x74;
const JUMP_EQUAL = 0x15;
const MODULO = 0x94;
const RETURN = 0x06;
const RETURN_ACCUMULATOR = 0x16;
/** SKF_NET_OFF: what is added to it counts from the IP header; other offsets count from the UDP payload. */
const NETWORK_HEADER = 0xfff00000;
const VNI_WORD = 4;
const SPI_WORD = 0;
const SOURCE_PORT = 20;

type Program = readonly (readonly [code: number, whenTrue: number, whenFalse: number, k: number])[];

/** What datagrams are steered by. */
export type Steering = "vxlan" | "spi";

function programFor(steering: Steering, workers: number): Program {
  if (steering === "spi") {
    return [
      [LOAD_WORD, 0, 0, SPI_WORD],
      [MODULO, 0, 0, workers],
      [RETURN_ACCUMULATOR, 0, 0, 0],
    ];
  }
  return [
    [LOAD_WORD, 0, 0, VNI_WORD],
    [SHIFT_RIGHT, 0, 0, 8],
    [JUMP_EQUAL, 0, 1, MANAGEMENT_VNI],
    [RETURN, 0, 0, 0],
    [LOAD_HALF, 0, 0, NETWORK_HEADER + SOURCE_PORT],
    [MODULO, 0, 0, workers],
    [RETURN_ACCUMULATOR, 0, 0, 0],
  ];
}

/** Gives the program to the group of `fd`, whose sockets count in the order in which they were bound. Returns whether the kernel took it. */
export function steer(memory: PacketMemory, fd: number, workers: number, steering: Steering): boolean {
  const program = programFor(steering, workers);
  const at = memory.alloc(program.length * INSTRUCTION_BYTES);
  for (const [i, [code, whenTrue, whenFalse, k]] of program.entries()) {
    const instruction = at + i * INSTRUCTION_BYTES;
    memory.u16[instruction >> 1] = code;
    memory.u8[instruction + 2] = whenTrue;
    memory.u8[instruction + 3] = whenFalse;
    memory.i32[(instruction + 4) >> 2] = k | 0;
  }
  const descriptor = Buffer.alloc(16); // struct sock_fprog: length u16, padding, pointer
  descriptor.writeUInt16LE(program.length, 0);
  descriptor.writeBigUInt64LE(BigInt(libc.pointerTo(memory, at)), 8);
  return libc.setsockopt(fd, Level.Socket, SO_ATTACH_REUSEPORT_CBPF, descriptor, descriptor.length) === 0;
}
