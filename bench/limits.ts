// Bars and aims of the figures. Those of ratios are for the median of adjacent pairs.
import type { Limit, Metric } from "./experiment.ts";

const atLeast = (bar: number, aim: number): Limit => ({ of: "ratio", atMost: false, bar, aim });
const atMost = (bar: number, aim: number): Limit => ({ of: "ratio", atMost: true, bar, aim });

const seconds = (bar: number, aim: number): Limit => ({ of: "value", atMost: true, bar, aim });

export const LIMITS = {
  dnsAnswered: atLeast(0.6, 1),
  dnsP99: { of: "value", atMost: true, bar: 5, aim: 1 },
  besideDns: atLeast(0.9, 1),
  residentMegabytes: { of: "value", atMost: true, bar: 200, aim: 150 },
  forwardingBack: seconds(1, 0.5),
  forwardingBackBusy: seconds(2, 1),
  namesBack: seconds(1.5, 0.5),
  namesBackBusy: seconds(3, 1),
  namesFollowOwn: seconds(0.5, 0.1),
  namesFollow: seconds(1, 0.5),
  portsPublished: seconds(3, 1),
  linkIsThere: seconds(0.5, 0.2),
  besideFlood: seconds(30, 5),
  servicesMade: atLeast(1, 3),
  lastThousand: { of: "value", atMost: false, bar: 0.8, aim: 1 },
  changeInForce: { of: "value", atMost: true, bar: 100, aim: 30 },
  changeAgainstFew: atMost(1.5, 1.1),
  changeCpu: { of: "value", atMost: true, bar: 2, aim: 0.5 },
  agentMegabytes: { of: "value", atMost: true, bar: 250, aim: 150 },
  leaderMegabytes: { of: "value", atMost: true, bar: 350, aim: 200 },
  forwardingBackMany: seconds(2, 0.5),
  namesBesideChanges: atLeast(0.9, 1),
  commandLine: atMost(2, 1.3),
  manyServices: atLeast(0.95, 1),
  againstAtLeast: atLeast(0.95, 1),
  againstAtMost: atMost(1.05, 1),
  commits: atLeast(0.3, 0.7),
  leaderKilled: seconds(8, 6),
  leaderGone: seconds(12, 8),
  leaderStopped: seconds(2, 1),
  requestsFailed: { of: "value", atMost: true, bar: 0, aim: 0 },
  join: seconds(5, 2),
  laneScan: { of: "value", atMost: true, bar: 40, aim: 20 },
  sealedTcp: atLeast(0.5, 0.65),
  sealedTunnel: atLeast(6, 10),
  sealedWithoutOffload: atLeast(0.6, 0.75),
  sealedP50: atMost(1.15, 1.05),
  sealedDatagrams: atLeast(0.6, 0.8),
  sealedDatagramsTunnel: atLeast(3, 4),
  sealedConnections: atLeast(0.85, 0.95),
  sealedCpu: atMost(0.2, 0.1),
  laneMegabytes: { of: "value", atMost: true, bar: 100, aim: 100 },
} as const satisfies Record<string, Limit>;

/** What is asked of packets' ways between containers, and from outside. Left out: the figure is reported only. */
export interface WayLimits {
  tcp: Limit;
  tcpWithoutOffload: Limit;
  /** CPU seconds of the agents for a Gbyte. */
  agentsCpu?: Limit;
  vip: Limit;
  mesh: Limit;
  oneNode?: Limit;
  p50: Limit;
  p99: Limit;
  datagrams: Limit;
  lossless?: Limit;
  connections: Limit;
  scale: Limit;
  ingressKept: Limit;
  ingressEach: Limit;
  transferStalls: Limit;
  transferStallsBoth?: Limit;
  /** Of the agents' priority, beside busy loops against none: what the kernel carries does not wait for them. */
  priority?: Limit;
  tcpBesideLoops?: Limit;
  p50BesideLoops?: Limit;
}

const BY_AGENTS: WayLimits = {
  tcp: atLeast(0.5, 0.6),
  tcpWithoutOffload: atLeast(0.7, 0.9),
  vip: atLeast(0.95, 1),
  mesh: atLeast(0.9, 1),
  p50: atMost(1.45, 1.2),
  p99: atMost(3, 2),
  datagrams: atLeast(0.75, 1),
  connections: atLeast(0.4, 0.8),
  scale: atLeast(0.95, 0.98),
  ingressKept: atLeast(1, 1.5),
  ingressEach: atLeast(1, 1.5),
  transferStalls: seconds(3, 1),
  priority: atMost(0.75, 0.3),
};

const BY_LANE: WayLimits = {
  tcp: atLeast(0.9, 1),
  tcpWithoutOffload: atLeast(0.9, 1.1),
  agentsCpu: seconds(0.2, 0.05),
  vip: atLeast(0.97, 1),
  mesh: atLeast(0.9, 1),
  oneNode: atLeast(1, 1.1),
  p50: atMost(0.95, 0.85),
  p99: atMost(1.2, 1),
  datagrams: atLeast(1.2, 2),
  lossless: atLeast(0.9, 1),
  connections: atLeast(0.6, 1),
  scale: atLeast(0.97, 1),
  ingressKept: atLeast(1.8, 2.5),
  ingressEach: atLeast(1.1, 1.5),
  transferStalls: seconds(0.3, 0),
  transferStallsBoth: seconds(0.3, 0),
  tcpBesideLoops: atLeast(0.9, 1),
  p50BesideLoops: atMost(1.1, 0.9),
};

/** The limits of a run whose established flows the kernel carries in the express lane, or the agents. */
export function wayLimits(laneIsOn: boolean): WayLimits {
  return laneIsOn ? BY_LANE : BY_AGENTS;
}

/** The metric with the limit, if there is one. */
export function limited(metric: Metric, limit: Limit | undefined): Metric {
  return limit === undefined ? metric : { ...metric, limit };
}
