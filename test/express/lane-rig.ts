// The lane's two programs with maps of their own, run on frames of the test's by BPF_PROG_TEST_RUN: no network is there. The
// loopback device stands for the link that a frame came in by; its MAC is all zeros.
import { ControlPage } from "../../src/express/control.ts";
import { type LaneEntry, writeKey, writeValue } from "../../src/express/entry.ts";
import { fromContainer } from "../../src/express/from-container.ts";
import { fromNode } from "../../src/express/from-node.ts";
import { fromUnderlay } from "../../src/express/from-underlay.ts";
import { sumOfGrounds } from "../../src/express/grounds.ts";
import {
  CONTROL_SHAPE,
  ENTRANCES_SHAPE,
  flowsShape,
  GROUNDS_SHAPE,
  type LaneMaps,
  LED_SHAPE,
  type Origin,
  type PassedOn,
  Value,
} from "../../src/express/layout.ts";
import { cidr, ipv4, OUTSIDE } from "../../src/lib/ip.ts";
import { mapArray } from "../../src/linux/bpf-array.ts";
import { BpfMap, createMap } from "../../src/linux/bpf-map.ts";
import { loadProgram, type ProgramRun, ProgramType, runProgram, type SkbContext } from "../../src/linux/bpf-program.ts";
import * as libc from "../../src/linux/libc.ts";
import { PacketMemory } from "../../src/packet/memory.ts";
import { type FrameFields, frame } from "../fakes/frames.ts";
import { type Fields, ipPacket } from "../fakes/ip-packets.ts";

export const LOOPBACK = 1;
export const VXLAN_PORT = 4789;
export const POOL = "10.192.0.0/10";
export const VNI = 4097;
export const SELF = "192.0.2.11";
export const PEER = "192.0.2.12";
/** Endpoints of this node, and of the peer; a VIP for either. */
export const LOCAL = "10.192.32.10";
export const LOCAL_TOO = "10.192.32.11";
export const REMOTE = "10.192.32.20";
export const VIP = "10.192.32.2";
/** What containers have as next hop, and its MAC, which packets to containers come from. */
export const NEXT_HOP = "169.254.1.1";
export const HOST_MAC = "02:42:a9:fe:01:01";
export const MTU = 1450;
export const SOURCE_PORT = 50_001;
export const CLIENT_PORT = 40_000;
export const SERVER_PORT = 8080;

const ENTRIES = 64;
const BATCH = 256;
const MEMORY_BYTES = 1 << 20;
/** Nanoseconds: later than any clock of a machine that is up. */
const FOREVER = 2n ** 62n;

export const ports = (source: number, destination: number): number => (source << 16) | destination;
/** The MACs of LOCAL's packets to REMOTE in the inner frame. */
export const MACS = { destinationMac: "02:42:0a:c0:20:14", sourceMac: "02:42:0a:c0:20:0a" };

/** An entry for packets of a TCP flow from LOCAL to REMOTE; nothing is rewritten. */
export function toPeer(fields: Partial<LaneEntry> = {}): LaneEntry {
  const tuple = { source: ipv4(LOCAL), destination: ipv4(REMOTE), ports: ports(CLIENT_PORT, SERVER_PORT) };
  return completed({
    ...{ from: 0, to: ipv4(PEER), origin: LOOPBACK, protocol: 6, ...tuple },
    ...{ vtep: ipv4(SELF), vni: VNI, sourcePort: SOURCE_PORT, port: VXLAN_PORT },
    ...fields,
  });
}

/** An entry for the packets that come back: from REMOTE to LOCAL. */
export function fromPeer(fields: Partial<LaneEntry> = {}): LaneEntry {
  const tuple = { source: ipv4(REMOTE), destination: ipv4(LOCAL), ports: ports(SERVER_PORT, CLIENT_PORT) };
  return completed({
    ...{ from: ipv4(PEER), to: 0, origin: VNI, protocol: 6, ...tuple },
    vtep: ipv4(SELF),
    ...fields,
  });
}

/** An entry for packets from LOCAL to LOCAL_TOO. */
export function toContainer(fields: Partial<LaneEntry> = {}): LaneEntry {
  const tuple = { source: ipv4(LOCAL), destination: ipv4(LOCAL_TOO), ports: ports(CLIENT_PORT, SERVER_PORT) };
  return completed({
    ...{ from: 0, to: 0, origin: LOOPBACK, protocol: 6, ...tuple },
    ...fields,
  });
}

function completed(fields: Partial<LaneEntry>): LaneEntry {
  const { source = 0, destination = 0, ports = 0 } = fields;
  return {
    ...{ from: 0, to: 0, fromClient: false, toClient: false, origin: 0, protocol: 6, source, destination, ports },
    ...{ newSource: source, newDestination: destination, newPorts: ports, vip: 0, link: LOOPBACK, mtu: MTU },
    nextHop: ipv4(NEXT_HOP),
    ...{ vtep: 0, vni: 0, sourcePort: 0, port: 0, hasOuterChecksum: false, heedsTunnelMark: false },
    ...{ sequence: 0, acknowledgment: 0, packets: 0, bytes: 0, groundSum: 0 },
    ...fields,
  };
}

/** A plain Ethernet frame with this packet, for the loopback device. */
export function ethernet(
  packet: Uint8Array,
  { destinationMac = "00:00:00:00:00:00", sourceMac = "02:42:0a:c0:20:0a", etherType = 0x0800 } = {},
): Uint8Array {
  const bytes = new Uint8Array(14 + packet.length);
  bytes.set(Buffer.from(destinationMac.replaceAll(":", ""), "hex"));
  bytes.set(Buffer.from(sourceMac.replaceAll(":", ""), "hex"), 6);
  bytes.set([etherType >> 8, etherType & 255], 12);
  bytes.set(packet, 14);
  return bytes;
}

/** A peer's VXLAN frame with this packet, as it comes from the underlay. */
export function vxlan(packet: Uint8Array, outer: Partial<Fields> = {}, inner: Partial<FrameFields> = {}): Uint8Array {
  const payload = frame(packet, { vni: VNI, ...inner });
  const fields = { source: PEER, destination: SELF, sourcePort: SOURCE_PORT, destinationPort: VXLAN_PORT };
  return ethernet(ipPacket({ ...fields, protocol: "udp", noChecksum: true, id: 0, payload, ...outer }));
}

/** The frame that leaves for the peer with this inner packet: LaneEntry of toPeer(), its checksums from scratch. */
export function expectedFrame(
  packet: Uint8Array,
  outer: Partial<Fields> = {},
  ether: Partial<Parameters<typeof ethernet>[1]> = {},
  macs: Partial<FrameFields> = MACS,
): Uint8Array {
  return ethernet(
    ipPacket({
      ...{ source: SELF, destination: PEER, sourcePort: SOURCE_PORT, destinationPort: VXLAN_PORT, protocol: "udp" },
      ...{ id: 0, noChecksum: true, payload: frame(packet, { vni: VNI, ...macs }), ...outer },
    }),
    ether,
  );
}

/** The sum of the counters of what the entry's flow stands on. */
export function groundSumOf(grounds: Int32Array, entry: LaneEntry): number {
  const { source, newDestination, vip, from, to, fromClient, toClient } = entry;
  return sumOfGrounds(grounds, source, newDestination, vip, fromClient ? OUTSIDE : from, toClient ? OUTSIDE : to);
}

/** What an entry has counted. */
export interface Counted {
  seen: bigint;
  packets: number;
  bytes: number;
  sequence: number;
  acknowledgment: number;
}

export class LaneRig {
  readonly grounds: Int32Array;
  readonly control: ControlPage;
  readonly maps: LaneMaps;
  readonly #flows: BpfMap;
  readonly #view: DataView;
  readonly #programs: readonly [number, number, number];
  readonly #mapped: { close(): void }[];

  constructor(entries = ENTRIES) {
    const memory = new PacketMemory(MEMORY_BYTES);
    this.#view = memory.view;
    const shape = flowsShape(entries);
    this.maps = {
      flows: createMap(shape),
      grounds: createMap(GROUNDS_SHAPE),
      control: createMap(CONTROL_SHAPE),
      entrances: createMap(ENTRANCES_SHAPE),
      led: createMap(LED_SHAPE),
    };
    this.#flows = new BpfMap(memory, this.maps.flows, shape, BATCH);
    const grounds = mapArray(this.maps.grounds, GROUNDS_SHAPE);
    const control = mapArray(this.maps.control, CONTROL_SHAPE);
    this.#mapped = [grounds, control];
    this.grounds = new Int32Array(grounds.buffer);
    this.control = new ControlPage(control.buffer);
    this.control.claim();
    this.control.turn(true);
    this.control.lease(FOREVER);
    const load = (name: string, code: Uint8Array): number => loadProgram({ type: ProgramType.SchedCls, name, code });
    this.#programs = [
      load("express_cont", fromContainer(this.maps)),
      load("express_under", fromUnderlay(this.maps, VXLAN_PORT)),
      load("express_node", fromNode(this.maps, cidr(POOL))),
    ];
  }

  /** The descriptor of a program. */
  program(origin: Origin): number {
    return this.#programs[origin];
  }

  enter(entry: LaneEntry): void {
    writeKey(this.#view, this.#flows.key, entry);
    writeValue(this.#view, this.#flows.value, { ...entry, groundSum: groundSumOf(this.grounds, entry) });
    if (!this.#flows.update()) throw new Error("the map is full");
  }

  /** How many entries there are. */
  get size(): number {
    let size = 0;
    this.#flows.rewind();
    for (let count = this.#flows.lookupBatch(); count > 0; count = this.#flows.lookupBatch()) size += count;
    return size;
  }

  leave(entry: LaneEntry): void {
    writeKey(this.#view, this.#flows.key, entry);
    this.#flows.delete();
  }

  counted(entry: LaneEntry): Counted {
    writeKey(this.#view, this.#flows.key, entry);
    if (!this.#flows.lookup()) throw new Error("there is no such entry");
    const at = this.#flows.value;
    return {
      seen: this.#view.getBigUint64(at + Value.Seen, true),
      packets: Number(this.#view.getBigUint64(at + Value.Packets, true)),
      bytes: Number(this.#view.getBigUint64(at + Value.Bytes, true)),
      sequence: this.#view.getUint32(at + Value.Sequence, true),
      acknowledgment: this.#view.getUint32(at + Value.Acknowledgment, true),
    };
  }

  run(origin: Origin, frame: Uint8Array, context: SkbContext = {}): ProgramRun & { reasons: PassedOn[] } {
    const before = this.control.allPassedOn(origin);
    const run = runProgram(this.#programs[origin], frame, context);
    const after = [...this.control.allPassedOn(origin)];
    const reasons = after.filter(([reason, count]) => count !== (before.get(reason) ?? 0)).map(([reason]) => reason);
    return { ...run, reasons };
  }

  close(): void {
    for (const mapped of this.#mapped) mapped.close();
    for (const fd of [...this.#programs, ...Object.values(this.maps)]) libc.close(fd);
  }
}
