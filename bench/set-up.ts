// Builds the nodes that the groups asked for need, and gives their experiments.
import { messageOf, PlatformError } from "../src/lib/errors.ts";
import { besideLoopsExperiment } from "./beside-loops.ts";
import { changeExperiments } from "./changes.ts";
import { controlExperiments } from "./control.ts";
import { DnsServers, dnsExperiments } from "./dns.ts";
import type { Experiment } from "./experiment.ts";
import { experimentsOf } from "./experiments.ts";
import { expressExperiments } from "./express.ts";
import { failoverExperiments } from "./failover.ts";
import { greedyExperiments } from "./greedy.ts";
import { Ingress, ingressExperiments } from "./ingress.ts";
import { KernelVxlan } from "./kernel-vxlan.ts";
import { whyLaneIsOff } from "./lane.ts";
import { wayLimits } from "./limits.ts";
import { Loaded } from "./loaded.ts";
import { managerExperiments } from "./managers.ts";
import { startNebula } from "./nebula.ts";
import type { BenchOptions, Group } from "./options.ts";
import { againstOther, nameOfThisTree, OtherBuild } from "./other-build.ts";
import { Overlay } from "./overlay.ts";
import { priorityExperiments } from "./priority.ts";
import { Probes } from "./probes.ts";
import { restartExperiments } from "./restart.ts";
import { scaleExperiments } from "./scale.ts";
import { sealedExperiments } from "./sealed.ts";
import { UnderlayOffload } from "./underlay-offload.ts";
import { startWireguard } from "./wireguard.ts";

const PREFIX = "bench";
const LOADED_PREFIX = "benchload";
const OTHER_PREFIX = "benchother";
const SEALED_PREFIX = "benchseal";
const CLEAR_PREFIX = "benchclear";
/** Groups that need no pair of nodes. */
const WITHOUT_PAIR: readonly Group[] = ["express", "control", "managers"];
const SCALE_GROUPS: readonly Group[] = ["scale", "memory"];

/** Steps that take everything down, the last first. */
export type Teardown = (() => Promise<void>)[];

/** The experiments in their order. Those of the control plane are made as the cluster grows. */
export async function* setUp(options: BenchOptions, teardown: Teardown): AsyncGenerator<Experiment> {
  if (options.groups.some((group) => !WITHOUT_PAIR.includes(group))) {
    const experiments =
      options.against === undefined
        ? (await pairOfNodes({ prefix: PREFIX, options, teardown })).experiments
        : await comparison(options.against, options, teardown);
    yield* experiments.filter(({ group }) => options.groups.includes(group));
  }
  if (options.groups.includes("express")) yield* expressExperiments(options);
  if (options.groups.includes("control")) yield* controlExperiments(options, teardown);
  if (options.groups.includes("managers")) {
    yield* managerExperiments(options, teardown);
    yield* failoverExperiments(options, teardown);
  }
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
  await probes.warmUp(overlay.direct, overlay.vip);
  const kernel = await KernelVxlan.build(lab, prefix);
  const peers = options.peers
    ? ([
        ["nebula", await startNebula(lab, prefix)],
        ["wireguard-go", await startWireguard(lab, prefix)],
      ] as const)
    : [];
  const offload = new UnderlayOffload(lab, prefix);
  const limits = wayLimits(whyLaneIsOff(options) === undefined);
  const experiments = experimentsOf({ overlay, kernel, peers, offload, probes, options, limits });
  let servers: DnsServers | undefined;
  if (groups.includes("dns")) {
    servers = await DnsServers.start({ overlay, kernel, options });
    teardown.push(async () => servers?.close());
    experiments.push(...dnsExperiments({ overlay, kernel, probes, options }, servers));
  }
  if (groups.includes("ingress")) {
    const ingress = await Ingress.start(overlay, kernel);
    teardown.push(() => ingress.close());
    experiments.push(...ingressExperiments(ingress, options, limits));
  }
  if (groups.some((group) => SCALE_GROUPS.includes(group))) {
    const second = await Overlay.start({ prefix: LOADED_PREFIX, datapath });
    teardown.push(() => second.lab.teardown());
    await probes.warmUp(second.direct, second.vip);
    experiments.push(...scaleExperiments({ overlay, loaded: new Loaded(second, probes), probes, options, limits }));
  }
  if (groups.includes("sealed")) {
    const prefixes = { sealed: SEALED_PREFIX, clear: CLEAR_PREFIX };
    const start = async (ownPrefix: string, encrypted: boolean): Promise<Overlay> => {
      const made = await Overlay.start({ prefix: ownPrefix, datapath: { ...datapath, express: "off" }, encrypted });
      teardown.push(() => made.lab.teardown());
      await probes.warmUp(made.direct, made.vip);
      return made;
    };
    const [sealed, clear] = [await start(SEALED_PREFIX, true), await start(CLEAR_PREFIX, false)];
    experiments.push(...sealedExperiments({ sealed, clear, overlay, prefixes, peers, probes, options }));
  }
  experiments.push(
    ...restartExperiments(overlay),
    ...changeExperiments(overlay, limits),
    ...greedyExperiments(overlay),
  );
  const besideLoops = { overlay, kernel, probes, options, limits };
  experiments.push(...priorityExperiments(besideLoops), besideLoopsExperiment(besideLoops));
  return { experiments, servers };
}
