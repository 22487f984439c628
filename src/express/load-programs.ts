// The lane's two programs, in the kernel.
import { loadProgram, ProgramType } from "../linux/bpf-program.ts";
import * as libc from "../linux/libc.ts";
import { fromContainer } from "./from-container.ts";
import { fromUnderlay } from "./from-underlay.ts";
import type { HookKind } from "./hooks.ts";
import type { LaneMaps } from "./layout.ts";

/** Their descriptors; `port` is where VXLAN arrives. Throws SyscallError, with the verifier's words where it refuses one. */
export function loadPrograms(maps: LaneMaps, port: number): Record<HookKind, number> {
  const type = ProgramType.SchedCls;
  const container = loadProgram({ type, name: "overlay_cont", code: fromContainer(maps) });
  try {
    return { container, underlay: loadProgram({ type, name: "overlay_under", code: fromUnderlay(maps, port) }) };
  } catch (error) {
    libc.close(container);
    throw error;
  }
}
