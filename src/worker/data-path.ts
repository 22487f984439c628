// The main thread's handle on the data path: it sends its workers each change of the tables, and asks them for reports.

import { type CachedAnswer, fits } from "../datapath/answer-cache.ts";
import type { InboundKey, OutboundKey, SealedTraffic } from "../datapath/associations.ts";
import type { EngineReport } from "../datapath/engine-report.ts";
import { countLiveFlows, type FlowRow, listFlows } from "../datapath/flow-report.ts";
import { FlowTable } from "../datapath/flow-table.ts";
import type { HealthReport } from "../datapath/peer-health.ts";
import { SOURCE_PORTS } from "../datapath/ports.ts";
import { DEVICE, endpointKey, type TableDiff } from "../datapath/rows.ts";
import { machineMonotonic } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { deviceOverruns } from "../links/overruns.ts";
import { LANES } from "../linux/lanes.ts";
import { openSharedFile, type SharedFile } from "../linux/shared-file.ts";
import { raiseSession } from "../linux/thread-priority.ts";
import { DROP_NAMES, Drop } from "../packet/drop.ts";
import { LaneScan } from "./lane-scan.ts";
import type { WorkerOptions } from "./protocol.ts";
import { TablesInForce } from "./tables-in-force.ts";
import { DataPathThread } from "./thread.ts";

/** What the express lane has counted may be so old when live flows are counted, again and again while a task drains. */
const LIVE_MS = 1000;

interface DataPathOptions extends Omit<WorkerOptions, "posted" | "index" | "lanes" | "flowAddress"> {
  /** The file that the flow table is mapped from. */
  flowFile: string;
  log: Log;
  /** Called when a worker has ended without being stopped: its flows are carried no more. */
  onFailure: (error: Error) => void;
}

export class DataPath {
  readonly #threads: DataPathThread[] = []; // BOUNDED: by the workers configured; the first probes the peers
  /** Mapped once, for a process is charged for every mapping. */
  readonly #flowFile: SharedFile;
  /** Looked through by this thread: a worker carries no packet while it looks. undefined: not mapped. */
  #flows: FlowTable | undefined;
  /** undefined: there is no express lane. */
  #laneScan: LaneScan | undefined;
  readonly #tables = new TablesInForce(this.#threads);
  /** Called when the health of a peer has changed. */
  onHealth: (report: HealthReport) => void = () => {};
  /** Called with the VTEPs whose flows go by the agent because the express lane is at fault with them, when they are others than before. */
  onAvoid: (vteps: readonly Ipv4[]) => void = () => {};

  /** Called with the peers that packets had no key for, or whose keys have sealed enough; again and again while packets come. */
  onKeysWanted: (vteps: readonly Ipv4[]) => void = () => {};
  /** Why no worker uses the express lane that they were to use: one of them is refused what it needs. */
  laneLack: string | undefined;
  readonly #device: string;

  private constructor(flowFile: SharedFile, device: string) {
    this.#flowFile = flowFile;
    this.#device = device;
  }

  /** Resolves when the workers run. Rejects with PlatformError when the platform refuses. */
  static async start({ log, onFailure, flowFile, ...setup }: DataPathOptions): Promise<DataPath> {
    const flows = openSharedFile(flowFile, FlowTable.bytesFor(setup.flowCapacity), { log });
    const dataPath = new DataPath(flows, setup.device);
    const start = async (index: number, lanes: number): Promise<DataPathThread> => {
      const express = dataPath.laneLack === undefined ? setup.express : undefined;
      const own = { ...setup, express, flowAddress: flows.address, index, lanes };
      const thread = await DataPathThread.start(own, log, onFailure);
      dataPath.#threads.push(thread);
      dataPath.laneLack ??= thread.laneLack ?? undefined;
      return thread;
    };
    try {
      const first = await start(0, LANES); // it makes or takes up the flow table that the others join
      dataPath.#flows = FlowTable.join(flows.buffer, setup.flowCapacity);
      // One socket of the portable underlay takes everything.
      const workers = first.underlay === "dgram" ? 1 : setup.workers;
      for (let index = 1; index < workers; index++) await start(index, first.lanes);
      for (const thread of dataPath.#threads) thread.onKeysWanted = (vteps) => dataPath.onKeysWanted(vteps);
      if (dataPath.laneLack !== undefined) dataPath.#forgetLane(dataPath.#flows);
      else if (setup.express !== undefined)
        dataPath.#scanLane({ setup: setup.express, flows: dataPath.#flows, pool: setup.pool, log });
      first.onHealth = (report) => {
        for (const thread of dataPath.#threads.slice(1)) thread.tell({ type: "health", report });
        dataPath.#laneScan?.setUnreachable(report.unreachable);
        dataPath.onHealth(report);
      };
      log.info("the data path runs", { reason: `${first.underlay} underlay`, count: workers });
      if (setup.priority > 0) raiseAll(setup.priority, first.unraised, log);
      return dataPath;
    } catch (error) {
      await dataPath.stop();
      throw error;
    }
  }

  /** Nothing is in the lane, for its owner turns it off. Workers that have it put nothing there then. */
  #forgetLane(flows: FlowTable): void {
    flows.lock();
    flows.clearRides(flows.highWater);
    flows.unlock();
  }

  #scanLane(options: ConstructorParameters<typeof LaneScan>[0]): void {
    const scan = new LaneScan(options);
    this.#laneScan = scan;
    scan.stalls.onAvoid = () => {
      const vteps = scan.stalls.avoided;
      for (const thread of this.#threads) thread.tell({ type: "avoidLane", vteps });
      this.onAvoid(vteps);
    };
  }

  /** Lets the flows of peers that the express lane was at fault with enter it again. */
  forgetStalls(): void {
    this.#laneScan?.stalls.forget();
  }

  /** Does what TablesInForce.apply() does. */
  apply(diff: TableDiff): Promise<void> {
    return this.#tables.apply(diff);
  }

  /** Gives an answer of the node's DNS server to all workers, until forgetAnswers(). An answer that no worker would give is left out. */
  addAnswer(answer: CachedAnswer): void {
    const client = this.#tables.rows?.get(endpointKey(answer.client));
    if (client?.kind !== "endpoint" || client.vtep !== DEVICE || !fits(answer)) return;
    for (const thread of this.#threads) thread.tell({ type: "addAnswer", answer });
  }

  forgetAnswers(): void {
    for (const thread of this.#threads) thread.tell({ type: "forgetAnswers" });
  }

  async report(): Promise<EngineReport> {
    await this.#laneScan?.look();
    const reports = await Promise.all(this.#threads.map((thread) => thread.ask({ type: "report" })));
    const report = reports.reduce(merge);
    return this.#laneScan?.addTo(report) ?? report;
  }

  /** Links of these containers, or routes to these VTEPs, are others than before: flows by them pass the agent once. */
  async loseWays(addresses: readonly Ipv4[]): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.ask({ type: "loseWays", addresses })));
  }

  /** How many workers there are: an inbound SPI modulo this is the worker that has it. */
  get workers(): number {
    return this.#threads.length;
  }

  /** How many sockets this node seals from: `OutboundKey.socket` is below this. A peer has its own number. */
  get sealingSockets(): number {
    return this.#threads.length * SOURCE_PORTS;
  }

  /**
   * Resolves when the keys are in force in the workers that they are for. An inbound SPI is to be congruent to the peer's socket modulo
   * `workers`, so that what the peer's first socket sends, probes among it, comes to the first worker.
   */
  async putAssociations(inbound: readonly InboundKey[], outbound: readonly OutboundKey[]): Promise<void> {
    const { workers } = this;
    const ask = (thread: DataPathThread, worker: number): Promise<undefined> => {
      const opens = inbound.filter(({ spi }) => spi % workers === worker);
      const seals = outbound.filter(({ socket }) => Math.floor(socket / SOURCE_PORTS) === worker);
      if (opens.length === 0 && seals.length === 0) return Promise.resolve(undefined);
      return thread.ask({ type: "putAssociations", inbound: opens, outbound: seals });
    };
    await Promise.all(this.#threads.map(ask));
  }

  /** Resolves when no worker has the inbound associations with these SPIs, nor any with these peers. */
  async forgetAssociations(spis: readonly number[], vteps: readonly Ipv4[]): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.ask({ type: "forgetAssociations", spis, vteps })));
  }

  /** The same as report(), and what the kernel dropped before the workers saw it. */
  async fullReport(): Promise<EngineReport> {
    const [report, overruns] = await Promise.all([this.report(), deviceOverruns(this.#device)]);
    return { ...report, drops: { ...report.drops, [DROP_NAMES[Drop.DeviceOverrun]!]: overruns } };
  }

  /** Does what listFlows() does, at this moment. */
  async flows(limit: number): Promise<FlowRow[]> {
    await this.#laneScan?.look();
    return this.#flows === undefined ? [] : listFlows(this.#flows, machineMonotonic() / 1000, limit);
  }

  /** How many flows go to one of these addresses, and are neither ending nor silent. */
  async liveFlows(servers: readonly Ipv4[]): Promise<number> {
    await this.#laneScan?.look(LIVE_MS);
    return this.#flows === undefined ? 0 : countLiveFlows(this.#flows, servers, machineMonotonic() / 1000);
  }

  /** The device and the flows stay, for the next start. */
  async stop(): Promise<void> {
    this.#laneScan?.close();
    await Promise.all(this.#threads.map((thread) => thread.stop()));
    this.#flows = undefined;
    this.#flowFile.close();
  }
}

/**
 * Raises the agent's session as its workers have raised themselves, and says how far that goes: where the scheduler shares
 * time by sessions or cgroups first, a thread's own priority counts only within its own.
 */
function raiseAll(priority: number, unraised: string | null, log: Log): void {
  if (unraised !== null) {
    const mend = "give the agent CAP_SYS_NICE, or its cgroup more weight";
    log.warn(`the data path does not go before other programs: ${mend}`, { reason: unraised });
    return;
  }
  let session = "its session too";
  try {
    const why = raiseSession(-priority);
    if (why !== undefined) session = `not its session: ${why}`;
  } catch (error) {
    session = `not its session: ${messageOf(error)}`;
  }
  log.info("the data path goes before ordinary programs", { reason: `nice -${priority}, ${session}` });
}

/** The report of `first`, with what another worker has counted. */
function merge(first: EngineReport, other: EngineReport): EngineReport {
  const otherByVtep = new Map(other.traffic.map((traffic) => [traffic.vtep, traffic]));
  return {
    ...first,
    drops: sumOf(first.drops, other.drops),
    packets: sumOf(first.packets, other.packets),
    ownPackets: sumOf(first.ownPackets, other.ownPackets),
    traffic: first.traffic.map(({ vtep, ...own }) => {
      const { vtep: _, ...more } = otherByVtep.get(vtep) ?? { vtep };
      return { vtep, ...sumOf(own, more) };
    }),
    evictedFlows: first.evictedFlows + other.evictedFlows,
    checkedFlows: first.checkedFlows + other.checkedFlows,
    displacedFragments: first.displacedFragments + other.displacedFragments,
    namesAnswered: first.namesAnswered + other.namesAnswered,
    express: sumOf(first.express, other.express),
    sealed: mergeSealed(first.sealed, other.sealed),
  };
}

/** What both have sealed and opened, for each peer that either has associations with. */
function mergeSealed(first: readonly SealedTraffic[], other: readonly SealedTraffic[]): SealedTraffic[] {
  const byVtep = new Map(first.map((traffic) => [traffic.vtep, traffic]));
  for (const { vtep, ...counts } of other) {
    const { vtep: _, ...own } = byVtep.get(vtep) ?? { vtep };
    byVtep.set(vtep, { vtep, ...sumOf(counts, own) });
  }
  return [...byVtep.values()];
}

/** Counters of both, added up by name. */
function sumOf<C extends object>(counts: C, others: Partial<C>): C {
  const sums: Record<string, number> = { ...(counts as Record<string, number>) };
  for (const [name, count] of Object.entries(others as Record<string, number>)) sums[name] = (sums[name] ?? 0) + count;
  return sums as C;
}
