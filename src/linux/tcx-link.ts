// tcx links (Linux 6.6): what keeps a program on what comes in by a network interface. A tcx link is a descriptor; the program
// stays while this or a pin of it is open, and no other process replaces it by a program of its own.
import { programName } from "./bpf-objects.ts";
import { BpfRequest, bpfError, roomFor } from "./bpf-request.ts";
import * as libc from "./libc.ts";

const TCX_INGRESS = 46;
const BEFORE_ALL = 1 << 3; // BPF_F_BEFORE, of no program in particular
const ID_BYTES = 4;
/** Bytes of struct bpf_link_info that are read here. */
const INFO_BYTES = 24;

/**
 * Lets `program` see what comes in by the interface with this index in the network namespace of this process, after the programs
 * that are there, or `first`. Returns the tcx link's descriptor. Throws SyscallError: ENODEV when there is no such interface.
 */
export function makeTcxLink(program: number, ifindex: number, { first = false } = {}): number {
  const request = new BpfRequest().u32(0, program).u32(4, ifindex).u32(8, TCX_INGRESS);
  return request.u32(12, first ? BEFORE_ALL : 0).call("BPF_LINK_CREATE", `tcx on interface ${ifindex}`);
}

/** Puts another program in the place of the link's, between one packet and the next. ENOLINK: the interface is gone. */
export function replaceProgram(link: number, program: number): void {
  new BpfRequest().u32(0, link).u32(4, program).call("BPF_LINK_UPDATE", `tcx link ${link}`);
}

/** Takes the link's program off its interface, also where the link is pinned or open elsewhere. */
export function endTcxLink(link: number): void {
  new BpfRequest().u32(0, link).call("BPF_LINK_DETACH", `tcx link ${link}`);
}

interface TcxLink {
  id: number;
  /** The id of its program. */
  program: number;
  /** The interface that it is on; 0 when the interface is gone or the link has ended. */
  ifindex: number;
}

export function describeTcxLink(link: number): TcxLink {
  const request = new BpfRequest(INFO_BYTES).u32(0, link).u32(4, INFO_BYTES);
  const info = request.pointToRoom(8, INFO_BYTES);
  request.call("BPF_OBJ_GET_INFO_BY_FD", `tcx link ${link}`);
  const { bytes } = request;
  return {
    id: bytes.readUInt32LE(info + 4),
    program: bytes.readUInt32LE(info + 8),
    ifindex: bytes.readUInt32LE(info + 16),
  };
}

interface TcxProgram {
  /** The program's id. */
  program: number;
  /** Its tcx link's id; 0: it is there without one. */
  link: number;
  /** undefined: the program went meanwhile, or this process may not ask (CAP_SYS_ADMIN). */
  name: string | undefined;
}

/** The programs that see what comes in by an interface, in their order. Throws SyscallError: EINVAL before Linux 6.6. */
export function tcxPrograms(ifindex: number): TcxProgram[] {
  for (let most = 16; ; most *= 2) {
    const request = new BpfRequest(2 * roomFor(new Uint8Array(most * ID_BYTES)));
    request.u32(0, ifindex).u32(4, TCX_INGRESS).u32(24, most);
    const programs = request.pointToRoom(16, most * ID_BYTES);
    const links = request.pointToRoom(40, most * ID_BYTES);
    if (request.try("BPF_PROG_QUERY") < 0) {
      if (libc.errno() === libc.Errno.NoSpace) continue;
      throw bpfError("BPF_PROG_QUERY", `tcx on interface ${ifindex}`);
    }
    const { bytes } = request;
    return Array.from({ length: bytes.readUInt32LE(24) }, (_, i) => {
      const program = bytes.readUInt32LE(programs + i * ID_BYTES);
      return { program, link: bytes.readUInt32LE(links + i * ID_BYTES), name: programName(program) };
    });
  }
}
