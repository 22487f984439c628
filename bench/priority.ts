// Times of requests to the other node and back beside busy loops, and the processor time that the loops keep. The rows
// differ in the priority of the data path's threads and their session: as `datapath.priority` sets it, none, and by other
// means of the kernel.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { run } from "../test/system/command.ts";
import { BusyLoops } from "./busy-loops.ts";
import { cpuSeconds } from "./cpu.ts";
import { CpuGroup } from "./cpu-group.ts";
import type { Contender, Experiment, Sample } from "./experiment.ts";
import type { KernelVxlan } from "./kernel-vxlan.ts";
import { limited, type WayLimits } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import type { Overlay } from "./overlay.ts";
import type { Path } from "./path.ts";
import type { Probes } from "./probes.ts";

const LOOPS = 4;
const REQUESTS = 8000;
const QUICK_REQUESTS = 1500;
const NICE = -10;
const SHORT_SLICE_MICROS = 100;
/** The weight that `docker run --cpu-shares 8192` or `CPUWeight=800` gives. */
const HEAVY = 8;

export interface PriorityBed {
  overlay: Overlay;
  kernel: KernelVxlan;
  probes: Probes;
  options: BenchOptions;
  limits: WayLimits;
}

/** The agents' priority; where a field is left out, they are as ordinary programs. */
interface Given {
  nice?: number;
  /** The nice value of the agents' sessions. */
  sessionNice?: number;
  roundRobin?: boolean;
  sliceMicros?: number;
  /** The weight of the agents' cgroup. */
  weight?: number;
}

interface Place {
  title: string;
  /** The cgroups that the loops and the agents are put into. Without it they stay where they are. */
  loopsGroup?: string;
  agentsGroup?: string;
  givens: readonly (readonly [name: string, given: Given])[];
  isJudged?: true;
}

/** The priority that agents have by their configuration's default. */
const PRIORITY: Given = { nice: NICE, sessionNice: NICE, sliceMicros: SHORT_SLICE_MICROS };
const OWN = ["datapath.priority: 10", PRIORITY] as const;
const ORDINARY = ["as ordinary programs", {}] as const;
const NICE_VALUES = ["nice -10 alone", { nice: NICE, sessionNice: NICE }] as const;
const THREADS_ALONE = ["nice -10 alone, not their sessions", { nice: NICE }] as const;
const SHORT_SLICES = ["slices of 0.1 ms alone", { sliceMicros: SHORT_SLICE_MICROS }] as const;
const ROUND_ROBIN = ["SCHED_RR", { roundRobin: true }] as const;
const WEIGHED = ["datapath.priority: 10, and 8 times the weight", { ...PRIORITY, weight: HEAVY }] as const;

const PLACES: readonly Place[] = [
  {
    title: "loops in sessions of their own",
    givens: [OWN, ORDINARY, NICE_VALUES, THREADS_ALONE, SHORT_SLICES, ROUND_ROBIN],
    isJudged: true,
  },
  {
    title: "loops in a cgroup",
    loopsGroup: "bench-loops",
    givens: [OWN, ORDINARY, NICE_VALUES, SHORT_SLICES, ROUND_ROBIN],
    isJudged: true,
  },
  {
    title: "loops in a cgroup, the agents in another as in containers",
    loopsGroup: "bench-loops",
    agentsGroup: "bench-agents",
    // SCHED_RR is left out: a new cgroup has no time for it, and the kernel refuses it.
    givens: [OWN, ORDINARY, WEIGHED, SHORT_SLICES],
  },
];

export function priorityExperiments(bed: PriorityBed): Experiment[] {
  return PLACES.map((place) => priorityExperiment(bed, place));
}

function priorityExperiment(bed: PriorityBed, place: Place): Experiment {
  const { overlay, kernel, probes, options, limits } = bed;
  const count = options.quick ? QUICK_REQUESTS : REQUESTS;
  const loops = new BusyLoops();
  let loopsGroup: CpuGroup | undefined;
  let agentsGroup: CpuGroup | undefined;
  const measure = async (path: Path): Promise<Sample> => {
    const began = performance.now();
    const before = cpuSeconds(loops.pids).agents;
    const sample = await probes.requests(path, count);
    const seconds = (performance.now() - began) / 1000;
    return { ...sample, "left to the loops": (cpuSeconds(loops.pids).agents - before) / seconds };
  };
  const contenders: Contender[] = place.givens.map(([name, given]) => ({
    name,
    measure: async () => {
      await give(bed, given);
      agentsGroup?.weigh(given.weight ?? 1);
      return measure(overlay.direct);
    },
  }));
  return {
    group: "priority",
    title: `request and response beside ${LOOPS} busy ${place.title}`,
    metrics: [
      { id: "p50", unit: "us", digits: 0 },
      limited({ id: "p99", unit: "us", digits: 0 }, place.isJudged && limits.priority),
      { id: "left to the loops", unit: "processors", digits: 2, alone: true },
    ],
    contenders: [...contenders, { name: "kernel VXLAN", measure: () => measure(kernel.direct) }],
    before: async () => {
      loops.start(LOOPS);
      if (place.loopsGroup !== undefined) loopsGroup = new CpuGroup(place.loopsGroup, loops.pids);
      if (place.agentsGroup !== undefined) agentsGroup = new CpuGroup(place.agentsGroup, overlay.agents());
    },
    after: async () => {
      await give(bed, PRIORITY);
      await loops.stop();
      loopsGroup?.remove();
      agentsGroup?.remove();
    },
  };
}

/** Sets the data path's threads and the agents' sessions from outside, as the agents do it for themselves. */
async function give({ overlay, probes }: PriorityBed, given: Given): Promise<void> {
  const { nice = 0, sessionNice = 0, sliceMicros = 0, roundRobin = false } = given;
  const policy = roundRobin ? ["rr", "1", "0"] : ["other", `${nice}`, `${sliceMicros}`];
  const agents = overlay.agents();
  await run([probes.program("schedule"), ...policy, ...agents.flatMap(workersOf)]);
  for (const pid of agents) {
    const autogroup = `/proc/${pid}/autogroup`;
    if (existsSync(autogroup)) writeFileSync(autogroup, `${sessionNice}`);
  }
}

/** The thread ids of an agent's data path. */
function workersOf(pid: number): string[] {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks).filter((tid) => readFileSync(`${tasks}/${tid}/comm`, "utf8").startsWith("datapath-"));
}
