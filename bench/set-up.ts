// Builds the nodes that the groups asked for need, and gives their experiments.
import { messageOf, PlatformError } from "../src/lib/errors.ts";
import { changeExperiments } from "./changes.ts";
import { DnsServers, dnsExperiments } from "./dns.ts";
import type { Experiment } from "./experiment.ts";
import { experimentsOf } from "./experiments.ts";
import { greedyExperiments } from "./greedy.ts";
import { Ingress, ingressExperiments } from "./ingress.ts";
import { KernelVxlan } from "./kernel-vxlan.ts";
import { Loaded } from "./loaded.ts";
import { startNebula } from "./nebula.ts";
import type { BenchOptions, Group } from "./options.ts";
import { againstOther, nameOfThisTree, OtherBuild } from "./other-build.ts";
import { Overlay } from "./overlay.ts";
import { priorityExperiments } from "./priority.ts";
import { Probes } from "./probes.ts";
import { restartExperiments } from "./restart.ts";
import { scaleExperiments } from "./scale.ts";
import { UnderlayOffload } from "./underlay-offload.ts";
import { startWireguard } from "./wireguard.ts";

const PREFIX = "bench";
const LOADED_PREFIX = "benchload";
const OTHER_PREFIX = "benchother";
const WARM_UP_SECONDS = 2;
const WARM_UP_REQUESTS = 3000;
const SCALE_GROUPS: readonly Group[] = ["scale", "memory"];

/** Steps that take everything down, the last first. */
export type Teardown = (() => Promise<void>)[];

export async function setUp(options: BenchOptions, teardown: Teardown): Promise<Experiment[]> {
  const experiments =
    options.against === undefined
      ? (await pairOfNodes({ prefix: PREFIX, options, teardown })).experiments
      : await comparison(options.against, options, teardown);
  return experiments.filter(({ group }) => options.groups.includes(group));
}

async function comparison(commit: string, options: BenchOptions, teardown: Teardown): Promise<Experiment[]> {
  const build = await OtherBuild.of(commit);
  teardown.push(() => build.remove());
  const name = await nameOfThisTree();
  console.log(`this tree: ${name}; against: ${build.name}`);
  const own = await pairOfNodes({ prefix: PREFIX, options, teardown });
  const otherNodes = pairOfNodes({ prefix: OTHER_PREFIX, options, teardown, build: build.dist });
  const other = await otherNodes.catch((cause: unknown) => {
    const what = `the agents of commit ${build.name} cannot be measured by this tree's bench`;
    throw new PlatformError(`${what}: ${messageOf(cause)}`, `git log -1 ${build.name}`, { cause });
  });
  if (own.servers !== undefined) other.servers?.shareRate(own.servers);
  return againstOther({ name, experiments: own.experiments }, { name: build.name, experiments: other.experiments });
}

interface PairOfNodes {
  experiments: Experiment[];
  servers: DnsServers | undefined;
}

/** Two nodes with agents, what they are held against, and the experiments over them. `build`: another compiled tree. */
async function pairOfNodes(setting: {
  prefix: string;
  options: BenchOptions;
  teardown: Teardown;
  build?: string;
}): Promise<PairOfNodes> {
  const { prefix, options, teardown, build } = setting;
  const { datapath, groups } = options;
  const overlay = await Overlay.start({ prefix, datapath, ...(build === undefined ? {} : { build }) });
  teardown.push(() => overlay.lab.teardown());
  const { lab } = overlay;
  const probes = await Probes.compile(`${lab.directory}/probes`);
  teardown.push(() => probes.close());
  await warmUp(overlay, probes);
  const kernel = await KernelVxlan.build(lab, prefix);
  const peers = options.peers
    ? ([
        ["nebula", await startNebula(lab, prefix)],
        ["wireguard-go", await startWireguard(lab, prefix)],
      ] as const)
    : [];
  const offload = new UnderlayOffload(lab, prefix);
  const experiments = experimentsOf({ overlay, kernel, peers, offload, probes, options });
  let servers: DnsServers | undefined;
  if (groups.includes("dns")) {
    servers = await DnsServers.start({ overlay, kernel, options });
    teardown.push(async () => servers?.close());
    experiments.push(...dnsExperiments({ overlay, kernel, probes, options }, servers));
  }
  if (groups.includes("ingress")) {
    const ingress = await Ingress.start(overlay, kernel);
    teardown.push(() => ingress.close());
    experiments.push(...ingressExperiments(ingress, options));
  }
  if (groups.some((group) => SCALE_GROUPS.includes(group))) {
    const second = await Overlay.start({ prefix: LOADED_PREFIX, datapath });
    teardown.push(() => second.lab.teardown());
    await warmUp(second, probes);
    experiments.push(...scaleExperiments({ overlay, loaded: new Loaded(second, probes), probes, options }));
  }
  experiments.push(...restartExperiments(overlay), ...changeExperiments(overlay), ...greedyExperiments(overlay));
  experiments.push(...priorityExperiments({ overlay, kernel, probes, options }));
  return { experiments, servers };
}

/** Lets the agents compile what they run: a benchmark is of a node that has been up for a while. */
async function warmUp({ direct, vip }: Overlay, probes: Probes): Promise<void> {
  await probes.tcp(direct, { streams: 1, seconds: WARM_UP_SECONDS, back: false });
  await probes.requests(direct, WARM_UP_REQUESTS);
  await probes.delivered(direct, WARM_UP_SECONDS);
  await probes.connections(vip, WARM_UP_SECONDS);
}
