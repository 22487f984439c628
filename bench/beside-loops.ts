// The ways between two nodes beside busy loops, against the kernel's VXLAN beside the same loops.
import { BusyLoops } from "./busy-loops.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { limited } from "./limits.ts";
import type { Path } from "./path.ts";
import type { PriorityBed } from "./priority.ts";

const LOOPS = 2;
const REQUESTS = 8000;
const QUICK_REQUESTS = 1500;

export function besideLoopsExperiment({ overlay, kernel, probes, options, limits }: PriorityBed): Experiment {
  const loops = new BusyLoops();
  const measure = async (path: Path): Promise<Sample> => {
    const { throughput } = await probes.tcp(path, { streams: 1, seconds: options.seconds, back: false });
    const { p50 } = await probes.requests(path, options.quick ? QUICK_REQUESTS : REQUESTS);
    return { throughput: throughput!, p50: p50! };
  };
  return {
    group: "priority",
    title: `one stream, then request and response, beside ${LOOPS} busy loops`,
    metrics: [
      limited({ id: "throughput", unit: "Gbit/s", digits: 2 }, limits.tcpBesideLoops),
      limited({ id: "p50", unit: "us", digits: 0 }, limits.p50BesideLoops),
    ],
    contenders: [
      { name: "overlayd", measure: () => measure(overlay.direct) },
      { name: "kernel VXLAN", measure: () => measure(kernel.direct) },
    ],
    before: async () => loops.start(LOOPS),
    after: () => loops.stop(),
  };
}
