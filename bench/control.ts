// The control plane: what a change costs in a cluster of 10,000 services and 1,000 tasks. It is held against Docker
// Swarm's manager on the same machine, and against a cluster of 10 services. The clusters are three nodes each.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { messageOf } from "../src/lib/errors.ts";
import { run } from "../test/system/command.ts";
import { networkOf } from "../test/system/listings.ts";
import { ControlCluster } from "./control-cluster.ts";
import { growExperiments } from "./control-growth.ts";
import { residentMegabytesOf, threadMilliseconds } from "./cpu.ts";
import { type DnsLoad, dnsperf, QUERIES_FILE } from "./dnsperf.ts";
import type { Contender, Experiment, Metric, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { NETWORK, Overlay } from "./overlay.ts";
import { Probes } from "./probes.ts";
import { restart } from "./restart.ts";
import { throughputAndPackets } from "./scale.ts";
import type { Teardown } from "./set-up.ts";
import { percentile } from "./statistics.ts";
import { Swarm } from "./swarm.ts";

const MANY_PREFIX = "benchmany";
const FEW_PREFIX = "benchfew";
const NODES = 3;
const FEW_SERVICES = 10;
const COMMAND_LINE = fileURLToPath(new URL("../bin/overlayctl.js", import.meta.url));

/** How much is measured. */
interface Size {
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

const FULL: Size = {
  services: 10_000,
  tasks: 1000,
  growMs: 900_000,
  tasksMs: 600_000,
  rounds: 5,
  changes: 20,
  cpuSeconds: 10,
  restarts: 3,
  commands: 25,
};
const QUICK: Size = {
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

interface Clusters {
  many: ControlCluster;
  few: ControlCluster;
  probes: Probes;
  swarm: Swarm | undefined;
  size: Size;
  seconds: number;
}

/** Growth comes first: the titles of the other experiments say how many services and tasks there are. */
export async function* controlExperiments(options: BenchOptions, teardown: Teardown): AsyncGenerator<Experiment> {
  const size = options.quick ? QUICK : FULL;
  const { datapath, seconds } = options;
  const startCluster = async (prefix: string): Promise<ControlCluster> => {
    const overlay = await Overlay.start({ prefix, nodes: NODES, datapath });
    teardown.push(() => overlay.lab.teardown());
    return ControlCluster.of(overlay);
  };
  const many = await startCluster(MANY_PREFIX);
  const few = await startCluster(FEW_PREFIX);
  while (few.services < FEW_SERVICES) await few.createService();
  const probes = await Probes.compile(join(many.overlay.lab.directory, "probes"));
  teardown.push(() => probes.close());
  for (const { overlay } of [many, few]) await probes.warmUp(overlay.direct, overlay.vip);
  const swarm = await startSwarm(teardown);
  yield* growExperiments({ cluster: many, swarm, services: size.services, deadlineMs: size.growMs });
  await many.startTasks(size.tasks, size.tasksMs);
  if (many.tasks < size.tasks) console.log(`only ${many.tasks} of ${size.tasks} tasks run`);
  const clusters: Clusters = { many, few, probes, swarm, size, seconds };
  yield changeExperiment(clusters);
  yield cpuExperiment(clusters);
  yield* memoryExperiments(clusters);
  yield namesExperiment(clusters);
  yield commandLineExperiment(clusters);
  yield tablesExperiment(clusters);
  yield restartExperiment(clusters);
}

/** undefined, and a line that says why, where the engine cannot be started: our own figures are measured all the same. */
async function startSwarm(teardown: Teardown): Promise<Swarm | undefined> {
  try {
    const swarm = await Swarm.start();
    teardown.push(() => swarm.remove());
    return swarm;
  } catch (error) {
    console.error(messageOf(error));
    return undefined;
  }
}

function experiment(title: string, metrics: readonly Metric[], contenders: readonly Contender[]): Experiment {
  return { group: "control", title, metrics, contenders };
}

/** What a cluster holds, for titles and rows. */
function contents({ services, tasks }: ControlCluster): string {
  return `${services} services, ${tasks} tasks`;
}

function changeExperiment({ many, few, size }: Clusters): Experiment {
  const measure = async (cluster: ControlCluster): Promise<Sample> => {
    const times: number[] = [];
    for (let i = 0; i < size.changes; i++) {
      const next = delay(1000);
      times.push(await cluster.changeInForce());
      await next;
    }
    const p99 = percentile(times, 99);
    return { p50: percentile(times, 50), p99, "p99, against few": p99 };
  };
  const metrics: Metric[] = [
    { id: "p50", unit: "ms", digits: 1 },
    { id: "p99", unit: "ms", digits: 1, limit: LIMITS.changeInForce },
    { id: "p99, against few", unit: "ms", digits: 1, limit: LIMITS.changeAgainstFew },
  ];
  const contenders = [
    { name: contents(many), measure: () => measure(many) },
    { name: contents(few), measure: () => measure(few) },
  ];
  return {
    ...experiment("from a change to in force on all nodes, one a second", metrics, contenders),
    rounds: size.rounds,
  };
}

/** Changes that concern no task of the third node, whose agent's processor time is counted without what it takes idle. */
function cpuExperiment({ many, few, size }: Clusters): Experiment {
  const everyMs = 100;
  const measure = async (cluster: ControlCluster): Promise<Sample> => {
    const agent = cluster.overlay.agents()[NODES - 1]!;
    const during = async <T>(work: Promise<T>): Promise<[took: number, T]> => {
      const before = threadMilliseconds(agent);
      const result = await work;
      return [threadMilliseconds(agent) - before, result];
    };
    const [idle] = await during(delay(1000 * size.cpuSeconds));
    const began = performance.now();
    const [busy, made] = await during(
      cluster.changeSteadily(everyMs, { count: (1000 * size.cpuSeconds) / everyMs }).then(async (count) => {
        await cluster.settle();
        return count;
      }),
    );
    const idleMeanwhile = (idle * (performance.now() - began)) / (1000 * size.cpuSeconds);
    return { "CPU a change": Math.max(0, busy - idleMeanwhile) / made, "CPU when idle": idle / (10 * size.cpuSeconds) };
  };
  const metrics: Metric[] = [
    { id: "CPU a change", unit: "ms", digits: 2, alone: true, limit: LIMITS.changeCpu },
    { id: "CPU when idle", unit: "%", digits: 2, alone: true },
  ];
  const contenders = [
    { name: contents(many), measure: () => measure(many) },
    { name: contents(few), measure: () => measure(few) },
  ];
  return {
    ...experiment("an agent that a change does not concern", metrics, contenders),
    rounds: Math.min(3, size.rounds),
  };
}

function memoryExperiments({ many, swarm }: Clusters): Experiment[] {
  const resident = async (pids: readonly number[]): Promise<Sample> => ({
    resident: Math.max(...pids.map(residentMegabytesOf)),
  });
  const agents = many.overlay.agents();
  const metric = (limit: Metric["limit"]): Metric[] => [
    { id: "resident", unit: "Mbyte", digits: 0, ...(limit === undefined ? {} : { limit }) },
  ];
  const leader = [{ name: "overlayd", measure: () => resident(agents.slice(0, 1)) }];
  const manager =
    swarm === undefined
      ? []
      : [{ name: "Docker Swarm's dockerd", measure: async () => ({ resident: swarm.residentMegabytes() }) }];
  return [
    {
      ...experiment(`memory of an agent, ${contents(many)}`, metric(LIMITS.agentMegabytes), [
        { name: "overlayd", measure: () => resident(agents.slice(1)) },
      ]),
      rounds: 1,
    },
    {
      ...experiment(`memory of the agent that leads, ${contents(many)}`, metric(LIMITS.leaderMegabytes), [
        ...leader,
        ...manager,
      ]),
      rounds: 1,
    },
  ];
}

function namesExperiment({ many, size, seconds }: Clusters): Experiment {
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
    rounds: size.rounds,
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

function commandLineExperiment({ many, size }: Clusters): Experiment {
  const env = { OVERLAYD_SOCKET: many.manager.env.OVERLAYD_SOCKET! };
  const took = async (argv: readonly string[]): Promise<Sample> => {
    const began = performance.now();
    await run([process.execPath, ...argv], { env });
    return { "whole process": performance.now() - began };
  };
  return {
    ...experiment(
      `overlayctl network ls, ${contents(many)}`,
      [{ id: "whole process", unit: "ms", digits: 0, limit: LIMITS.commandLine }],
      [
        { name: "overlayctl network ls", measure: () => took([COMMAND_LINE, "network", "ls"]) },
        { name: "node -e 0", measure: () => took(["-e", "0"]) },
      ],
    ),
    rounds: size.commands,
    before: async () => {
      await took([COMMAND_LINE, "network", "ls"]); // its files are then in the page cache
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
