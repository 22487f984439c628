// The machine that a run is made on, and what it charges for a system call and a wake-up: how far a data path in user
// space is behind the kernel's depends on both.
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { run } from "../test/system/command.ts";

const SOURCE = "bench/probes/machine-costs.c";

export interface Machine {
  cpu: string;
  cores: number;
  memoryGigabytes: number;
  kernel: string;
  node: string;
  /** Nanoseconds of a system call that does nothing, from C and from JavaScript. */
  systemCallNanoseconds: number;
  systemCallFromJavaScriptNanoseconds: number;
  /** Microseconds until a thread that sleeps runs, once a thread on another processor has woken it; the median. */
  wakeUpMicroseconds: number;
}

/** Compiles a small program into `directory`, and runs it for a second or two. */
export async function describeMachine(directory: string): Promise<Machine> {
  const program = join(directory, "machine-costs");
  await run(["gcc", "-O2", "-Wall", "-pthread", "-o", program, SOURCE]);
  const costs = JSON.parse(await run([program])) as { systemCall: number; wakeUp: number };
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryGigabytes: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    systemCallNanoseconds: costs.systemCall,
    systemCallFromJavaScriptNanoseconds: systemCallFromJavaScript(),
    wakeUpMicroseconds: costs.wakeUp / 1000,
  };
}

export function machineText(machine: Machine): string {
  const { cpu, cores, memoryGigabytes, kernel, node } = machine;
  const { systemCallNanoseconds, systemCallFromJavaScriptNanoseconds, wakeUpMicroseconds } = machine;
  return (
    `${cores} cores of ${cpu}, ${memoryGigabytes} GB, Linux ${kernel}, Node.js ${node}; ` +
    `a system call takes ${systemCallNanoseconds} ns (from JavaScript ${systemCallFromJavaScriptNanoseconds} ns), ` +
    `the wake-up of a thread ${wakeUpMicroseconds.toFixed(1)} us`
  );
}

function systemCallFromJavaScript(): number {
  const calls = 200_000;
  const began = performance.now();
  for (let i = 0; i < calls; i++) process.ppid; // getppid(2)
  return Math.round(((performance.now() - began) * 1e6) / calls);
}
