// Whether the express lane carries the flows of a run's agents: their configuration decides, and what the machine lacks.
import { parseConfig } from "../src/agent/config.ts";
import { whatBpfLacks } from "../src/linux/bpf-probe.ts";
import type { BenchOptions } from "./options.ts";

const DEFAULTS = parseConfig("node: {name: bench}\n").datapath;

/** Entries that the lane's map of flows takes by default. */
export const LANE_ENTRIES = DEFAULTS.expressFlows ?? 2 * DEFAULTS.flows;

/** Why no flow of agents with these settings goes in the lane, as a sentence without its full stop; undefined: flows go in it. */
export function whyLaneIsOff({ datapath }: Pick<BenchOptions, "datapath">): string | undefined {
  const express = datapath.express ?? DEFAULTS.express;
  return express === "off" ? "'datapath.express' is off" : whatBpfLacks();
}
