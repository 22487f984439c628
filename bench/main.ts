// `npm run bench`: sets up nodes and containers in network namespaces, measures side by side, and takes all down again.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf, PlatformError } from "../src/lib/errors.ts";
import { changeExperiments } from "./changes.ts";
import { DnsServers, dnsExperiments } from "./dns.ts";
import { documentResults } from "./document.ts";
import { type Experiment, type Row, runExperiment } from "./experiment.ts";
import { experimentsOf } from "./experiments.ts";
import { greedyExperiments } from "./greedy.ts";
import { Ingress, ingressExperiments } from "./ingress.ts";
import { KernelVxlan } from "./kernel-vxlan.ts";
import { Loaded } from "./loaded.ts";
import { describeMachine } from "./machine.ts";
import { startNebula } from "./nebula.ts";
import { type BenchOptions, type Group, parseOptions, USAGE } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { installPackages } from "./packages.ts";
import { priorityExperiments } from "./priority.ts";
import { Probes } from "./probes.ts";
import { profile } from "./profile.ts";
import { formatRows } from "./report.ts";
import { restartExperiments } from "./restart.ts";
import { describeRun, type Failure, writeResults } from "./results.ts";
import { scaleExperiments } from "./scale.ts";
import { UnderlayOffload } from "./underlay-offload.ts";
import { startWireguard } from "./wireguard.ts";

const PREFIX = "bench";
const LOADED_PREFIX = "benchload";
const WARM_UP_SECONDS = 2;
const WARM_UP_REQUESTS = 3000;
const SCALE_GROUPS: readonly Group[] = ["scale", "memory"];

/** What is taken down at the end, the last first. */
const teardown: (() => Promise<void>)[] = [];

async function main(options: BenchOptions): Promise<number> {
  if (options.document) {
    documentResults();
    return 0;
  }
  if (process.getuid?.() !== 0) {
    throw new PlatformError("the bench makes network namespaces, which needs root", "sudo npm run bench");
  }
  await installPackages(options);
  if (options.profile !== undefined) {
    await profile(options.profile, { prefix: PREFIX, options, teardown });
    return 0;
  }
  const { rounds, nearBar, seconds, datapath } = options;
  const head = {
    at: new Date().toISOString(),
    rounds,
    secondsEach: seconds,
    machine: await inTemporaryDirectory(describeMachine),
    datapath,
  };
  console.log(describeRun(head));
  const rows: Row[] = [];
  const failures: Failure[] = [];
  for (const experiment of await setUp(options)) {
    console.log(`\n# ${experiment.title}`);
    try {
      const measured = await runExperiment(experiment, { rounds, nearBar });
      process.stdout.write(formatRows(measured));
      rows.push(...measured);
    } catch (error) {
      failures.push({ group: experiment.group, experiment: experiment.title, reason: messageOf(error) });
      console.error(`could not be measured: ${messageOf(error)}`);
    }
  }
  writeResults({ ...head, rows, failures });
  console.log(`\n${describeRun(head)}\n${formatRows(rows)}`);
  const judged = rows.filter(({ verdict }) => verdict !== null);
  const missed = judged.filter(({ verdict }) => verdict === "missed");
  console.log(
    `bench: ${judged.length} bars, ${missed.length} missed, ${failures.length} figures not measured; bench/results.json has the samples`,
  );
  for (const { experiment, reason } of failures) console.log(`not measured: ${experiment}: ${reason}`);
  return failures.length === 0 ? 0 : 1;
}

/** Builds what the groups asked for need. */
async function setUp(options: BenchOptions): Promise<Experiment[]> {
  const { datapath } = options;
  const overlay = await Overlay.start({ prefix: PREFIX, datapath });
  teardown.push(() => overlay.lab.teardown());
  const { lab } = overlay;
  const probes = await Probes.compile(`${lab.directory}/probes`);
  teardown.push(() => probes.close());
  await warmUp(overlay, probes);
  const kernel = await KernelVxlan.build(lab, PREFIX);
  const peers = options.peers
    ? ([
        ["nebula", await startNebula(lab, PREFIX)],
        ["wireguard-go", await startWireguard(lab, PREFIX)],
      ] as const)
    : [];
  const offload = new UnderlayOffload(lab, PREFIX);
  const experiments = experimentsOf({ overlay, kernel, peers, offload, probes, options });
  if (options.groups.includes("dns")) {
    const servers = await DnsServers.start({ overlay, kernel, options });
    teardown.push(() => servers.close());
    experiments.push(...dnsExperiments({ overlay, kernel, probes, options }, servers));
  }
  if (options.groups.includes("ingress")) {
    const ingress = await Ingress.start(overlay, kernel);
    teardown.push(() => ingress.close());
    experiments.push(...ingressExperiments(ingress, options));
  }
  if (options.groups.some((group) => SCALE_GROUPS.includes(group))) {
    const second = await Overlay.start({ prefix: LOADED_PREFIX, datapath });
    teardown.push(() => second.lab.teardown());
    await warmUp(second, probes);
    experiments.push(...scaleExperiments({ overlay, loaded: new Loaded(second, probes), probes, options }));
  }
  experiments.push(...restartExperiments(overlay), ...changeExperiments(overlay), ...greedyExperiments(overlay));
  experiments.push(...priorityExperiments({ overlay, kernel, probes, options }));
  return experiments.filter(({ group }) => options.groups.includes(group));
}

/** Lets the agents compile what they run: a benchmark is of a node that has been up for a while. */
async function warmUp({ direct, vip }: Overlay, probes: Probes): Promise<void> {
  await probes.tcp(direct, { streams: 1, seconds: WARM_UP_SECONDS, back: false });
  await probes.requests(direct, WARM_UP_REQUESTS);
  await probes.delivered(direct, WARM_UP_SECONDS);
  await probes.connections(vip, WARM_UP_SECONDS);
}

async function inTemporaryDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), "overlayd-bench-"));
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function takeDown(): Promise<void> {
  for (const step of teardown.splice(0).reverse()) await step();
}

/** The exit status: 0 all was measured (bars met or not), 1 something could not be, 2 asked wrongly. */
async function runMain(): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(process.argv.slice(2));
  } catch (error) {
    console.error(`${messageOf(error)}\n${USAGE}`);
    return 2;
  }
  try {
    return await main(options);
  } catch (error) {
    console.error(error instanceof PlatformError || !(error instanceof Error) ? messageOf(error) : error);
    return 1;
  } finally {
    await takeDown();
  }
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    console.error(`${signal}: taking the namespaces down`);
    void takeDown().finally(() => process.exit(1));
  });
}
process.exitCode = await runMain();
