// The lane's programs, in the kernel.
import type { Cidr } from "../lib/ip.ts";
import { loadProgram, ProgramType } from "../linux/bpf-program.ts";
import * as libc from "../linux/libc.ts";
import { fromContainer } from "./from-container.ts";
import { fromNode } from "./from-node.ts";
import { fromUnderlay } from "./from-underlay.ts";
import type { HookKind } from "./hooks.ts";
import type { LaneMaps } from "./layout.ts";

interface LoadOptions {
  /** Where VXLAN arrives. */
  port: number;
  pool: Cidr;
}

/** Their descriptors. Throws SyscallError, with the verifier's words where it refuses one. */
export function loadPrograms(maps: LaneMaps, { port, pool }: LoadOptions): Record<HookKind, number> {
  const loaded: number[] = [];
  const load = (name: string, code: Uint8Array): number => {
    const fd = loadProgram({ type: ProgramType.SchedCls, name, code });
    loaded.push(fd);
    return fd;
  };
  try {
    return {
      container: load("overlay_cont", fromContainer(maps)),
      underlay: load("overlay_under", fromUnderlay(maps, port)),
      node: load("overlay_node", fromNode(maps, pool)),
    };
  } catch (error) {
    for (const fd of loaded) libc.close(fd);
    throw error;
  }
}
