// One data path, whole: the forwarder with its tables, flows and probes between a device and an underlay. Its owner calls step()
// when there is something to carry, and tick() when the engine asked to be called again.
import type { Ipv4 } from "../lib/ip.ts";
import { createSum } from "../packet/checksum.ts";
import { DROP_NAMES, Drop } from "../packet/drop.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { Packet } from "../packet/packet.ts";
import { AnswerCache } from "./answer-cache.ts";
import { Associations, type InboundKey, type OutboundKey } from "./associations.ts";
import { Balancer } from "./balancer.ts";
import { DeviceBatch, UnderlayBatch } from "./batch.ts";
import { Decision } from "./decision.ts";
import { Egress } from "./egress.ts";
import type { EngineReport, ExpressReport } from "./engine-report.ts";
import { EntranceNames } from "./entrance-names.ts";
import { ExpressFlows } from "./express-flows.ts";
import { ExternalArp } from "./external-arp.ts";
import { FlowCheck } from "./flow-check.ts";
import { FlowScan } from "./flow-scan.ts";
import type { FlowTable } from "./flow-table.ts";
import { FlowTracker, seedOf } from "./flow-tracker.ts";
import { Forwarder } from "./forwarder.ts";
import { FragmentTable } from "./fragments.ts";
import { GroRun } from "./gro-run.ts";
import { IcmpErrors } from "./icmp-errors.ts";
import { IcmpRelate } from "./icmp-relate.ts";
import { LaneNotes } from "./lane-notes.ts";
import { Opener } from "./opener.ts";
import { PathFit } from "./path-fit.ts";
import { type HealthReport, ReportedHealth } from "./peer-health.ts";
import { type Device, type ExpressLane, MAX_LANES, type SealedSide, type Underlay } from "./ports.ts";
import { Probes } from "./probes.ts";
import { Resets } from "./resets.ts";
import type { TableDiff } from "./rows.ts";
import { Tables } from "./tables.ts";
import { UnfinishedFrames } from "./unfinished-frames.ts";

const DEVICE_PACKETS = 32;
const UNDERLAY_MESSAGES = 16;
const TICK_MS = 100;

const LANES = (1 << MAX_LANES) - 1;
const LANES_AT = 1;
const SEALED_AT = LANES_AT + MAX_LANES;
/** Where packets come from, as bits of a set: the underlay, then each lane of the device, then the underlay of sealed packets. */
export const Side = {
  Underlay: 1,
  Device: LANES << LANES_AT,
  Sealed: 1 << SEALED_AT,
  All: 1 | (LANES << LANES_AT) | (1 << SEALED_AT),
} as const;

/** Bits that such a set has. */
export const SIDES = SEALED_AT + 1;

/** Bytes of packet memory that an engine takes, with its device and underlay. */
export const ENGINE_MEMORY_BYTES = 16 << 20;

interface EngineOptions {
  memory: PacketMemory;
  device: Device;
  underlay: Underlay;
  flows: FlowTable;
  /** undefined: every packet takes the agent's own path. */
  lane?: ExpressLane | undefined;
  /** Whether it is the first of the workers that share the flows: it probes the peers and ends flows. */
  isFirst: boolean;
  /** Milliseconds, monotonic since the machine started, so that flows keep their age over a restart. */
  now: () => number;
  random: () => number;
  /** New flows that one endpoint may begin each second, in all workers together. */
  newFlowsPerSecond?: number;
  /** The number of workers that share the flows: the flows of one sender are spread over them. */
  workers?: number;
  /** undefined: this node cannot seal. What is to go sealed is dropped for want of a key. */
  sealed?: SealedSide | undefined;
}

/** More flows a second than a busy reverse proxy makes. */
export const DEFAULT_NEW_FLOWS_PER_SECOND = 20_000;

export class Engine {
  readonly tables: Tables;
  /** Packets and messages that the last step() took. */
  carried = 0;
  /** Called with the peers that packets have no key for, or whose keys have sealed enough, at each tick while such packets come. */
  onKeysWanted: (vteps: readonly Ipv4[]) => void = () => {};
  /** Called when the health of a peer has changed, by the first worker's engine. */
  onHealth: (report: HealthReport) => void = () => {};
  readonly #device: Device;
  readonly #underlay: Underlay;
  readonly #sealedUnderlay: Underlay | undefined;
  readonly #now: () => number;
  readonly #fromDevice: DeviceBatch;
  readonly #fromUnderlay: UnderlayBatch;
  readonly #flows: FlowTable;
  readonly #probes: Probes | undefined;
  readonly #lane: ExpressLane | undefined;
  readonly #express: ExpressFlows | undefined;
  readonly #reportedHealth: ReportedHealth;
  readonly #balancer: Balancer;
  readonly #egress: Egress;
  readonly #resets: Resets;
  readonly #errors: IcmpErrors;
  readonly #fragments: FragmentTable;
  readonly #check: FlowCheck;
  readonly #tracker: FlowTracker;
  readonly #scan: FlowScan;
  /** The answers of the node's DNS server that the packet path gives again. */
  readonly answers: AnswerCache;
  readonly #forwarder: Forwarder;
  readonly #associations: Associations;
  #probesDueMs = 0;

  constructor(options: EngineOptions) {
    const { memory, device, underlay, flows, lane, isFirst, now, random, workers = 1 } = options;
    const { newFlowsPerSecond = DEFAULT_NEW_FLOWS_PER_SECOND } = options;
    const tables = new Tables(undefined, lane);
    const sum = createSum(memory);
    const drops = new Float64Array(DROP_NAMES.length);
    const refused = (drop: Drop, count: number): void => {
      drops[drop]! += count;
    };
    this.tables = tables;
    this.#lane = lane;
    this.#device = device;
    this.#underlay = underlay;
    this.#now = now;
    this.#fromDevice = new DeviceBatch(memory, DEVICE_PACKETS);
    this.#fromUnderlay = new UnderlayBatch(memory, UNDERLAY_MESSAGES);
    this.#flows = flows;
    const associations = new Associations(memory, options.sealed?.keys);
    const sealedUnderlay = options.sealed?.underlay;
    this.#associations = associations;
    this.#sealedUnderlay = sealedUnderlay;
    const egress = new Egress({
      ...{ memory, sum, tables, device, underlay, associations, sealedUnderlay, lane, refused },
    });
    this.#reportedHealth = new ReportedHealth(tables, lane);
    this.#probes = isFirst ? new Probes({ memory, sum, tables, egress, lane, now, random }) : undefined;
    const health = this.#probes ?? this.#reportedHealth;
    const resets = new Resets({ memory, sum, tables, flows, egress });
    const notes = new LaneNotes({ memory, flows, tables, egress });
    const countCarried = egress.countCarried.bind(egress);
    const express = lane && new ExpressFlows({ flows, tables, health, lane, notes, countCarried });
    const check = new FlowCheck({ flows, tables, health, resets, express });
    this.#express = express;
    this.#egress = egress;
    this.#resets = resets;
    this.#check = check;
    this.#errors = new IcmpErrors({ memory, sum, tables, egress, resets, seed: seedOf(random), workers });
    this.#fragments = new FragmentTable(seedOf(random));
    this.#tracker = new FlowTracker({
      ...{ flows, tables, health, check, express, random },
      newFlowsPerSecond: Math.ceil(newFlowsPerSecond / workers),
    });
    this.#scan = new FlowScan(flows, isFirst ? check : undefined);
    this.#balancer = new Balancer(tables, (vtep) => health.isReachable(vtep), this.#scan);
    this.answers = new AnswerCache(memory);
    const decision = new Decision(tables, this.#balancer);
    this.#forwarder = new Forwarder({
      ...{ memory, tables, flows, health, drops, decision, egress },
      packet: new Packet(memory, sum),
      tracker: this.#tracker,
      fragments: this.#fragments,
      relate: new IcmpRelate({ sum, tables, flows, decision, check }),
      fit: new PathFit(flows, tables, health),
      names: new EntranceNames(flows, tables, this.#fragments),
      arp: new ExternalArp(memory.u8, tables),
      unfinished: new UnfinishedFrames(memory.u8, tables, health),
      run: new GroRun(memory, sum),
      errors: this.#errors,
      answers: this.answers,
      opener: new Opener(memory, associations),
    });
  }

  /** Puts the tables that the difference leads to in force. The work is that of the difference, but for flows that lost ground. */
  apply(diff: TableDiff): void {
    const { tables } = this;
    const { mtu, vtep: own } = tables.node;
    const { hasLostGround, peers } = tables.apply(diff);
    if (tables.node.mtu !== mtu || tables.node.vtep !== own) this.#lane?.loseAll();
    for (const row of diff.put) {
      if (row.kind === "vip") this.#balancer.prepare(row);
      else if (row.kind === "node") this.#probes?.setMaxMtu(row.mtu);
    }
    for (const vtep of peers) {
      this.#lane?.lose(vtep); // its port may be another, or what it takes
      this.#probes?.update(vtep);
      if (tables.peers.has(vtep)) continue;
      this.#egress.forgetTraffic(vtep);
      this.#associations.forgetPeer(vtep);
    }
    if (hasLostGround) {
      this.#scan.checkAll();
      this.#scanSlice();
    }
    this.#egress.flush();
  }

  /** Carries a batch from each of `sides`, the lanes sharing theirs. Returns those that may have more. Hot path: must not allocate. */
  step(sides: number): number {
    const seconds = Math.floor(this.#now() / 1000);
    let more = 0;
    this.carried = 0;
    if ((sides & Side.Device) !== 0) {
      const packets = this.#device.read(this.#fromDevice, (sides >> LANES_AT) & LANES);
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
    const sealed = this.#sealedUnderlay;
    if ((sides & Side.Sealed) !== 0 && sealed !== undefined) {
      const messages = sealed.receive(this.#fromUnderlay);
      if (messages > 0) this.#forwarder.inboundSealed(this.#fromUnderlay, seconds);
      if (messages === UNDERLAY_MESSAGES) more |= Side.Sealed;
      this.carried += messages;
    }
    return more;
  }

  /** Probes, and flows that have come to an end. Returns the milliseconds until it wants to be called again. */
  tick(): number {
    const { wanted } = this.#egress.sealer;
    if (wanted.size > 0) {
      this.onKeysWanted([...wanted]);
      wanted.clear();
    }
    const pauseMs = this.#scanSlice();
    const probes = this.#probes;
    if (probes === undefined) return pauseMs;
    const now = this.#now();
    if (now >= this.#probesDueMs) this.#probesDueMs = now + Math.min(probes.tick(), TICK_MS);
    this.#egress.flush();
    if (probes.hasNews) this.onHealth(probes.healthReport());
    return Math.max(1, Math.min(pauseMs, this.#probesDueMs - now));
  }

  #scanSlice(): number {
    return this.#scan.step(Math.floor(this.#now() / 1000), this.tables.leastConnectionVips > 0);
  }

  report(): EngineReport {
    const { sent: icmpErrorsSent, limited: refusalsLimited, tooBigLimited } = this.#errors;
    const { sent: resetsSent } = this.#resets;
    const namesAnswered = this.answers.given;
    const { taken, answered } = this.#forwarder;
    const own = icmpErrorsSent + resetsSent + namesAnswered;
    return {
      drops: this.#drops(),
      packets: { taken, forwarded: this.#egress.packets - own, answered: answered + namesAnswered },
      ownPackets: { icmpErrorsSent, resetsSent, refusalsLimited, tooBigLimited },
      evictedFlows: this.#tracker.evictedFlows,
      checkedFlows: this.#check.checked,
      displacedFragments: this.#fragments.displaced,
      traffic: [...this.tables.peers.keys()].map((vtep) => ({ vtep, ...this.#egress.traffic(vtep) })),
      probes: this.#probes?.views() ?? [],
      flows: this.#flows.size,
      flowCapacity: this.#flows.capacity,
      namesAnswered,
      express: this.#expressReport(),
      sealed: this.#associations.traffic(),
    };
  }

  #expressReport(): ExpressReport {
    const express = this.#express;
    const refused = this.#lane?.refused ?? 0;
    if (express === undefined) return { packets: 0, bytes: 0, entered: 0, taken: 0, refused, entries: 0, stalled: 0 };
    const { packets, bytes } = express.counts;
    return { packets, bytes, entered: express.entered, taken: express.taken, refused, entries: 0, stalled: 0 };
  }

  /** Packets dropped, by the name of the reason: the forwarder's drops, and packets that were lost before or after it. */
  #drops(): Record<string, number> {
    const counts = this.#forwarder.drops.slice();
    counts[Drop.BadSuperPacket]! += this.#device.unreadable;
    counts[Drop.UnderlayOverrun]! += this.#underlay.receiveDrops;
    counts[Drop.UnderlayRefused]! += this.#underlay.failedLater;
    counts[Drop.UnderlayOverrun]! += this.#sealedUnderlay?.receiveDrops ?? 0;
    counts[Drop.UnderlayRefused]! += this.#sealedUnderlay?.failedLater ?? 0;
    const drops: Record<string, number> = {};
    for (let i = 1; i < counts.length; i++) if (counts[i]! > 0) drops[DROP_NAMES[i]!] = counts[i]!;
    return drops;
  }

  /** Links or routes of these containers and peers are others: what the express lane has of them is void. */
  loseWays(addresses: readonly Ipv4[]): void {
    for (const address of addresses) this.#lane?.lose(address);
  }

  /** The flows of these peers, and of no others for that reason, are to be in no lane: they leave it, or are judged again. */
  avoidLane(vteps: readonly Ipv4[]): void {
    for (const vtep of this.#express?.avoid(vteps) ?? []) this.#lane?.lose(vtep);
  }

  /** Puts keys in force. A key for the SPI or socket of another takes its place. Throws where this node cannot seal. */
  putAssociations(inbound: readonly InboundKey[], outbound: readonly OutboundKey[]): void {
    for (const key of inbound) this.#associations.putInbound(key);
    for (const key of outbound) this.#associations.putOutbound(key);
  }

  /** Inbound associations with these SPIs go, and all with these peers. */
  forgetAssociations(spis: readonly number[], vteps: readonly Ipv4[]): void {
    for (const spi of spis) this.#associations.forgetInbound(spi);
    for (const vtep of vteps) this.#associations.forgetPeer(vtep);
  }

  /** Takes over what the first worker found out about the peers. */
  setHealth(report: HealthReport): void {
    this.#reportedHealth.set(report);
  }

  close(): void {
    this.#device.close();
    this.#underlay.close();
    this.#sealedUnderlay?.close();
    this.#associations.close();
  }
}
