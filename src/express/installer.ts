// The express lane as one worker has it: entries of the flow table written into the kernel's map in batches, read and taken out one by
// one, and the counters of grounds, which are mapped memory. Each worker has an installer of its own over the same maps.
import type { FlowTable } from "../datapath/flow-table.ts";
import type { ExpressLane, LaneReading } from "../datapath/ports.ts";
import { type Cidr, contains, type Ipv4, OUTSIDE } from "../lib/ip.ts";
import { mapArray } from "../linux/bpf-array.ts";
import { BpfMap } from "../linux/bpf-map.ts";
import { SyscallError } from "../linux/libc.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { swapPorts } from "../packet/packet.ts";
import { type FlowKey, type LaneEntry, readKey, writeKey, writeValue } from "./entry.ts";
import { loseEverything, loseGround, sumOfGrounds } from "./grounds.ts";
import {
  CONTROL_SHAPE,
  Control,
  flowsShape,
  GROUNDS_SHAPE,
  KEY_BYTES,
  type LaneMaps,
  VALUE_BYTES,
  Value,
} from "./layout.ts";
import type { Ways } from "./ways.ts";

/** Entries that are written with one call, at most: those of a batch of packets. */
const BATCH = 64;
const WORD = 2 ** 32;
const NANOSECONDS = 1e9;

interface InstallerOptions {
  memory: PacketMemory;
  flows: FlowTable;
  maps: LaneMaps;
  /** Entries that the map of flows takes. */
  capacity: number;
  ways: Pick<Ways, "toContainer" | "toPeer" | "toClient" | "client" | "forget" | "forgetAll" | "close">;
  /** The overlay's addresses, which no client outside has. */
  pool: Cidr;
  /** This node's VTEP. */
  vtep: Ipv4;
  /** The UDP ports that frames to peers come from; the flow's hash chooses, as it does for the agent's own frames. A power of two of them. */
  sourcePorts: readonly number[];
  /** The address whose MAC packets to containers come from. */
  nextHop: Ipv4;
}

export class ExpressInstaller implements ExpressLane {
  /** Entries that the map had no room for, or that the kernel refused. */
  refused = 0;
  readonly #view: DataView;
  readonly #flows: FlowTable;
  readonly #map: BpfMap;
  readonly #ways: InstallerOptions["ways"];
  readonly #pool: Cidr;
  readonly #sourcePorts: readonly number[];
  readonly #grounds: Int32Array;
  readonly #control: Int32Array;
  readonly #unmap: () => void;
  /** The entry in hand, which is filled anew for each. */
  readonly #entry: LaneEntry;
  // The queue: whose entry each is.
  #count = 0;
  readonly #queued = new Int32Array(BATCH);
  readonly #versions = new Int32Array(BATCH);
  readonly #sums = new Int32Array(BATCH);
  readonly #key: FlowKey = { zone: 0, protocol: 0, source: 0, destination: 0, ports: 0 };

  /** Throws SyscallError when the maps cannot be mapped. */
  constructor({ memory, flows, maps, capacity, ways, pool, vtep, sourcePorts, nextHop }: InstallerOptions) {
    this.#view = memory.view;
    this.#flows = flows;
    this.#map = new BpfMap(memory, maps.flows, flowsShape(capacity), BATCH);
    this.#ways = ways;
    this.#pool = pool;
    this.#sourcePorts = sourcePorts;
    const grounds = mapArray(maps.grounds, GROUNDS_SHAPE);
    const control = mapArray(maps.control, CONTROL_SHAPE);
    this.#grounds = new Int32Array(grounds.buffer);
    this.#control = new Int32Array(control.buffer);
    this.#unmap = () => {
      grounds.close();
      control.close();
    };
    this.#entry = blankEntry(vtep, nextHop);
  }

  get isOn(): boolean {
    return this.#control[Control.IsOn >> 2] !== 0;
  }

  groundSum(client: Ipv4, server: Ipv4, vip: Ipv4, from: Ipv4, to: Ipv4): number {
    return sumOfGrounds(this.#grounds, client, server, vip, this.#isClient(client, from) ? OUTSIDE : from, to);
  }

  /** Whether what the flow table has as DEVICE is a client outside. */
  #isClient(address: Ipv4, vtep: Ipv4): boolean {
    return vtep === 0 && !contains(this.#pool, address);
  }

  lose(address: Ipv4): void {
    loseGround(this.#grounds, address);
    this.#ways.forget(address);
  }

  loseAll(): void {
    loseEverything(this.#grounds);
    this.#ways.forgetAll();
  }

  enter(flowEntry: number, version: number, groundSum: number, mtu: number, port: number): boolean {
    if (this.#fill(flowEntry, groundSum, mtu, port)) this.#queue(flowEntry, version);
    else this.#refuse(flowEntry, version);
    return this.#flows.isRiding(flowEntry, version);
  }

  /** Fills in the entry. False: its packets come by no link, or would go by none. */
  #fill(flowEntry: number, groundSum: number, mtu: number, port: number): boolean {
    if (!this.#aim(flowEntry)) return false;
    const entry = this.#entry;
    const flows = this.#flows;
    const { to } = entry;
    const newSource = flows.destinationOf(flowEntry ^ 1);
    const newDestination = flows.sourceOf(flowEntry ^ 1);
    entry.newSource = newSource;
    entry.newDestination = newDestination;
    entry.mtu = mtu;
    entry.heedsTunnelMark = false;
    entry.toClient = this.#isClient(newDestination, to);
    if (entry.toClient) this.#aimAtClient();
    else entry.link = to === 0 ? this.#ways.toContainer(newDestination) : this.#ways.toPeer(to);
    if (entry.link === 0) return false;
    entry.newPorts = swapPorts(flows.portsOf(flowEntry ^ 1));
    entry.vip = flows.vipOf(flowEntry);
    entry.vni = flows.vniOf(flowEntry);
    entry.port = port;
    entry.sourcePort = this.#sourcePorts[flows.hashOf(flowEntry) & (this.#sourcePorts.length - 1)]!;
    const isTcp = entry.protocol === Protocol.Tcp;
    entry.sequence = isTcp ? flows.nextSequenceOf(flowEntry) : 0;
    entry.acknowledgment = isTcp ? flows.acknowledgedOf(flowEntry ^ 1) : 0;
    entry.packets = flows.carriedPacketsOf(flowEntry);
    entry.bytes = flows.carriedBytesOf(flowEntry);
    entry.groundSum = groundSum;
    return true;
  }

  #aimAtClient(): void {
    const entry = this.#entry;
    entry.link = this.#ways.toClient(entry.newDestination, entry.newSource);
    const { mtu, heedsTunnelMark } = this.#ways.client;
    entry.mtu = Math.min(entry.mtu, mtu);
    entry.heedsTunnelMark = heedsTunnelMark;
  }

  #queue(flowEntry: number, version: number): void {
    if (this.#count === BATCH) this.flush();
    const view = this.#view;
    const i = this.#count++;
    writeKey(view, this.#map.keys + i * KEY_BYTES, this.#entry);
    writeValue(view, this.#map.values + i * VALUE_BYTES, this.#entry);
    this.#queued[i] = flowEntry;
    this.#versions[i] = version;
    this.#sums[i] = this.#entry.groundSum;
  }

  flush(): void {
    if (this.#count === 0) return;
    const count = this.#leaveWanted();
    this.#count = 0;
    if (count === 0) return;
    const written = this.#write(count);
    this.refused += count - written;
    for (let i = 0; i < written; i++) if (!this.#isWanted(i)) this.#takeBack(i);
    for (let i = written; i < count; i++) this.#refuse(this.#queued[i]!, this.#versions[i]!);
  }

  /** Whether the mark is as it was when the entry was queued, or at least under the same judgment. */
  #isWanted(i: number): boolean {
    const entry = this.#queued[i]!;
    return this.#flows.groundSumOf(entry) === this.#sums[i]! && this.#flows.isRiding(entry, this.#versions[i]!);
  }

  /** Leaves what is still wanted in the queue; returns how many those are. */
  #leaveWanted(): number {
    let left = 0;
    for (let i = 0; i < this.#count; i++) {
      if (!this.#isWanted(i)) continue;
      if (left !== i) {
        this.#map.move(i, left);
        this.#queued[left] = this.#queued[i]!;
        this.#versions[left] = this.#versions[i]!;
        this.#sums[left] = this.#sums[i]!;
      }
      left++;
    }
    return left;
  }

  /**
   * Takes out what was written too late. Another worker may have marked it anew, and have written it already: that was written over, and
   * loses its mark too. Marks change under the lock, so none is set between the look and the removal.
   */
  #takeBack(i: number): void {
    const flows = this.#flows;
    readKey(this.#view, this.#map.keys + i * KEY_BYTES, this.#key);
    const { zone, protocol, source, destination, ports } = this.#key;
    flows.lock();
    try {
      if (this.#isWanted(i)) return;
      const entry = flows.find(zone, protocol, source, destination, ports);
      if (entry >= 0) flows.unmark(entry);
      this.#map.aimAt(i);
      this.#map.delete();
    } finally {
      flows.unlock();
    }
  }

  /** The lane does not take the entry: its mark says so. */
  #refuse(entry: number, version: number): void {
    const flows = this.#flows;
    flows.lock();
    if (flows.isRiding(entry, version)) flows.refuse(entry);
    flows.unlock();
  }

  /** Returns how many were written. What the kernel refuses stays on the agent's path. */
  #write(count: number): number {
    try {
      return this.#map.updateBatch(count);
    } catch (error) {
      if (error instanceof SyscallError) return 0;
      throw error;
    }
  }

  read(flowEntry: number, version: number, reading: LaneReading): boolean {
    if (!this.#aim(flowEntry)) return false;
    writeKey(this.#view, this.#map.key, this.#entry);
    if (!this.#flows.isCurrent(flowEntry, version) || !this.#map.lookup()) return false;
    readValue(this.#view, this.#map.value, reading);
    return true;
  }

  take(flowEntry: number, version: number, reading: LaneReading): boolean {
    if (!this.#aim(flowEntry)) return false;
    writeKey(this.#view, this.#map.key, this.#entry);
    if (!this.#flows.isCurrent(flowEntry, version) || !this.#map.lookupAndDelete()) return false;
    readValue(this.#view, this.#map.value, reading);
    return true;
  }

  /** Fills in what the key says. False: its packets come from a container that has no link, or from a client that none leads to. */
  #aim(flowEntry: number): boolean {
    const entry = this.#entry;
    const flows = this.#flows;
    entry.from = flows.fromOf(flowEntry);
    entry.to = flows.toOf(flowEntry);
    entry.protocol = flows.protocolOf(flowEntry);
    entry.source = flows.sourceOf(flowEntry);
    entry.destination = flows.destinationOf(flowEntry);
    entry.ports = flows.portsOf(flowEntry);
    entry.fromClient = this.#isClient(entry.source, entry.from);
    if (entry.from !== 0) entry.origin = flows.zoneOf(flowEntry);
    else if (entry.fromClient) entry.origin = this.#ways.toClient(entry.source, entry.destination);
    else entry.origin = this.#ways.toContainer(entry.source);
    return entry.origin !== 0;
  }

  close(): void {
    this.#unmap();
    this.#ways.close();
  }
}

/** Reads what the programs have counted of the entry whose value is at `at`. */
export function readValue(view: DataView, at: number, reading: LaneReading): void {
  reading.packets = view.getUint32(at + Value.Packets, true);
  reading.bytes = view.getUint32(at + Value.Bytes + 4, true) * WORD + view.getUint32(at + Value.Bytes, true);
  const seen = view.getUint32(at + Value.Seen + 4, true) * WORD + view.getUint32(at + Value.Seen, true);
  reading.seenSeconds = Math.floor(seen / NANOSECONDS);
  reading.nextSequence = view.getInt32(at + Value.Sequence, true);
  reading.acknowledgment = view.getInt32(at + Value.Acknowledgment, true);
}

function blankEntry(vtep: Ipv4, nextHop: Ipv4): LaneEntry {
  return {
    ...{
      from: 0,
      to: 0,
      fromClient: false,
      toClient: false,
      heedsTunnelMark: false,
      origin: 0,
      protocol: 0,
      source: 0,
      destination: 0,
      ports: 0,
    },
    ...{ newSource: 0, newDestination: 0, newPorts: 0, vip: 0, link: 0, mtu: 0 },
    ...{ nextHop, vtep, vni: 0, sourcePort: 0, port: 0 },
    ...{ hasOuterChecksum: false, sequence: 0, acknowledgment: 0, packets: 0, bytes: 0, groundSum: 0 },
  };
}
