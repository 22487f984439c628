// Names and packets in a large cluster: while changes come, against a small cluster, and while an agent is started again.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { networkOf } from "../test/system/listings.ts";
import { type Clusters, contents, experiment } from "./control-beds.ts";
import type { ControlCluster } from "./control-cluster.ts";
import { type DnsLoad, dnsperf, QUERIES_FILE } from "./dnsperf.ts";
import type { Experiment, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import { NETWORK } from "./overlay.ts";
import { restart } from "./restart.ts";
import { throughputAndPackets } from "./scale.ts";

export function packetExperiments(clusters: Clusters): Experiment[] {
  return [namesExperiment(clusters), tablesExperiment(clusters), restartExperiment(clusters)];
}

function namesExperiment({ many, seconds }: Clusters): Experiment {
  const { lab, direct } = many.overlay;
  let load: DnsLoad;
  const measure = async (everyMs: number | undefined): Promise<Sample> => {
    const stop = new AbortController();
    const changing = everyMs === undefined ? Promise.resolve(0) : many.changeSteadily(everyMs, { signal: stop.signal });
    const began = performance.now();
    try {
      const { perSecond, lost } = await dnsperf(load);
      stop.abort();
      const made = await changing;
      return { answered: perSecond / 1000, lost, changes: (1000 * made) / (performance.now() - began) };
    } finally {
      stop.abort();
      await changing.catch(() => {}); // a failure above is the one to tell
    }
  };
  return {
    ...experiment(
      `names in the packet path while 10 changes a second come, ${contents(many)}`,
      [
        { id: "answered", unit: "1000/s", digits: 1, limit: LIMITS.namesBesideChanges },
        { id: "lost", unit: "queries", digits: 0, alone: true },
        { id: "changes", unit: "1/s", digits: 1, alone: true },
      ],
      [
        { name: "10 changes a second", measure: () => measure(100) },
        { name: "no changes", measure: () => measure(undefined) },
      ],
    ),
    before: async () => {
      const { gateway } = await networkOf(many.manager, NETWORK);
      const names = ["source", "neighbor", "target"];
      writeFileSync(join(lab.directory, QUERIES_FILE), names.map((name) => `${name} A\n`).join(""));
      const agents = (): number[] => many.overlay.agents();
      load = { from: direct.from, address: gateway, port: 53, directory: lab.directory, seconds, agents };
      await dnsperf(load);
    },
  };
}

function tablesExperiment({ many, few, probes, seconds }: Clusters): Experiment {
  const measure = ({ overlay }: ControlCluster) => throughputAndPackets(probes, overlay.direct, seconds);
  return experiment(
    "between two nodes of a large cluster, against a small one",
    [
      { id: "throughput", unit: "Gbit/s", digits: 2, limit: LIMITS.manyServices },
      { id: "delivered", unit: "kpps", digits: 1, limit: LIMITS.manyServices },
    ],
    [
      { name: contents(many), measure: () => measure(many) },
      { name: contents(few), measure: () => measure(few) },
    ],
  );
}

function restartExperiment({ many, size }: Clusters): Experiment {
  return {
    ...experiment(
      `the agent that leads is killed and started again, ${contents(many)}`,
      [
        { id: "without forwarding", unit: "s", digits: 2, limit: LIMITS.forwardingBackMany },
        { id: "without names", unit: "s", digits: 2 },
      ],
      [{ name: "overlayd", measure: () => restart(many.overlay) }],
    ),
    rounds: size.restarts,
  };
}
