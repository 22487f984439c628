// What a cluster of one size costs, found by a simulation.
import { isDeepStrictEqual } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { percentile } from "../../../bench/statistics.ts";
import type { CommandInput } from "../../../src/cluster/commands.ts";
import { NODE_KINDS } from "../../../src/cluster/schema.ts";
import { emptyState, type LiveState } from "../../../src/cluster/state.ts";
import { measureHttp } from "./http-costs.ts";
import { type Cost, RealEnd } from "./real-end.ts";
import { Simulation } from "./simulation.ts";
import { POOL } from "./timing.ts";

export interface Size {
  nodes: number;
  services: number;
  /** Tasks of each service. */
  replicas: number;
  /** Changes, one a virtual second. */
  changes: number;
  /** Virtual seconds of heartbeats alone. */
  quietSeconds: number;
  /** Reports by which the HTTP server's costs are measured. */
  httpReports: number;
  /** The changes end early when they have taken so long, in real milliseconds. */
  boundMs: number;
}

export interface Figures {
  nodes: number;
  services: number;
  endpoints: number;
  /** Processor microseconds of the leader's HTTP server for a report, a beat and a line; in all other figures. */
  reportMicros: number;
  beatMicros: number;
  lineMicros: number;
  changes: number;
  /** Virtual milliseconds from a change until all nodes have told that it is in force. */
  p50Ms: number;
  p99Ms: number;
  /** Processor milliseconds of the leader, a change; reports of all nodes included. */
  leaderMsAChange: number;
  /** Bytes that a node receives, a change. */
  bytesAChange: number;
  /** Processor milliseconds of a node: until a change is in force, and altogether. */
  nodeInForceMs: number;
  nodeMsAChange: number;
  /** The leader's share of one processor when nothing happens. */
  quietPercent: number;
  /** Megabytes of heap: the leader with its sessions (and the faked ends), and one real node's end. */
  leaderMbyte: number;
  nodeMbyte: number;
  /** Processor seconds of the leader to make all services, and of a node to load the state. */
  loadSeconds: number;
  nodeLoadSeconds: number;
  snapshotMbyte: number;
  /** Virtual seconds after a change of the leader until all nodes have told the new one that all is in force. */
  newLeaderSeconds: number;
}

const SERVICES_A_NETWORK = 250;
const LOADED_AT_ONCE = 64;
const SAMPLED_CHANGES = 20;
/** The ingress network of a new cluster has addresses for so many nodes. */
const NODES_OF_A_NEW_CLUSTER = 4000;

/** `progress` hears what is done. Throws when a real end has another state than the leader. */
export async function figuresOf(size: Size, progress: (text: string) => void = () => {}): Promise<Figures> {
  const { nodes, services, replicas } = size;
  const emptyHeap = heapMbyte();
  const http = await measureHttp(size.httpReports);
  const simulation = new Simulation(nodes, http, nodes > NODES_OF_A_NEW_CLUSTER ? withWideIngress() : emptyState());
  const { crowd } = simulation;
  const [recorded] = crowd.nodes;
  recorded!.lines = [];
  await simulation.start();
  progress(`${nodes} sessions`);
  await simulation.load(networksFor(size), 1);
  simulation.busyMs = 0;
  await simulation.load(servicesOf(size), LOADED_AT_ONCE);
  const loadSeconds = simulation.busyMs / 1000;
  progress(`${services} services with ${services * replicas} tasks, ${loadSeconds.toFixed(1)} s of the leader`);
  simulation.goLive();
  await simulation.untilApplied();
  const newLeaderSeconds = (await simulation.replaceLeader()) / 1000;
  const leaderMbyte = heapMbyte() - emptyHeap;
  progress(`a new leader after ${newLeaderSeconds.toFixed(2)} s`);

  // The real end has nothing yet.
  recorded!.lines = [];
  await simulation.reload(recorded!);
  const heapBefore = heapMbyte();
  const end = new RealEnd(recorded!.identity, POOL);
  await end.start();
  const takeLines = (): Buffer[] => recorded!.lines!.splice(0);
  const load = await end.receive(takeLines(), recorded!.revision);
  const nodeMbyte = heapMbyte() - heapBefore;
  const changes = changesOf(size);
  const costs: Cost[] = [];
  for (let i = 0; i < Math.min(SAMPLED_CHANGES, size.changes); i++) {
    await simulation.change(changes.next().value as CommandInput);
    await simulation.pass(1000);
    costs.push(await end.receive(takeLines(), recorded!.revision));
  }
  requireSameState(end, simulation);
  await end.stop();
  recorded!.lines = undefined;
  simulation.nodeMs = percentile(
    costs.map(({ inForceMs }) => inForceMs),
    50,
  );
  progress(`a node has a change in force after ${simulation.nodeMs.toFixed(2)} ms`);

  simulation.busyMs = 0;
  await simulation.pass(1000 * size.quietSeconds);
  const quietPercent = simulation.busyMs / (10 * size.quietSeconds);

  const times: number[] = [];
  const receivedBefore = recorded!.changesBytes;
  simulation.busyMs = 0;
  const began = simulation.now;
  const until = performance.now() + size.boundMs;
  while (times.length < size.changes && performance.now() < until) {
    times.push(await simulation.change(changes.next().value as CommandInput));
    await simulation.pass(1000);
  }
  const quietMs = ((simulation.now - began) * quietPercent) / 100;
  await simulation.stop();
  return {
    nodes,
    services,
    endpoints: services * replicas,
    reportMicros: 1000 * http.reportMs,
    beatMicros: 1000 * http.beatMs,
    lineMicros: 1000 * http.lineMs,
    changes: times.length,
    p50Ms: percentile(times, 50),
    p99Ms: percentile(times, 99),
    leaderMsAChange: Math.max(0, simulation.busyMs - quietMs) / times.length,
    bytesAChange: (recorded!.changesBytes - receivedBefore) / times.length,
    nodeInForceMs: simulation.nodeMs,
    nodeMsAChange: percentile(
      costs.map(({ allMs }) => allMs),
      50,
    ),
    quietPercent,
    leaderMbyte,
    nodeMbyte,
    loadSeconds,
    nodeLoadSeconds: load.allMs / 1000,
    snapshotMbyte: recorded!.snapshotBytes / 1e6,
    newLeaderSeconds,
  };
}

/** Every row that nodes have: what the real end holds is what the leader holds. */
function requireSameState(end: RealEnd, { leader }: Simulation): void {
  for (const kind of NODE_KINDS) {
    const [own, theirs] = [end.state[kind], leader.state[kind]];
    if (own.size !== theirs.size) throw new Error(`a node has ${own.size} ${kind}, the leader ${theirs.size}`);
    for (const [key, row] of theirs as ReadonlyMap<string, object>) {
      if (isDeepStrictEqual(own.get(key), row)) continue;
      throw new Error(`a node has ${JSON.stringify(own.get(key))}, the leader ${JSON.stringify(row)}`);
    }
  }
  if (end.rows === 0) throw new Error("a node has no rows of the data path");
}

function* networksFor({ services }: Size): Generator<CommandInput> {
  for (let i = 0; i * SERVICES_A_NETWORK < services; i++)
    yield { type: "network.create", name: networkOf(i * SERVICES_A_NETWORK) };
}

function networkOf(service: number): string {
  return `net-${Math.floor(service / SERVICES_A_NETWORK)}x`;
}

function* servicesOf({ services, replicas }: Size): Generator<CommandInput> {
  for (let i = 0; i < services; i++) yield serviceOf(`service-${i}`, networkOf(i), replicas);
}

function serviceOf(name: string, network: string, replicas: number): CommandInput {
  return {
    type: "service.create",
    name,
    workload: { runtime: "process", command: ["server"] },
    replicas,
    networks: [network],
  };
}

/** In turn: a service is made, another has a task more, has a task less, and the first is removed. */
function* changesOf({ services, replicas }: Size): Generator<CommandInput, never> {
  for (let i = 0; ; i++) {
    const name = `service-${(i * 7) % services}`;
    yield serviceOf(`change-${i}`, networkOf(0), 0);
    yield { type: "service.scale", name, replicas: replicas + 1 };
    yield { type: "service.scale", name, replicas };
    yield { type: "service.remove", name: `change-${i}` };
  }
}

/** A new cluster's first networks, with addresses for more nodes than a leader gives by itself. */
function withWideIngress(): LiveState {
  const state = emptyState();
  const networks = [
    { id: "ingress".padEnd(25, "0"), name: "ingress", vni: 2, subnet: "10.254.0.0/16", gateway: "10.254.0.1" },
    { id: "default".padEnd(25, "0"), name: "default", vni: 3, subnet: "10.253.0.0/20", gateway: "10.253.0.1" },
  ].map((network) => ({ ...network, internal: false, encrypted: false, createdAt: 0 }));
  const rows = networks.map((row) => ({ kind: "networks" as const, key: row.id, row }));
  state.apply(rows, 1);
  return state;
}

let collect: (() => void) | undefined;

/** Megabytes (10^6 bytes) that are in use after everything else was collected. */
function heapMbyte(): number {
  setFlagsFromString("--expose-gc");
  collect ??= runInNewContext("gc") as () => void;
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1e6;
}
