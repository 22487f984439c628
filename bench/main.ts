// `npm run bench`: sets up nodes and containers in network namespaces, measures side by side, and takes all down again.
import { messageOf, PlatformError, UserError } from "../src/lib/errors.ts";
import { DnsServers, dnsExperiments } from "./dns.ts";
import { documentResults } from "./document.ts";
import { type Experiment, type Row, runExperiment } from "./experiment.ts";
import { experimentsOf } from "./experiments.ts";
import { Ingress, ingressExperiments } from "./ingress.ts";
import { KernelVxlan } from "./kernel-vxlan.ts";
import { Loaded } from "./loaded.ts";
import { startNebula } from "./nebula.ts";
import { type BenchOptions, type Group, parseOptions, USAGE } from "./options.ts";
import { Overlay } from "./overlay.ts";
import { installPackages } from "./packages.ts";
import { Probes } from "./probes.ts";
import { profile } from "./profile.ts";
import { formatRows } from "./report.ts";
import { describeMachine, writeResults } from "./results.ts";
import { scaleExperiments } from "./scale.ts";
import { UnderlayOffload } from "./underlay-offload.ts";
import { startWireguard } from "./wireguard.ts";

const PREFIX = "bench";
const LOADED_PREFIX = "benchload";
const SCALE_GROUPS: readonly Group[] = ["scale", "memory"];

/** What is taken down at the end, the last first. */
const teardown: (() => Promise<void>)[] = [];

async function main(options: BenchOptions): Promise<void> {
  if (options.document) return documentResults();
  if (process.getuid?.() !== 0) {
    throw new PlatformError("the bench makes network namespaces, which needs root", "sudo npm run bench");
  }
  await installPackages(options);
  if (options.profile !== undefined) return profile(options.profile, { prefix: PREFIX, options, teardown });
  const rows: Row[] = [];
  for (const experiment of await setUp(options)) {
    console.log(`\n# ${experiment.title}`);
    const measured = await runExperiment(experiment, options.rounds);
    process.stdout.write(formatRows(measured));
    rows.push(...measured);
  }
  const { rounds, seconds, datapath } = options;
  writeResults({
    at: new Date().toISOString(),
    rounds,
    secondsEach: seconds,
    machine: describeMachine(),
    datapath,
    rows,
  });
  console.log(`\n${formatRows(rows)}`);
  const judged = rows.filter(({ verdict }) => verdict !== null);
  const missed = judged.filter(({ verdict }) => verdict === "missed");
  console.log(`bench: ${judged.length} bars, ${missed.length} missed; bench/results.json has the samples`);
}

/** Builds what the groups asked for need. */
async function setUp(options: BenchOptions): Promise<Experiment[]> {
  const { datapath } = options;
  const overlay = await Overlay.start({ prefix: PREFIX, datapath });
  teardown.push(() => overlay.lab.teardown());
  const { lab } = overlay;
  const probes = await Probes.compile(`${lab.directory}/probes`);
  teardown.push(() => probes.close());
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
    experiments.push(...scaleExperiments({ overlay, loaded: new Loaded(second, probes), probes, options }));
  }
  return experiments.filter(({ group }) => options.groups.includes(group));
}

async function takeDown(): Promise<void> {
  for (const step of teardown.splice(0).reverse()) await step();
}

/** The bench's own end: 0 measured (bars met or not), 1 could not measure, 2 asked wrongly. */
async function runMain(): Promise<number> {
  try {
    await main(parseOptions(process.argv.slice(2)));
    return 0;
  } catch (error) {
    if (error instanceof UserError) {
      console.error(`${error.message}\n${USAGE}`);
      return 2;
    }
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
