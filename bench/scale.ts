// The cost of large tables: a pair of nodes whose tables are filled beside one with a few services and flows, and the memory
// of the former's agents.
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS, type WayLimits } from "./limits.ts";
import type { Loaded } from "./loaded.ts";
import type { BenchOptions } from "./options.ts";
import type { Overlay } from "./overlay.ts";
import type { Path } from "./path.ts";
import type { Probes } from "./probes.ts";

const FLOWS = 200_000;
/** Some flows end while a measurement goes on. */
const SPARE_FLOWS = 10_000;
/** About all that one container may take of a table of 262,144 flows: the last eighth is kept for others. */
const MOST_FLOWS = 225_000;
const SERVICES = [100, 10_000];
const MEMORY_SERVICES = 1000;

export interface ScaleBed {
  overlay: Overlay;
  loaded: Loaded;
  probes: Probes;
  options: BenchOptions;
  limits: WayLimits;
}

/** The experiments in an order that only adds services: they are not removed in between. */
export function scaleExperiments(bed: ScaleBed): Experiment[] {
  const { loaded } = bed;
  const [few, many] = SERVICES as [number, number];
  return [
    scaleExperiment(bed, `${FLOWS} flows`, () => loaded.fillFlows(FLOWS + SPARE_FLOWS)),
    { ...scaleExperiment(bed, `${few} services`), before: () => loaded.growServices(few) },
    memoryExperiment(loaded),
    { ...scaleExperiment(bed, `${many} services`), before: () => loaded.growServices(many) },
  ];
}

function scaleExperiment(bed: ScaleBed, title: string, fill = async (): Promise<void> => {}): Experiment {
  const { overlay, loaded, probes, options, limits } = bed;
  const measure = (path: Path): Promise<Sample> => throughputAndPackets(probes, path, options.seconds);
  const measureFilled = async (): Promise<Sample> => {
    await fill();
    return measure(loaded.overlay.direct);
  };
  return {
    group: "scale",
    title: `${title} in the tables, against one`,
    metrics: [
      { id: "throughput", unit: "Gbit/s", digits: 2, limit: limits.scale },
      { id: "delivered", unit: "kpps", digits: 1, limit: limits.scale },
    ],
    contenders: [
      { name: title, measure: measureFilled },
      { name: "one", measure: () => measure(overlay.direct) },
    ],
  };
}

export async function throughputAndPackets(probes: Probes, path: Path, seconds: number): Promise<Sample> {
  const { throughput } = await probes.tcp(path, { streams: 1, seconds, back: false });
  const { delivered } = await probes.delivered(path, seconds / 2);
  return { throughput: throughput!, delivered: delivered! };
}

function memoryExperiment(loaded: Loaded): Experiment {
  return {
    group: "memory",
    title: `memory of an agent with ${MOST_FLOWS} flows and ${MEMORY_SERVICES} services`,
    metrics: [{ id: "resident", unit: "Mbyte", digits: 0, limit: LIMITS.residentMegabytes }],
    contenders: [{ name: "overlayd", measure: async () => ({ resident: loaded.residentMegabytes() }) }],
    before: async () => {
      await loaded.growServices(MEMORY_SERVICES);
      await loaded.fillFlows(MOST_FLOWS);
    },
  };
}
