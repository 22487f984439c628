// The express lane without a kernel: entries and grounds as the programs keep them, and packets carried by them. One FakeKernelLane is a
// node's, whose workers each have a FakeLane. It carries by its own arithmetic, not by the code under test.
import type { FlowTable } from "../../src/datapath/flow-table.ts";
import type { ExpressLane, LaneReading } from "../../src/datapath/ports.ts";
import { cidr, contains, formatIpv4, type Ipv4, OUTSIDE } from "../../src/lib/ip.ts";
import { ACK, describe, PSH } from "./ip-packets.ts";
import { writeChecksums } from "./segments.ts";

const POOL = cidr("10.192.0.0/10");

interface Grounds {
  readonly client: Ipv4;
  readonly server: Ipv4;
  readonly vip: Ipv4;
  readonly from: Ipv4;
  readonly to: Ipv4;
}

interface Entry extends LaneReading {
  readonly grounds: Grounds;
  readonly groundSum: number;
  /** The VTEP that the frame must come from. */
  readonly from: Ipv4;
  readonly to: Ipv4;
  readonly vni: number;
  readonly source: Ipv4;
  readonly destination: Ipv4;
  /** Source port << 16 | destination port. */
  readonly ports: number;
  readonly mtu: number;
}

/** Where a packet goes that the lane carried, and what it is then. */
export interface CarriedByLane {
  readonly to: Ipv4;
  readonly vni: number;
  readonly packet: Uint8Array;
  readonly grounds: Grounds;
}

export class FakeKernelLane {
  isOn = true;
  /** Entries that it takes at most. */
  room = Number.POSITIVE_INFINITY;
  /** Writes, reads and removals, as system calls would be. */
  calls = 0;
  readonly entries = new Map<string, Entry>(); // BOUNDED: by `room`; keyed by origin and 5-tuple
  readonly #lost = new Map<Ipv4, number>(); // BOUNDED: by the test; keyed by address
  #allLost = 0;
  readonly #seconds: () => number;

  /** `seconds` is the flows' clock. */
  constructor(seconds: () => number) {
    this.#seconds = seconds;
  }

  lose(address: Ipv4): void {
    this.#lost.set(address, this.#count(address) + 1);
  }

  loseAll(): void {
    this.#allLost++;
  }

  groundSum({ client, server, vip, from, to }: Grounds): number {
    const way = from === 0 && !contains(POOL, client) ? OUTSIDE : from;
    return [client, server, vip, way, to].reduce((sum, address) => sum + this.#count(address), this.#allLost) | 0;
  }

  #count(address: Ipv4): number {
    return address === 0 ? 0 : (this.#lost.get(address) ?? 0);
  }

  /** Carries a packet of a container (`zone` 0, `from` 0), or of a peer's frame; undefined: it is the agent's. */
  carry(zone: number, from: Ipv4, packet: Uint8Array): CarriedByLane | undefined {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const protocol = packet[9]!;
    if (!this.isOn || packet[0] !== 0x45 || (view.getUint16(6) & 0x3fff) !== 0 || packet[8]! <= 1) return undefined;
    if ((protocol !== 6 && protocol !== 17) || view.getUint16(2) !== packet.length || (packet[1]! & 3) === 3)
      return undefined;
    const { flags, sequence, acknowledgment, payload } = describe(packet);
    if (protocol === 6 && (flags & ~(ACK | PSH)) !== 0) return undefined;
    const entry = this.entries.get(keyOf(zone, protocol, view.getInt32(12), view.getInt32(16), view.getInt32(20)));
    if (entry === undefined || entry.from !== from || packet.length > entry.mtu) return undefined;
    if (entry.groundSum !== this.groundSum(entry.grounds)) return undefined;
    entry.packets++;
    entry.bytes += packet.length;
    entry.seenSeconds = this.#seconds();
    entry.nextSequence = (sequence + payload.length) | 0;
    entry.acknowledgment = acknowledgment | 0;
    const carried = packet.slice();
    const written = new DataView(carried.buffer);
    written.setInt32(12, entry.source);
    written.setInt32(16, entry.destination);
    written.setInt32(20, entry.ports);
    writeChecksums(carried, 20, 20 + (protocol === 6 ? 16 : 6));
    return { to: entry.to, vni: entry.vni, packet: carried, grounds: entry.grounds };
  }

  /** The keys of the entries, as "ORIGIN SOURCE:PORT > DESTINATION:PORT". */
  get keys(): string[] {
    return [...this.entries.keys()].sort();
  }
}

export class FakeLane implements ExpressLane {
  refused = 0;
  readonly #kernel: FakeKernelLane;
  readonly #flows: FlowTable;
  readonly #queue: { key: string; entry: Entry; flowEntry: number; version: number }[] = []; // BOUNDED: by a batch of packets

  constructor(kernel: FakeKernelLane, flows: FlowTable) {
    this.#kernel = kernel;
    this.#flows = flows;
  }

  get isOn(): boolean {
    return this.#kernel.isOn;
  }

  groundSum(client: Ipv4, server: Ipv4, vip: Ipv4, from: Ipv4, to: Ipv4): number {
    return this.#kernel.groundSum({ client, server, vip, from, to });
  }

  lose(address: Ipv4): void {
    this.#kernel.lose(address);
  }

  loseAll(): void {
    this.#kernel.loseAll();
  }

  enter(flowEntry: number, version: number, groundSum: number, mtu: number): boolean {
    const flows = this.#flows;
    const original = flowEntry & ~1;
    const other = flowEntry ^ 1;
    const ports = flows.portsOf(other);
    const entry: Entry = {
      packets: flows.carriedPacketsOf(flowEntry),
      bytes: flows.carriedBytesOf(flowEntry),
      seenSeconds: 0,
      nextSequence: 0,
      acknowledgment: 0,
      grounds: {
        client: flows.sourceOf(original),
        server: flows.sourceOf(original + 1),
        vip: flows.vipOf(original),
        from: flows.fromOf(original),
        to: flows.toOf(original),
      },
      groundSum,
      from: flows.fromOf(flowEntry),
      to: flows.toOf(flowEntry),
      vni: flows.vniOf(flowEntry),
      source: flows.destinationOf(other),
      destination: flows.sourceOf(other),
      ports: (ports << 16) | (ports >>> 16),
      mtu,
    };
    this.#queue.push({ key: this.#keyOf(flowEntry), entry, flowEntry, version });
    return true;
  }

  flush(): void {
    if (this.#queue.length === 0) return;
    const { entries, room } = this.#kernel;
    this.#kernel.calls++;
    for (const { key, entry, flowEntry, version } of this.#queue) {
      if (!this.#flows.isRiding(flowEntry, version)) continue;
      if (entries.has(key) || entries.size < room) entries.set(key, entry);
      else {
        this.refused++;
        this.#flows.refuse(flowEntry);
      }
    }
    this.#queue.length = 0;
  }

  read(entry: number, version: number, reading: LaneReading): boolean {
    this.#kernel.calls++;
    const found = this.#flows.isCurrent(entry, version) ? this.#kernel.entries.get(this.#keyOf(entry)) : undefined;
    if (found === undefined) return false;
    reading.packets = found.packets;
    reading.bytes = found.bytes;
    reading.seenSeconds = found.seenSeconds;
    reading.nextSequence = found.nextSequence;
    reading.acknowledgment = found.acknowledgment;
    return true;
  }

  take(entry: number, version: number, reading: LaneReading): boolean {
    const isIn = this.read(entry, version, reading);
    if (isIn) this.#kernel.entries.delete(this.#keyOf(entry));
    return isIn;
  }

  #keyOf(entry: number): string {
    const flows = this.#flows;
    const source = flows.sourceOf(entry);
    return keyOf(
      flows.zoneOf(entry),
      flows.protocolOf(entry),
      source,
      flows.destinationOf(entry),
      flows.portsOf(entry),
    );
  }
}

/** Every container has a link of its own, and a packet's source says whose it is: zone 0 stands for all of them. */
function keyOf(zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): string {
  const name = protocol === 6 ? "tcp" : "udp";
  return `${zone} ${name} ${formatIpv4(source)}:${ports >>> 16} > ${formatIpv4(destination)}:${ports & 0xffff}`;
}
