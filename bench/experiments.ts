// The experiments between two nodes, as data: which figures, over which ways, against what.
import { cpuMetrics } from "./cpu.ts";
import type { Contender, Experiment, Limit, Metric, Sample } from "./experiment.ts";
import type { KernelVxlan } from "./kernel-vxlan.ts";
import { limited, type WayLimits } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import type { Overlay } from "./overlay.ts";
import type { Path } from "./path.ts";
import type { Probes, TcpOptions } from "./probes.ts";
import type { UnderlayOffload } from "./underlay-offload.ts";

/** The ways to measure, and the tools for it. */
export interface Bed {
  overlay: Overlay;
  kernel: KernelVxlan;
  /** Names and ways of nebula and wireguard-go; none without --peers. */
  peers: readonly (readonly [name: string, path: Path])[];
  offload: UnderlayOffload;
  probes: Probes;
  options: BenchOptions;
  limits: WayLimits;
}

const REQUESTS = 20_000;
const QUICK_REQUESTS = 3000;
const STREAMS = 8;

export function experimentsOf(bed: Bed): Experiment[] {
  return [...tcpExperiments(bed), ...requestExperiments(bed), ...datagramExperiments(bed), connectionExperiment(bed)];
}

function tcpExperiments(bed: Bed): Experiment[] {
  const { overlay, kernel, peers, offload, limits } = bed;
  const ways = [
    { title: "TCP, one stream", streams: 1, back: false },
    { title: "TCP, one stream, backwards", streams: 1, back: true },
    { title: `TCP, ${STREAMS} streams`, streams: STREAMS, back: false },
    { title: `TCP, ${STREAMS} streams, backwards`, streams: STREAMS, back: true },
  ];
  const compare = (title: string, way: Way, limit: Limit | undefined, paths: Named[]) =>
    tcpExperiment(bed, title, way, limit, paths);
  const acrossNodes: Named[] = [
    ["overlayd", overlay.direct],
    ["kernel VXLAN", kernel.direct],
  ];
  return [
    ...ways.map(({ title, ...way }) => compare(title, way, limits.tcp, [...acrossNodes, ...peers])),
    ...ways.map(({ title, ...way }) => {
      const experiment = compare(`${title}, no offload on the underlay`, way, limits.tcpWithoutOffload, acrossNodes);
      return withoutOffload(experiment, offload);
    }),
    ...[false, true].flatMap((back) => {
      const way = { streams: 1, back };
      const direction = back ? ", backwards" : "";
      const direct: Named = ["direct", overlay.direct];
      return [
        compare(`TCP through a VIP${direction}`, way, limits.vip, [["VIP", overlay.vip], direct]),
        compare(`TCP through the mesh${direction}`, way, limits.mesh, [["mesh", overlay.mesh], direct]),
      ];
    }),
    compare("TCP between containers of one node", { streams: 1, back: false }, limits.oneNode, [
      ["overlayd", overlay.local],
      ["bridge", kernel.local],
    ]),
  ];
}

type Named = readonly [name: string, path: Path];
type Way = Omit<TcpOptions, "seconds">;

function tcpExperiment(
  { probes, options, limits }: Bed,
  title: string,
  way: Way,
  limit: Limit | undefined,
  paths: readonly Named[],
): Experiment {
  return {
    group: "tcp",
    title,
    metrics: [
      limited({ id: "throughput", unit: "Gbit/s", digits: 2 }, limit),
      limited({ id: "agents' CPU", unit: "s/Gbyte", digits: 2, alone: true }, limits.agentsCpu),
      { id: "machine's CPU", unit: "s/Gbyte", digits: 2 },
    ],
    contenders: contend(paths, (path) => probes.tcp(path, { ...way, seconds: options.seconds })),
  };
}

function withoutOffload(experiment: Experiment, offload: UnderlayOffload): Experiment {
  return {
    ...experiment,
    contenders: experiment.contenders.map(({ name, measure }) => ({ name, measure: () => offload.checked(measure) })),
    before: () => offload.turn("off"),
    after: () => offload.turn("on"),
  };
}

function requestExperiments({ overlay, kernel, peers, probes, options, limits }: Bed): Experiment[] {
  const count = options.quick ? QUICK_REQUESTS : REQUESTS;
  const metrics: Metric[] = [
    { id: "p50", unit: "us", digits: 1, limit: limits.p50 },
    { id: "p99", unit: "us", digits: 1, limit: limits.p99 },
    ...cpuMetrics("request"),
  ];
  const paths: Named[] = [["overlayd", overlay.direct], ["kernel VXLAN", kernel.direct], ...peers];
  const contenders = contend(paths, (path) => probes.requests(path, count));
  return [{ group: "rr", title: "TCP request and response", metrics, contenders }];
}

function datagramExperiments({ overlay, kernel, peers, probes, options, limits }: Bed): Experiment[] {
  const paths: Named[] = [["overlayd", overlay.direct], ["kernel VXLAN", kernel.direct], ...peers];
  const seconds = options.seconds / 2;
  return [
    {
      group: "udp",
      title: "64-byte UDP, as many as go",
      metrics: [{ id: "delivered", unit: "kpps", digits: 1, limit: limits.datagrams }, ...cpuMetrics("datagram")],
      contenders: contend(paths, (path) => probes.delivered(path, seconds)),
    },
    {
      group: "udp",
      title: "64-byte UDP, at most 0.1 % lost",
      metrics: [limited({ id: "lossless", unit: "kpps", digits: 1 }, limits.lossless)],
      contenders: contend(paths.slice(0, 2), (path) => probes.withoutLoss(path, seconds)),
    },
  ];
}

function connectionExperiment({ overlay, kernel, probes, options, limits }: Bed): Experiment {
  return {
    group: "cps",
    title: "new TCP connections through a VIP",
    metrics: [
      { id: "connections", unit: "1/s", digits: 0, limit: limits.connections },
      { id: "failed", unit: "connections", digits: 0, alone: true },
      ...cpuMetrics("connection"),
    ],
    contenders: contend(
      [
        ["overlayd", overlay.vip],
        ["DNAT over kernel VXLAN", kernel.vip],
      ],
      (path) => probes.connections(path, options.seconds),
    ),
  };
}

function contend(paths: readonly Named[], measure: (path: Path) => Promise<Sample>): Contender[] {
  return paths.map(([name, path]) => ({ name, measure: () => measure(path) }));
}
