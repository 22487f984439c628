// Containers of an encrypted network against those of a clear one whose packets the agents carry too, and against tunnels that encrypt.
import { cpuMetrics } from "./cpu.ts";
import type { Contender, Experiment, Limit, Metric, Sample } from "./experiment.ts";
import { LIMITS } from "./limits.ts";
import type { BenchOptions } from "./options.ts";
import type { Overlay } from "./overlay.ts";
import type { Path } from "./path.ts";
import type { Probes } from "./probes.ts";
import { UnderlayOffload } from "./underlay-offload.ts";

const REQUESTS = 20_000;
const QUICK_REQUESTS = 3000;
const STREAMS = 8;

export interface SealedBed {
  /** Nodes with an encrypted network, and with a clear one and no express lane. */
  sealed: Overlay;
  clear: Overlay;
  /** Clear, with the lane as the run has it: it stands beside. */
  overlay: Overlay;
  /** What nodes' namespaces begin with, of the encrypted pair and of the clear one. */
  prefixes: { sealed: string; clear: string };
  peers: readonly (readonly [name: string, path: Path])[];
  probes: Probes;
  options: BenchOptions;
}

export function sealedExperiments(bed: SealedBed): Experiment[] {
  return [
    ...tcpExperiments(bed),
    ...requestExperiments(bed),
    ...datagramExperiments(bed),
    ...connectionExperiments(bed),
  ];
}

type Named = readonly [name: string, path: Path];

const TITLES: Record<number, string> = { 1: "one stream", [STREAMS]: `${STREAMS} streams` };

function tcpExperiments(bed: SealedBed): Experiment[] {
  const { sealed, clear, overlay, peers } = bed;
  const own: Named = ["sealed", sealed.direct];
  const reference: Named = ["clear, by the agents", clear.direct];
  const beside: Named = ["clear, as the run has the lane", overlay.direct];
  const experiments = [1, STREAMS].flatMap((streams) => {
    const title = `TCP, ${TITLES[streams]}, sealed`;
    return [
      tcpExperiment(bed, title, streams, { throughput: LIMITS.sealedTcp }, [own, reference, beside]),
      ...peers.map(([name, path]) => {
        const limits = { throughput: LIMITS.sealedTunnel, ...(name === "nebula" && { cpu: LIMITS.sealedCpu }) };
        return tcpExperiment(bed, `${title}, against ${name}`, streams, limits, [own, [name, path]]);
      }),
      withoutOffload(
        bed,
        tcpExperiment(
          bed,
          `${title}, no offload on the underlay`,
          streams,
          { throughput: LIMITS.sealedWithoutOffload },
          [own, reference],
        ),
      ),
    ];
  });
  return experiments;
}

function tcpExperiment(
  { probes, options: { seconds } }: SealedBed,
  title: string,
  streams: number,
  limits: { throughput: Limit; cpu?: Limit },
  paths: readonly Named[],
): Experiment {
  return {
    group: "sealed",
    title,
    metrics: [
      { id: "throughput", unit: "Gbit/s", digits: 2, limit: limits.throughput },
      { id: "agents' CPU", unit: "s/Gbyte", digits: 2, ...(limits.cpu && { limit: limits.cpu }) },
      { id: "machine's CPU", unit: "s/Gbyte", digits: 2 },
    ],
    contenders: contend(paths, (path) => probes.tcp(path, { streams, back: false, seconds })),
  };
}

/** Both pairs of nodes have an underlay of their own. */
function withoutOffload({ sealed, clear, prefixes }: SealedBed, experiment: Experiment): Experiment {
  const offloads = [new UnderlayOffload(sealed.lab, prefixes.sealed), new UnderlayOffload(clear.lab, prefixes.clear)];
  const turn = async (state: "on" | "off"): Promise<void> => {
    for (const offload of offloads) await offload.turn(state);
  };
  return {
    ...experiment,
    contenders: experiment.contenders.map(({ name, measure }, i) => ({
      name,
      measure: () => offloads[i]!.checked(measure),
    })),
    before: () => turn("off"),
    after: () => turn("on"),
  };
}

function requestExperiments({ sealed, clear, probes, options }: SealedBed): Experiment[] {
  const count = options.quick ? QUICK_REQUESTS : REQUESTS;
  const metrics: Metric[] = [
    { id: "p50", unit: "us", digits: 1, limit: LIMITS.sealedP50 },
    { id: "p99", unit: "us", digits: 1 },
    ...cpuMetrics("request"),
  ];
  const paths: Named[] = [
    ["sealed", sealed.direct],
    ["clear, by the agents", clear.direct],
  ];
  const contenders = contend(paths, (path) => probes.requests(path, count));
  return [{ group: "sealed", title: "TCP request and response, sealed", metrics, contenders }];
}

function datagramExperiments({ sealed, clear, peers, probes, options }: SealedBed): Experiment[] {
  const seconds = options.seconds / 2;
  const own: Named = ["sealed", sealed.direct];
  const nebula = peers.filter(([name]) => name === "nebula");
  return [["clear, by the agents", clear.direct] as const, ...nebula].map(([name, path]) => {
    const limit = path === clear.direct ? LIMITS.sealedDatagrams : LIMITS.sealedDatagramsTunnel;
    return {
      group: "sealed",
      title: `64-byte UDP, as many as go, sealed${path === clear.direct ? "" : `, against ${name}`}`,
      metrics: [{ id: "delivered", unit: "kpps", digits: 1, limit }, ...cpuMetrics("datagram")],
      contenders: contend([own, [name, path]], (way) => probes.delivered(way, seconds)),
    };
  });
}

function connectionExperiments({ sealed, clear, probes, options }: SealedBed): Experiment[] {
  const paths: Named[] = [
    ["sealed", sealed.vip],
    ["clear, by the agents", clear.vip],
  ];
  return [
    {
      group: "sealed",
      title: "new TCP connections through a VIP, sealed",
      metrics: [
        { id: "connections", unit: "1/s", digits: 0, limit: LIMITS.sealedConnections },
        { id: "failed", unit: "connections", digits: 0, alone: true },
        ...cpuMetrics("connection"),
      ],
      contenders: contend(paths, (path) => probes.connections(path, options.seconds)),
    },
  ];
}

function contend(paths: readonly Named[], measure: (path: Path) => Promise<Sample>): Contender[] {
  return paths.map(([name, path]) => ({ name, measure: () => measure(path) }));
}
