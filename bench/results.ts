// bench/results.json: what was measured, when, and on what machine.
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import type { Row } from "./experiment.ts";
import type { Group } from "./options.ts";

const RESULTS = "bench/results.json";

export interface Machine {
  cpu: string;
  cores: number;
  memoryGigabytes: number;
  kernel: string;
  node: string;
  /** What one system call costs. How far user space is behind the kernel depends on it. */
  systemCallNanoseconds: number;
}

/** An experiment that gave no figures, and why. */
export interface Failure {
  group: Group;
  experiment: string;
  reason: string;
}

export interface Results {
  at: string;
  rounds: number;
  secondsEach: number;
  machine: Machine;
  /** What the agents' `datapath` section had besides its defaults. */
  datapath: Readonly<Record<string, number>>;
  rows: readonly Row[];
  failures: readonly Failure[];
}

/** The head line of a run: when and where it was made. */
export function describeRun({ at, rounds, secondsEach, machine }: Omit<Results, "rows" | "failures">): string {
  const { cpu, cores, memoryGigabytes, kernel, node, systemCallNanoseconds } = machine;
  return (
    `Measured ${at.slice(0, 10)} on ${cores} cores of ${cpu}, ${memoryGigabytes} GB, Linux ${kernel}, Node.js ${node}; ` +
    `${rounds} rounds of ${secondsEach} s; a system call takes ${systemCallNanoseconds} ns from JavaScript.`
  );
}

export function describeMachine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryGigabytes: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
    systemCallNanoseconds: systemCallNanoseconds(),
  };
}

/** What getppid(2), which does nothing, costs when JavaScript calls it. */
function systemCallNanoseconds(): number {
  const calls = 200_000;
  const began = performance.now();
  for (let i = 0; i < calls; i++) process.ppid;
  return Math.round(((performance.now() - began) * 1e6) / calls);
}

export function writeResults(results: Results): void {
  writeFileSync(RESULTS, `${JSON.stringify(results, null, 2)}\n`);
}

/** Throws when there are none. */
export function readResults(): Results {
  return JSON.parse(readFileSync(RESULTS, "utf8")) as Results;
}
