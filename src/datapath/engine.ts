// One data path, whole: the forwarder with its tables, flows and probes between a device and an underlay. Whoever
// owns it calls step() when there is something to carry and tick() when it asked to be called again.
import type { Ipv4 } from "../lib/ip.ts";
import { createSum } from "../packet/checksum.ts";
import { DROP_NAMES, Drop } from "../packet/drop.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { CachedAnswer } from "./answer-cache.ts";
import { DeviceBatch, UnderlayBatch } from "./batch.ts";
import type { Traffic } from "./egress.ts";
import { FlowCensus } from "./flow-census.ts";
import { FlowSweeper } from "./flow-sweeper.ts";
import type { FlowTable } from "./flow-table.ts";
import { Forwarder, type PacketCounts, type Said } from "./forwarder.ts";
import { type HealthReport, ToldHealth } from "./peer-health.ts";
import { type Device, MAX_LANES, type Underlay } from "./ports.ts";
import { Probes, type ProbeView } from "./probes.ts";
import type { TableDiff } from "./rows.ts";
import { Tables } from "./tables.ts";

const DEVICE_PACKETS = 32;
const UNDERLAY_MESSAGES = 16;
const TICK_MS = 100;
/** While there are flows to look at again: packets go between two looks. */
const BUSY_TICK_MS = 1;

const LANES = (1 << MAX_LANES) - 1;
const LANES_AT = 1;
/** Where packets come from, as bits of a set: the underlay, then each lane of the device. */
export const Side = { Underlay: 1, Device: LANES << LANES_AT, Both: 1 | (LANES << LANES_AT) } as const;

/** Packet memory that an engine and its device and underlay take. */
export const ENGINE_MEMORY_BYTES = 16 << 20;

export interface EngineParts {
  memory: PacketMemory;
  device: Device;
  underlay: Underlay;
  flows: FlowTable;
  /** The first of the workers that share the flows: it probes the peers and sweeps. The others are told. */
  isFirst: boolean;
  /** Milliseconds, monotonic since the machine started, so that flows keep their age over a restart. */
  now: () => number;
  random: () => number;
  /** How many flows one endpoint may begin each second, in all workers together. */
  newFlowsPerSecond?: number;
  /** How many workers share the flows: the flows of one sender are spread over them. */
  workers?: number;
}

/** More flows a second than a busy reverse proxy makes. */
export const DEFAULT_NEW_FLOWS_PER_SECOND = 20_000;

/** What a person may want to know of the data path. */
export interface EngineReport {
  drops: Record<string, number>;
  /** What became of the packets that were taken: whatever is neither forwarded nor answered is in `drops`. */
  packets: PacketCounts;
  evictedFlows: number;
  displacedFragments: number;
  said: Said;
  traffic: (Traffic & { vtep: Ipv4 })[];
  /** Of the first worker. */
  probes: ProbeView[];
  flows: number;
  flowCapacity: number;
  /** Questions for names that were answered here. */
  namesAnswered: number;
}

export class Engine {
  readonly tables = new Tables();
  /** Packets and messages that the last step() took. */
  carried = 0;
  readonly #flows: FlowTable;
  readonly #census: FlowCensus;
  /** Whether a service's scheduler asks for the load of tasks. */
  #needsCensus = false;
  readonly #probes: Probes | undefined;
  readonly #toldHealth = new ToldHealth(this.tables);
  #toldReport = "";
  readonly #forwarder: Forwarder;
  readonly #sweeper: FlowSweeper | undefined;
  /** Called when the health of a peer has changed, by the first. */
  onHealth: (report: HealthReport) => void = () => {};
  readonly #device: Device;
  readonly #underlay: Underlay;
  readonly #fromDevice: DeviceBatch;
  readonly #fromUnderlay: UnderlayBatch;
  readonly #now: () => number;

  constructor({ memory, device, underlay, flows, isFirst, now, random, newFlowsPerSecond, workers }: EngineParts) {
    const sum = createSum(memory);
    const { tables } = this;
    this.#now = now;
    this.#device = device;
    this.#underlay = underlay;
    this.#fromDevice = new DeviceBatch(memory, DEVICE_PACKETS);
    this.#fromUnderlay = new UnderlayBatch(memory, UNDERLAY_MESSAGES);
    this.#flows = flows;
    this.#census = new FlowCensus(flows);
    this.#probes = isFirst ? new Probes({ memory, sum, tables, now, random }) : undefined;
    const health = this.#probes ?? this.#toldHealth;
    this.#forwarder = new Forwarder({
      memory,
      sum,
      device,
      underlay,
      tables,
      flows,
      health,
      load: this.#census,
      newFlowsPerSecond: newFlowsPerSecond ?? DEFAULT_NEW_FLOWS_PER_SECOND,
      workers: workers ?? 1,
      random,
    });
    this.#sweeper = isFirst ? new FlowSweeper(flows, this.#forwarder.reaper) : undefined;
    this.#probes?.sendThrough(
      (offset, length, zeros, padding, peer) => this.#forwarder.sendDatagram(offset, length, zeros, padding, peer),
      () => this.#forwarder.flush(),
    );
  }

  /** Puts the tables that the diff leads to in force. */
  apply(diff: TableDiff): void {
    const before = [...this.tables.peers.keys()];
    this.tables.apply(diff);
    this.#probes?.update();
    this.#needsCensus = [...this.tables.vips.values()].some(({ balancing }) => balancing.scheduler === "lc");
    if (this.#probes !== undefined) this.#forwarder.reaper.lookAgain();
    for (const vtep of before) if (!this.tables.peers.has(vtep)) this.#forwarder.forgetTraffic(vtep);
    this.tick();
  }

  /** Carries a batch from each of `sides`, the lanes sharing theirs. Returns those that may have more. Hot path: must not allocate. */
  step(sides: number): number {
    const seconds = Math.floor(this.#now() / 1000);
    let more = 0;
    this.carried = 0;
    if ((sides & Side.Device) !== 0) {
      const packets = this.#device.read(this.#fromDevice, sides >> LANES_AT);
      if (packets > 0) this.#forwarder.outbound(this.#fromDevice, seconds);
      more |= this.#device.unread << LANES_AT;
      this.carried += packets;
    }
    if ((sides & Side.Underlay) !== 0) {
      const messages = this.#underlay.receive(this.#fromUnderlay);
      if (messages > 0) this.#forwarder.inbound(this.#fromUnderlay, seconds);
      if (messages === UNDERLAY_MESSAGES) more |= Side.Underlay;
      this.carried += messages;
    }
    return more;
  }

  /** Probes, expiry and flows that have come to an end. Returns the milliseconds until it wants to be called again. */
  tick(): number {
    if (this.#needsCensus) this.#census.step();
    if (this.#probes === undefined) return TICK_MS;
    const next = this.#probes.tick();
    this.#sweeper?.sweep(Math.floor(this.#now() / 1000));
    const isLooking = this.#forwarder.reaper.step();
    this.#forwarder.flush();
    this.#tellHealth(this.#probes.healthReport());
    return isLooking ? BUSY_TICK_MS : Math.min(next, TICK_MS);
  }

  report(): EngineReport {
    return {
      drops: this.#drops(),
      packets: this.#forwarder.packets,
      evictedFlows: this.#forwarder.evictedFlows,
      displacedFragments: this.#forwarder.displacedFragments,
      said: this.#forwarder.said,
      traffic: [...this.tables.peers.keys()].map((vtep) => ({ vtep, ...this.#forwarder.traffic(vtep) })),
      probes: this.#probes?.views() ?? [],
      flows: this.#flows.size,
      flowCapacity: this.#flows.capacity,
      namesAnswered: this.#forwarder.answers.given,
    };
  }

  /** The forwarder's drops, and packets that were lost before or after it. */
  #drops(): Record<string, number> {
    const { unreadable } = this.#device;
    const { receiveDrops, failedLater } = this.#underlay;
    const drops = this.#forwarder.drops();
    for (const [drop, count] of [
      [Drop.BadSuperPacket, unreadable],
      [Drop.UnderlayOverrun, receiveDrops],
      [Drop.UnderlayRefused, failedLater],
    ] as const) {
      const name = DROP_NAMES[drop]!;
      if (count > 0) drops[name] = (drops[name] ?? 0) + count;
    }
    return drops;
  }

  /** What the node's DNS server answers until forgetAnswers(). */
  addAnswer(answer: CachedAnswer): void {
    this.#forwarder.answers.add(answer);
  }

  forgetAnswers(): void {
    this.#forwarder.answers.forget();
  }

  /** What the first worker found out. */
  tellHealth(report: HealthReport): void {
    this.#toldHealth.tell(report);
  }

  #tellHealth(report: HealthReport): void {
    const text = JSON.stringify(report);
    if (text === this.#toldReport) return;
    this.#toldReport = text;
    this.onHealth(report);
  }

  close(): void {
    this.#device.close();
    this.#underlay.close();
  }
}
