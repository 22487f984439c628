// Bars and aims of the figures. Those of ratios are for the median of adjacent pairs.
import type { Limit } from "./experiment.ts";

const atLeast = (bar: number, aim: number): Limit => ({ of: "ratio", atMost: false, bar, aim });
const atMost = (bar: number, aim: number): Limit => ({ of: "ratio", atMost: true, bar, aim });

const seconds = (bar: number, aim: number): Limit => ({ of: "value", atMost: true, bar, aim });

export const LIMITS = {
  tcp: atLeast(0.5, 0.6),
  tcpWithoutOffload: atLeast(0.7, 0.9),
  vip: atLeast(0.95, 1),
  mesh: atLeast(0.9, 1),
  p50: atMost(1.45, 1.2),
  p99: atMost(3, 2),
  datagrams: atLeast(0.75, 1),
  connections: atLeast(0.4, 0.8),
  scale: atLeast(0.95, 0.98),
  dnsAnswered: atLeast(0.6, 1),
  dnsP99: { of: "value", atMost: true, bar: 5, aim: 1 },
  besideDns: atLeast(0.9, 1),
  ingress: atLeast(1, 1.5),
  residentMegabytes: { of: "value", atMost: true, bar: 200, aim: 150 },
  forwardingBack: seconds(1, 0.5),
  forwardingBackBusy: seconds(2, 1),
  namesBack: seconds(1.5, 0.5),
  namesBackBusy: seconds(3, 1),
  namesFollowOwn: seconds(0.5, 0.1),
  namesFollow: seconds(1, 0.5),
  portsPublished: seconds(3, 1),
  linkIsThere: seconds(0.5, 0.2),
  transferStalls: seconds(3, 1),
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
  besideLoops: atMost(0.75, 0.3),
} as const satisfies Record<string, Limit>;
