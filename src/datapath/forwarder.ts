// The forwarder: takes batches from the device and the underlay, and carries each packet to its end in one go:
// parse, look up the flow or decide it, rewrite, encapsulate or deliver. Nothing here blocks or waits.
import type { Ipv4 } from "../lib/ip.ts";
import type { Sum } from "../packet/checksum.ts";
import { DROP_NAMES, Drop } from "../packet/drop.ts";
import { ETHERNET_BYTES, EtherType, etherType } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { clampMss } from "../packet/mss.ts";
import { Packet } from "../packet/packet.ts";
import { Flag } from "../packet/tcp.ts";
import { hasVni, MANAGEMENT_VNI, VXLAN_BYTES, vni } from "../packet/vxlan.ts";
import { AnswerCache, DNS_PORT } from "./answer-cache.ts";
import { Balancer } from "./balancer.ts";
import { type DeviceBatch, Gso, type UnderlayBatch } from "./batch.ts";
import { Decision } from "./decision.ts";
import { combineEcn } from "./ecn.ts";
import { Egress, type Traffic } from "./egress.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import { ExternalFrames } from "./external-frames.ts";
import { FlowCheck } from "./flow-check.ts";
import { FlowReaper } from "./flow-reaper.ts";
import type { FlowTable } from "./flow-table.ts";
import { ENDED, FlowTracker, FORGED, seedOf } from "./flow-tracker.ts";
import { FragmentTable } from "./fragments.ts";
import { GroRun } from "./gro-run.ts";
import { IcmpRelate } from "./icmp-relate.ts";
import { Fit } from "./path-fit.ts";
import type { PeerHealth } from "./peer-health.ts";
import type { Device, Underlay } from "./ports.ts";
import { Refusals } from "./refusals.ts";
import { Resets } from "./resets.ts";
import type { PeerRow } from "./rows.ts";
import { DEVICE } from "./rows.ts";
import type { Load } from "./schedulers/scheduler.ts";
import { isSuperPacket } from "./super-packet.ts";
import type { Tables } from "./tables.ts";

/** Counts of packets that the agent sent of its own, and of those that the rate limit held back. */
export interface Said {
  icmpErrorsSent: number;
  resetsSent: number;
  /** Refusals that a limit held back, those of packets that are too big apart. */
  refusalsLimited: number;
  tooBigLimited: number;
}

/** What became of packets and datagrams that came in; those that are missing were dropped. */
export interface PacketCounts {
  taken: number;
  /** Sent on. */
  forwarded: number;
  /** Packets that the agent itself took: ARP, questions for names, probes. */
  answered: number;
}

export interface ForwarderParts {
  memory: PacketMemory;
  sum: Sum;
  device: Device;
  underlay: Underlay;
  tables: Tables;
  flows: FlowTable;
  health: PeerHealth;
  /** Of the tasks, for those schedulers that ask. */
  load: Load;
  /** How many flows one endpoint may begin each second, in all workers together. */
  newFlowsPerSecond: number;
  /** How many workers share what one sender may take. */
  workers: number;
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
  readonly #fragments: FragmentTable;
  readonly #relate: IcmpRelate;
  readonly #fit: Fit;
  readonly #external: ExternalFrames;
  readonly #run: GroRun;
  readonly #resets: Resets;
  readonly #refusals: Refusals;
  /** Of the node's DNS server. */
  readonly answers: AnswerCache;
  /** Ends the flows that cannot go on. */
  readonly reaper: FlowReaper;
  /** Indexed by Drop. */
  readonly #drops = new Float64Array(DROP_NAMES.length);
  #seconds = 0;
  #taken = 0;
  /** Packets that the agent answered, except for names. */
  #answered = 0;

  constructor(parts: ForwarderParts) {
    const { memory, sum, device, underlay, tables, flows, health, load, workers, random } = parts;
    const newFlowsPerSecond = Math.ceil(parts.newFlowsPerSecond / workers);
    this.#u8 = memory.u8;
    this.#tables = tables;
    this.#flows = flows;
    this.#health = health;
    this.#packet = new Packet(memory, sum);
    this.#decision = new Decision(tables, new Balancer(tables, (vtep) => health.isReachable(vtep), load));
    this.#egress = new Egress({
      memory,
      sum,
      tables,
      device,
      underlay,
      refused: (drop, count) => {
        this.#drops[drop]! += count;
      },
    });
    const egress = this.#egress;
    const check = new FlowCheck(flows, tables, health);
    this.#resets = new Resets({ memory, sum, tables, flows, egress });
    const seed = seedOf(random);
    this.#refusals = new Refusals({ memory, sum, tables, egress, resets: this.#resets, seed, workers });
    this.#fragments = new FragmentTable(seedOf(random));
    this.reaper = new FlowReaper(flows, check, this.#resets);
    const { reaper } = this;
    this.#tracker = new FlowTracker({ flows, tables, health, check, reaper, newFlowsPerSecond, random });
    this.#relate = new IcmpRelate({ sum, tables, flows, decision: this.#decision });
    this.#fit = new Fit(flows, tables, health);
    this.#external = new ExternalFrames(memory.u8, tables, health);
    this.#run = new GroRun(memory);
    this.answers = new AnswerCache(memory);
  }

  /** Packets dropped, by the name of the reason; those never met are left out. */
  drops(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (let i = 1; i < this.#drops.length; i++) if (this.#drops[i]! > 0) counts[DROP_NAMES[i]!] = this.#drops[i]!;
    return counts;
  }

  /** What the agent has said itself. */
  get said(): Said {
    const { sent, limited, tooBigLimited } = this.#refusals;
    return { icmpErrorsSent: sent, resetsSent: this.#resets.sent, refusalsLimited: limited, tooBigLimited };
  }

  get packets(): PacketCounts {
    const own = this.#refusals.sent + this.#resets.sent + this.answers.given;
    const answered = this.#answered + this.answers.given;
    return { taken: this.#taken, forwarded: this.#egress.packets - own, answered };
  }

  /** Flows that made room for others. */
  get evictedFlows(): number {
    return this.#tracker.evictedFlows;
  }

  /** Datagrams whose fragments had not all come when others took their place. */
  get displacedFragments(): number {
    return this.#fragments.displaced;
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
    this.#taken += batch.count;
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
      const cut = batch.segmentBytes[i]!;
      const step = cut < length && this.#external.isOneFrame(offset, length, batch.source[i]!) ? length : cut;
      if (length === 0) {
        this.#taken++;
        this.#drops[Drop.TooShort]!++;
      }
      for (let at = 0; at < length; at += step) {
        const bytes = Math.min(step, length - at);
        const isTrain = at + bytes < length;
        this.#taken++;
        if (isTrain) this.#run.remember(offset + at, bytes);
        const drop = this.#inboundFrame(offset + at, bytes, batch.source[i]!, batch.tos[i]!, cut);
        if (drop !== Drop.None) this.#drops[drop]!++;
        else if (isTrain) at += step * this.#follow(offset + at + step, offset + length, step, batch.source[i]!);
      }
    }
    this.flush();
  }

  /** Writes out what is queued: the buffers of the batch may be filled again. */
  flush(): void {
    this.#egress.flush();
  }

  /** Queues a datagram that is whole, for the probes; as Egress.datagram(). */
  sendDatagram(offset: number, length: number, zeros: number, padding: number, peer: PeerRow): void {
    this.#egress.datagram(offset, length, zeros, padding, peer);
  }

  /** Carries the datagrams that continue the one carried last; returns how many. */
  #follow(at: number, end: number, step: number, vtep: Ipv4): number {
    const packet = this.#packet;
    if (!this.#egress.isOpenAt(packet.at) || this.#tables.peers.get(vtep)?.agent !== true) return 0;
    const run = this.#run;
    run.follow(packet, this.#egress, at, end, step);
    if (run.packets === 0) return 0;
    this.#taken += run.packets;
    const traffic = this.traffic(vtep);
    traffic.rxPackets += run.packets;
    traffic.rxBytes += run.bytes;
    this.#tracker.trackRun(run.packets, run.bytes, run.nextSequence, packet.protocol, this.#seconds);
    return run.packets;
  }

  #outboundPacket(batch: DeviceBatch, i: number): Drop {
    const packet = this.#packet;
    const malformed = packet.parse(batch.offset[i]!, batch.length[i]!);
    if (malformed !== Drop.None) return malformed;
    packet.partialChecksum = batch.needsChecksum[i] === 1 && packet.checksumOffset() >= 0;
    const gso = batch.gso[i]! as Gso;
    const gsoBytes = batch.gsoBytes[i]!;
    if (gso !== Gso.None && !isSuperPacket(packet, gso, gsoBytes)) return Drop.BadSuperPacket;
    if (this.#isAnswered(gso)) return Drop.None;
    return this.#carry(0, DEVICE, gso, gsoBytes);
  }

  /** A question that a container of this node asks its gateway again. */
  #isAnswered(gso: Gso): boolean {
    const packet = this.#packet;
    if (packet.protocol !== ip.Protocol.Udp || (packet.ports & 0xffff) !== DNS_PORT) return false;
    const { endpoints, networks } = this.#tables;
    const client = endpoints.get(packet.source);
    if (gso !== Gso.None || packet.fragment || client?.vtep !== DEVICE) return false;
    if (networks.get(client.vni)?.gateway !== packet.destination || !this.answers.answer(packet)) return false;
    this.#egress.toDevice(packet, Gso.None, 0);
    return true;
  }

  /** `cut`: the bytes of the datagram, or of each segment of a super-frame. */
  #inboundFrame(at: number, length: number, vtep: Ipv4, outerTos: number, cut: number): Drop {
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
    if (network === MANAGEMENT_VNI) return this.#takeProbe(inner, type, innerBytes, peer);
    // The ingress VNI carries whatever source a client outside has: only nodes are believed that.
    const isKnown = network === this.#tables.node.ingressVni ? peer.agent : this.#tables.networks.has(network);
    if (!isKnown) return Drop.UnknownVni;
    if (type === EtherType.Arp) return this.#answerArp(at, length, network, peer);
    if (type === EtherType.Vlan) return Drop.VlanTag;
    if (type !== EtherType.Ipv4) return Drop.UnknownEtherType;
    const packet = this.#packet;
    const malformed = packet.parse(inner, innerBytes);
    if (malformed !== Drop.None) return malformed;
    if (!packet.headerChecksumIsRight()) return Drop.BadHeaderChecksum;
    // A peer that runs this agent sends an outer checksum, which the kernel has verified; another may not.
    const external = this.#external;
    if (!peer.agent) {
      const bad = external.take(packet, cut < length ? cut : 0);
      if (bad !== Drop.None) return bad;
    }
    const congested = combineEcn(packet, outerTos);
    if (congested !== Drop.None) return congested;
    const traffic = this.traffic(vtep);
    traffic.rxPackets++;
    traffic.rxBytes += packet.length;
    return peer.agent
      ? this.#carry(network, vtep, Gso.None, 0)
      : this.#carry(network, vtep, external.gso, external.gsoBytes);
  }

  #takeProbe(at: number, type: number, bytes: number, peer: PeerRow): Drop {
    const drop = this.#health.receive(at, type, bytes, peer);
    if (drop === Drop.None) this.#answered++;
    return drop;
  }

  /** A packet that came from `from`, in that VNI or, from the device, in zone 0. */
  #carry(zone: number, from: Ipv4, gso: Gso, gsoBytes: number): Drop {
    const packet = this.#packet;
    if (packet.fragment) {
      const misplaced = this.#fragments.find(packet, zone, this.#seconds);
      if (misplaced !== Drop.None) return misplaced;
    }
    if (packet.icmpError) return this.#carryError(zone, from);
    let entry = this.#find(zone, packet);
    if (entry >= 0) entry = this.#tracker.usable(entry, from, packet, this.#seconds);
    if (entry === FORGED) return Drop.SpoofedSource;
    if (entry === ENDED) return Drop.FlowReset;
    if (entry < 0) {
      const decision = this.#decision;
      const refused = from === DEVICE ? decision.outbound(packet, this.#seconds) : decision.inbound(packet, from, zone);
      if (refused !== Drop.None) return this.#refuse(refused, zone, from, 0);
      entry = this.#tracker.establish(packet, zone, from, decision, this.#seconds);
      if (entry < 0) return this.#tracker.refusal;
    }
    // Most packets fit wherever they go, and need no further look.
    const bytes = gso === Gso.None ? packet.length : packet.headerBytes + gsoBytes;
    let mtu = 0;
    if (bytes > this.#health.smallestMtu || packet.u8[packet.at + ip.TTL_AT]! <= 1) {
      const obstacle = this.#fit.look(packet, entry, bytes);
      if (obstacle !== Drop.None) return this.#refuse(obstacle, zone, from, this.#fit.mtu);
      if (bytes > this.#fit.mtu) mtu = this.#fit.mtu;
    }
    if (packet.fragment && !packet.laterFragment) this.#fragments.remember(packet, zone, this.#seconds);
    this.#tracker.track(entry, packet, this.#seconds);
    return this.#route(entry, gso, gsoBytes, mtu);
  }

  /** Drops the packet, and tells its sender where it should be told. */
  #refuse(drop: Drop, zone: number, from: Ipv4, mtu: number): Drop {
    this.#refusals.tell(this.#packet, drop, from, zone, this.#seconds, mtu);
    return drop;
  }

  #carryError(zone: number, from: Ipv4): Drop {
    const packet = this.#packet;
    const relate = this.#relate;
    const unrelated = relate.relate(packet, zone, from, this.#seconds);
    if (unrelated !== Drop.None) return unrelated;
    if (relate.to === DEVICE) {
      this.#egress.toDevice(packet, Gso.None, 0);
      return Drop.None;
    }
    const peer = this.#tables.peers.get(relate.to);
    if (peer === undefined) return Drop.PeerGone;
    this.#egress.toPeer(packet, peer, relate.vni, relate.hash, Gso.None, 0);
    return Drop.None;
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

  /** Rewrites as the flow says and sends it on its way: in pieces, when `mtu` is not 0. */
  #route(entry: number, gso: Gso, gsoBytes: number, mtu: number): Drop {
    const packet = this.#packet;
    if ((packet.tcpFlags & Flag.Syn) !== 0) clampMss(packet, this.#fit.mtuOfFlow(entry));
    if (!this.#tracker.translate(entry, packet)) return Drop.FlowReset;
    const { to, vni } = this.#tracker;
    if (to === DEVICE) {
      this.#egress.toDevice(packet, gso, gsoBytes);
      return Drop.None;
    }
    const peer = this.#tables.peers.get(to);
    if (peer === undefined) return Drop.PeerGone;
    const hash = this.#flows.hashOf(entry);
    if (mtu === 0) this.#egress.toPeer(packet, peer, vni, hash, gso, gsoBytes);
    else this.#egress.piecesToPeer(packet, peer, vni, hash, gso, gsoBytes, mtu);
    return Drop.None;
  }

  #answerArp(at: number, length: number, network: number, peer: PeerRow): Drop {
    const drop = this.#external.answerArp(at, length, network, peer);
    if (drop !== Drop.None) return drop;
    this.#answered++;
    this.#egress.datagram(at, length, 0, 0, peer);
    return Drop.None;
  }
}
