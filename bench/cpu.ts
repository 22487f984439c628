// CPU time: of processes with all their threads (/proc/PID/stat), and of the whole machine (/proc/stat). proc(5).
import { readdirSync, readFileSync } from "node:fs";
import type { Metric, Sample } from "./experiment.ts";

/** USER_HZ: 100 on every architecture that Node runs on. */
const TICKS_A_SECOND = 100;
const UTIME = 11; // of the fields after the command's closing parenthesis
const STIME = 12;
const IDLE = 3;
const IOWAIT = 4;
const COUNTED = 8; // user to steal; guest time is in user already

export interface CpuSeconds {
  agents: number;
  system: number;
}

export function cpuSeconds(pids: readonly number[]): CpuSeconds {
  let agents = 0;
  for (const pid of pids) agents += processSeconds(readFileSync(`/proc/${pid}/stat`, "utf8"));
  return { agents, system: busySeconds(readFileSync("/proc/stat", "utf8")) };
}

/** Metrics that `withCpu` adds to a sample, in microseconds. */
export function cpuMetrics(unit: string): Metric[] {
  return [
    { id: "agents' CPU", unit: `us/${unit}`, digits: 2, alone: true },
    { id: "machine's CPU", unit: `us/${unit}`, digits: 2 },
  ];
}

/** Adds the processor time that `measure` took, for each unit that it measured; `unitsOf` finds their number. */
export async function withCpu(
  pids: readonly number[],
  measure: () => Promise<Sample>,
  unitsOf: (sample: Sample) => number,
): Promise<Sample> {
  const before = cpuSeconds(pids);
  const sample = await measure();
  const after = cpuSeconds(pids);
  const micros = 1e6 / unitsOf(sample);
  return {
    ...sample,
    "agents' CPU": (after.agents - before.agents) * micros,
    "machine's CPU": (after.system - before.system) * micros,
  };
}

/** CPU milliseconds of a process's living threads, to the nanosecond. */
export function threadMilliseconds(pid: number): number {
  const tasks = `/proc/${pid}/task`;
  let nanoseconds = 0;
  for (const tid of readdirSync(tasks)) {
    nanoseconds += Number(readFileSync(`${tasks}/${tid}/schedstat`, "utf8").split(" ")[0]);
  }
  return nanoseconds / 1e6;
}

/** CPU seconds in the text of /proc/PID/stat. */
export function processSeconds(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_A_SECOND;
}

/** CPU seconds in the text of /proc/stat: all that were not idle. */
export function busySeconds(stat: string): number {
  const ticks = stat
    .slice(0, stat.indexOf("\n"))
    .split(/\s+/)
    .slice(1, 1 + COUNTED)
    .map(Number);
  const busy = ticks.filter((_, i) => i !== IDLE && i !== IOWAIT).reduce((sum, value) => sum + value, 0);
  return busy / TICKS_A_SECOND;
}

export function residentMegabytesOf(pid: number): number {
  return residentMegabytes(readFileSync(`/proc/${pid}/status`, "utf8"));
}

/** Resident megabytes (10^6 bytes), shared pages included, in the text of /proc/PID/status. */
export function residentMegabytes(status: string): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(status);
  if (match === null) throw new Error("/proc/PID/status has no VmRSS");
  return (Number(match[1]) * 1024) / 1e6;
}
