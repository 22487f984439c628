// The control plane: the cost of a change in a cluster of 10,000 services and 1,000 tasks, beside Docker Swarm's manager on
// the same machine, and beside a cluster of 10 services. The clusters have three nodes each.
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { messageOf } from "../src/lib/errors.ts";
import { run } from "../test/system/command.ts";
import { type Clusters, contents, experiment, FULL, QUICK } from "./control-beds.ts";
import { ControlCluster } from "./control-cluster.ts";
import { growExperiments } from "./control-growth.ts";
import { packetExperiments } from "./control-packets.ts";
import { residentMegabytesOf, threadMilliseconds } from "./cpu.ts";
import type { Experiment, Metric, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { Probes } from "./probes.ts";
import type { Teardown } from "./set-up.ts";
import { percentile } from "./statistics.ts";
import { Swarm } from "./swarm.ts";

const MANY_PREFIX = "benchmany";
const FEW_PREFIX = "benchfew";
const NODES = 3;
const FEW_SERVICES = 10;
const COMMAND_LINE = fileURLToPath(new URL("../bin/overlayctl.js", import.meta.url));

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
  await many.startTasks(size.tasks, size.tasksMs).catch((error: unknown) => console.error(messageOf(error)));
  if (many.tasks < size.tasks) console.error(`only ${many.tasks} of ${size.tasks} tasks run`);
  const clusters: Clusters = { many, few, probes, swarm, size, seconds };
  yield changeExperiment(clusters);
  yield cpuExperiment(clusters);
  yield* memoryExperiments(clusters);
  yield commandLineExperiment(clusters);
  yield* packetExperiments(clusters);
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
