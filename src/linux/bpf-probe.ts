// Whether this process may load programs for tcx, maps and links, and, in words, what it or the kernel lacks.
import { readFileSync } from "node:fs";
import { release } from "node:os";
import { Tcx } from "./bpf-abi.ts";
import { BpfAssembler } from "./bpf-assembler.ts";
import { createMap } from "./bpf-map.ts";
import { loadProgram, ProgramType } from "./bpf-program.ts";
import * as libc from "./libc.ts";
import { tcxPrograms } from "./tcx-link.ts";

const CAP_NET_ADMIN = 12;
const CAP_SYS_ADMIN = 21;
const CAP_BPF = 39;
/** The loopback interface has this index in every network namespace. */
const LOOPBACK = 1;
const WHOLE_MACHINE = /^\s*0\s+0\s+4294967295\s*$/;

/** What is tried, in this order. */
type Step = "map" | "program" | "tcx";

/** What says why the kernel refused. */
interface Circumstances {
  /** The kernel's release, as uname(2) has it. */
  release: string;
  /** The text of /proc/self/status. */
  status: string;
  /** The text of /proc/self/uid_map. */
  uidMap: string;
}

/** What stands against programs on tcx links, as a sentence without its full stop; undefined: nothing does. */
export function whatBpfLacks(): string | undefined {
  const facts = {
    release: release(),
    status: readFileSync("/proc/self/status", "utf8"),
    uidMap: readFileSync("/proc/self/uid_map", "utf8"),
  };
  let step: Step = "map";
  const fds: number[] = [];
  try {
    fds.push(createMap({ type: "array", keyBytes: 4, valueBytes: 4, entries: 1, name: "probe", mmapable: true }));
    step = "program";
    const code = new BpfAssembler().exit(Tcx.Next).assemble();
    fds.push(loadProgram({ type: ProgramType.SchedCls, name: "probe", code }));
    step = "tcx";
    tcxPrograms(LOOPBACK);
    return undefined;
  } catch (error) {
    if (!(error instanceof libc.SyscallError)) throw error;
    return lackOf(step, error, facts);
  } finally {
    for (const fd of fds) libc.close(fd);
  }
}

/** What the refusal of a step means. */
export function lackOf(step: Step, error: libc.SyscallError, facts: Circumstances): string {
  if (error.code === "ENOSYS") return `this kernel (${facts.release}) has no bpf(2) for programs: ${error.message}`;
  if (error.code === "EPERM") return `${permissionLack(facts)}: ${error.message}`;
  if (step === "tcx" && error.code === "EINVAL") return `${tcxLack(facts.release)}: ${error.message}`;
  return error.message;
}

function permissionLack({ status, uidMap }: Circumstances): string {
  const capabilities = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const has = (capability: number): boolean => ((capabilities >> BigInt(capability)) & 1n) === 1n;
  const lacks: string[] = [];
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) lacks.push("CAP_BPF");
  if (!has(CAP_NET_ADMIN)) lacks.push("CAP_NET_ADMIN");
  if (lacks.length > 0) {
    const options = lacks.map((capability) => `--cap-add ${capability.slice("CAP_".length)}`).join(" ");
    const older = lacks.includes("CAP_BPF") ? "; a Docker that does not know BPF has SYS_ADMIN for it" : "";
    return `the process lacks ${lacks.join(" and ")} (in a container: ${options}${older})`;
  }
  if (!WHOLE_MACHINE.test(uidMap))
    return "the process runs in a user namespace, where its capabilities are not the machine's";
  const isFiltered = /^Seccomp:\s*2$/m.test(status);
  return isFiltered
    ? "a seccomp filter of the process may refuse bpf(2) (Docker's own lets it pass with --cap-add BPF or SYS_ADMIN)"
    : "the kernel's lockdown or a security module refuses bpf(2)";
}

function tcxLack(kernel: string): string {
  const [major, minor] = kernel.split(".").map(Number) as [number, number];
  const isOld = major < 6 || (major === 6 && minor < 6);
  return isOld
    ? `this kernel (${kernel}) has no tcx, which came with Linux 6.6`
    : `this kernel (${kernel}) was built without tcx (CONFIG_NET_XGRESS)`;
}
