// What the experiments of the control plane share: a cluster with many services, one with few, and how much is measured.
import type { ControlCluster } from "./control-cluster.ts";
import type { Contender, Experiment, Metric } from "./experiment.ts";
import type { Probes } from "./probes.ts";
import type { Swarm } from "./swarm.ts";

/** How much is measured. */
export interface Size {
  services: number;
  tasks: number;
  /** Bounds of the time in which the services are made, and the tasks started. */
  growMs: number;
  tasksMs: number;
  rounds: number;
  /** Changes a round, one a second. */
  changes: number;
  /** Seconds of changes whose processor time is counted. */
  cpuSeconds: number;
  restarts: number;
  commands: number;
}

export const FULL: Size = {
  services: 10_000,
  tasks: 1000,
  growMs: 900_000,
  tasksMs: 600_000,
  rounds: 5,
  changes: 20,
  cpuSeconds: 30, // what agents do each 30 s is in every window once
  restarts: 3,
  commands: 25,
};
export const QUICK: Size = {
  services: 500,
  tasks: 30,
  growMs: 60_000,
  tasksMs: 60_000,
  rounds: 2,
  changes: 5,
  cpuSeconds: 3,
  restarts: 1,
  commands: 8,
};

export interface Clusters {
  many: ControlCluster;
  few: ControlCluster;
  probes: Probes;
  swarm: Swarm | undefined;
  size: Size;
  seconds: number;
}

export function experiment(title: string, metrics: readonly Metric[], contenders: readonly Contender[]): Experiment {
  return { group: "control", title, metrics, contenders };
}

/** What a cluster holds, for titles and rows. */
export function contents({ services, tasks }: ControlCluster): string {
  return `${services} services, ${tasks} tasks`;
}
