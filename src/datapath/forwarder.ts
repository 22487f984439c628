// The forwarder: takes batches from the device and the underlay, and carries each packet to its end in one go:
// parse, look up the flow or decide it, rewrite, encapsulate or deliver. Nothing here blocks or waits.
import { get16, set16 } from "../lib/bytes.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { answerArp, arpTarget, isArpRequest } from "../packet/arp.ts";
import { type Sum, updateChecksum } from "../packet/checksum.ts";
import { DROP_NAMES, Drop } from "../packet/drop.ts";
import { ETHERNET_BYTES, EtherType, etherType } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { Packet } from "../packet/packet.ts";
import { hasVni, MANAGEMENT_VNI, VXLAN_BYTES, vni } from "../packet/vxlan.ts";
import { Balancer } from "./balancer.ts";
import { type DeviceBatch, Gso, type UnderlayBatch } from "./batch.ts";
import { DEVICE, Decision } from "./decision.ts";
import { Egress, type Traffic } from "./egress.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import type { FlowTable } from "./flow-table.ts";
import { FlowTracker, FORGED } from "./flow-tracker.ts";
import type { PeerHealth } from "./peer-health.ts";
import type { Device, Underlay } from "./ports.ts";
import type { PeerRow, Tables } from "./tables.ts";

const ECN_MASK = 3;
const CONGESTION = 3;

export interface ForwarderParts {
  memory: PacketMemory;
  sum: Sum;
  device: Device;
  underlay: Underlay;
  tables: Tables;
  flows: FlowTable;
  health: PeerHealth;
  random: () => number;
}

export class Forwarder {
  readonly #u8: Uint8Array;
  readonly #tables: Tables;
  readonly #flows: FlowTable;
  readonly #health: PeerHealth;
  readonly #packet: Packet;
  readonly #decision: Decision;
  readonly #tracker: FlowTracker;
  readonly #egress: Egress;
  /** Indexed by Drop. */
  readonly #drops = new Float64Array(DROP_NAMES.length);
  #seconds = 0;

  constructor({ memory, sum, device, underlay, tables, flows, health, random }: ForwarderParts) {
    this.#u8 = memory.u8;
    this.#tables = tables;
    this.#flows = flows;
    this.#health = health;
    this.#packet = new Packet(memory, sum);
    this.#decision = new Decision(tables, new Balancer(tables, (vtep) => health.isReachable(vtep)));
    this.#tracker = new FlowTracker(flows, tables, health, random);
    this.#egress = new Egress({
      memory,
      sum,
      device,
      underlay,
      refused: (drop, count) => {
        this.#drops[drop]! += count;
      },
    });
  }

  /** Packets dropped, by the name of the reason; those never met are left out. */
  drops(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let i = 1; i < this.#drops.length; i++) if (this.#drops[i]! > 0) counts[DROP_NAMES[i]!] = this.#drops[i]!;
    return counts;
  }

  /** Unreplied flows that made room in a full table. */
  get evictedFlows(): number {
    return this.#tracker.evictedFlows;
  }

  traffic(vtep: Ipv4): Traffic {
    return this.#egress.traffic(vtep);
  }

  /** The peer's row is gone: so are its counters. */
  forgetTraffic(vtep: Ipv4): void {
    this.#egress.forgetTraffic(vtep);
  }

  /** Carries what the device gave. `seconds` is the time on the flow table's clock. Hot path: must not allocate. */
  outbound(batch: DeviceBatch, seconds: number): void {
    this.#seconds = seconds;
    for (let i = 0; i < batch.count; i++) {
      const drop = this.#outboundPacket(batch, i);
      if (drop !== Drop.None) this.#drops[drop]!++;
    }
    this.flush();
  }

  /** Carries what the underlay gave. Hot path: must not allocate. */
  inbound(batch: UnderlayBatch, seconds: number): void {
    this.#seconds = seconds;
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.offset[i]!;
      const length = batch.length[i]!;
      const step = batch.segmentBytes[i]!;
      for (let at = 0; at < length; at += step) {
        const bytes = Math.min(step, length - at);
        const drop = this.#inboundFrame(offset + at, bytes, batch.source[i]!, batch.tos[i]!);
        if (drop !== Drop.None) this.#drops[drop]!++;
      }
    }
    this.flush();
  }

  /** Writes out what is queued: the buffers of the batch may be filled again. */
  flush(): void {
    this.#egress.flush();
  }

  /** Queues a datagram that is whole, for the probes. */
  sendDatagram(offset: number, length: number, peer: PeerRow): void {
    this.#egress.datagram(offset, length, peer);
  }

  #outboundPacket(batch: DeviceBatch, i: number): Drop {
    const packet = this.#packet;
    const malformed = packet.parse(batch.offset[i]!, batch.length[i]!);
    if (malformed !== Drop.None) return malformed;
    if (packet.fragment) return Drop.Fragment;
    packet.partialChecksum = batch.needsChecksum[i] === 1 && packet.checksumOffset() >= 0;
    let entry = this.#find(0, packet);
    if (entry >= 0) entry = this.#tracker.usable(entry, DEVICE, packet, this.#seconds);
    if (entry === FORGED) return Drop.SpoofedSource;
    if (entry < 0) {
      if (packet.icmpError) return Drop.IcmpUnrelated;
      const refused = this.#decision.outbound(packet);
      if (refused !== Drop.None) return refused;
      entry = this.#tracker.establish(packet, 0, DEVICE, this.#decision, this.#seconds);
      if (entry < 0) return this.#tracker.refusal;
    }
    this.#tracker.track(entry, packet, this.#seconds);
    return this.#route(entry, batch.gso[i]! as Gso, batch.gsoBytes[i]!);
  }

  #inboundFrame(at: number, length: number, vtep: Ipv4, outerTos: number): Drop {
    const u8 = this.#u8;
    const peer = this.#tables.peers.get(vtep);
    if (peer === undefined) return Drop.UnknownVtep;
    if (length < ENCAPSULATION_BYTES) return Drop.TooShort;
    if (!hasVni(u8, at)) return Drop.NoVni;
    const network = vni(u8, at);
    const frame = at + VXLAN_BYTES;
    const inner = frame + ETHERNET_BYTES;
    const innerBytes = length - ENCAPSULATION_BYTES;
    const type = etherType(u8, frame);
    if (network === MANAGEMENT_VNI) return this.#health.receive(inner, type, innerBytes, peer);
    if (network !== this.#tables.node.ingressVni && !this.#tables.networks.has(network)) return Drop.UnknownVni;
    if (type === EtherType.Arp) return this.#answerArp(at, length, network, peer);
    if (type === EtherType.Vlan) return Drop.VlanTag;
    if (type !== EtherType.Ipv4) return Drop.UnknownEtherType;
    const packet = this.#packet;
    const malformed = packet.parse(inner, innerBytes);
    if (malformed !== Drop.None) return malformed;
    if (!packet.headerChecksumIsRight()) return Drop.BadHeaderChecksum;
    if (packet.fragment) return Drop.Fragment;
    // A peer that runs this agent sends an outer checksum, which the kernel has verified; another may not.
    if (!peer.agent && !packet.transportChecksumIsRight()) return Drop.BadTransportChecksum;
    const congested = this.#combineEcn(outerTos);
    if (congested !== Drop.None) return congested;
    let entry = this.#find(network, packet);
    if (entry >= 0) entry = this.#tracker.usable(entry, vtep, packet, this.#seconds);
    if (entry === FORGED) return Drop.SpoofedSource;
    if (entry < 0) {
      if (packet.icmpError) return Drop.IcmpUnrelated;
      const refused = this.#decision.inbound(packet, vtep, network);
      if (refused !== Drop.None) return refused;
      entry = this.#tracker.establish(packet, network, vtep, this.#decision, this.#seconds);
      if (entry < 0) return this.#tracker.refusal;
    }
    const traffic = this.traffic(vtep);
    traffic.rxPackets++;
    traffic.rxBytes += packet.length;
    this.#tracker.track(entry, packet, this.#seconds);
    return this.#route(entry, Gso.None, 0);
  }

  /** A miss is one only under the lock: another worker may be moving entries. */
  #find(zone: number, packet: Packet): number {
    const { protocol, source, destination, ports } = packet;
    const entry = this.#flows.find(zone, protocol, source, destination, ports);
    if (entry >= 0) return entry;
    this.#flows.lock();
    const settled = this.#flows.find(zone, protocol, source, destination, ports);
    this.#flows.unlock();
    return settled;
  }

  /** Rewrites as the flow says and sends it on its way. */
  #route(entry: number, gso: Gso, gsoBytes: number): Drop {
    const packet = this.#packet;
    if (!this.#tracker.translate(entry, packet)) return Drop.FlowReset;
    const { to, vni } = this.#tracker;
    if (to === DEVICE) {
      this.#egress.toDevice(packet, gso, gsoBytes);
      return Drop.None;
    }
    const peer = this.#tables.peers.get(to);
    if (peer === undefined) return Drop.PeerGone;
    return this.#egress.toPeer(packet, peer, vni, this.#flows.hashOf(entry), gso, gsoBytes);
  }

  /** Answers for our endpoints and gateways, RFC 7348 section 4.1 leaves this to us; the question is rewritten. */
  #answerArp(at: number, length: number, network: number, peer: PeerRow): Drop {
    const u8 = this.#u8;
    const arp = at + ENCAPSULATION_BYTES;
    if (!isArpRequest(u8, arp, length - ENCAPSULATION_BYTES)) return Drop.ArpNotOurs;
    const target = arpTarget(u8, arp);
    const endpoint = this.#tables.endpoints.get(target);
    const isOurs =
      (endpoint !== undefined && endpoint.vtep === DEVICE && endpoint.vni === network) ||
      this.#tables.networks.get(network)?.gateway === target;
    if (!isOurs) return Drop.ArpNotOurs;
    answerArp(u8, at + VXLAN_BYTES);
    this.sendDatagram(at, length, peer);
    return Drop.None;
  }

  /** The inner packet takes over congestion that the outer one met: RFC 6040 section 4.2, normal mode. */
  #combineEcn(outerTos: number): Drop {
    const outer = outerTos & ECN_MASK;
    const { u8, at } = this.#packet;
    const tos = u8[at + ip.TOS_AT]!;
    const inner = tos & ECN_MASK;
    // Figure 4: an outer CE marks, an outer ECT(1) turns an inner ECT(0) into ECT(1); all else stays.
    if (outer === CONGESTION && inner === 0) return Drop.CongestionMarked;
    const combined = inner !== 0 && (outer === CONGESTION || (outer === 1 && inner === 2)) ? outer : inner;
    if (combined === inner) return Drop.None;
    u8[at + ip.TOS_AT] = tos + combined - inner;
    const field = at + ip.CHECKSUM_AT;
    set16(
      u8,
      field,
      updateChecksum(get16(u8, field), combined - inner > 0 ? combined - inner : combined - inner + 0xffff),
    );
    return Drop.None;
  }
}
