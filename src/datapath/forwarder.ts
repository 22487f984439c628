// The forwarder: takes batches from the device and the underlay, and carries each packet to its end in one go: parse, look
// up the flow or decide it, rewrite, encapsulate or deliver. Nothing here blocks or waits.
import type { Ipv4 } from "../lib/ip.ts";
import { DNS_PORT } from "../lib/standard-ports.ts";
import { Drop } from "../packet/drop.ts";
import { combineEcn } from "../packet/ecn.ts";
import { ETHERNET_BYTES, EtherType, etherType } from "../packet/ethernet.ts";
import * as ip from "../packet/ipv4.ts";
import type { PacketMemory } from "../packet/memory.ts";
import type { Packet } from "../packet/packet.ts";
import * as tcp from "../packet/tcp.ts";
import { Gso } from "../packet/virtio-net.ts";
import { hasVni, MANAGEMENT_VNI, Note, noteOf, VXLAN_BYTES, vni } from "../packet/vxlan.ts";
import type { AnswerCache } from "./answer-cache.ts";
import type { DeviceBatch, UnderlayBatch } from "./batch.ts";
import type { Decision } from "./decision.ts";
import type { Egress } from "./egress.ts";
import { ENCAPSULATION_BYTES } from "./encapsulate.ts";
import type { EntranceNames } from "./entrance-names.ts";
import type { ExternalArp } from "./external-arp.ts";
import type { FlowTable } from "./flow-table.ts";
import type { FlowTracker } from "./flow-tracker.ts";
import type { FragmentTable } from "./fragments.ts";
import type { GroRun } from "./gro-run.ts";
import type { IcmpErrors } from "./icmp-errors.ts";
import type { IcmpRelate } from "./icmp-relate.ts";
import type { Opener } from "./opener.ts";
import type { PathFit } from "./path-fit.ts";
import type { PeerHealth } from "./peer-health.ts";
import { DEVICE, type PeerRow } from "./rows.ts";
import { isSealed, LEAD_BYTES, SEALED, SEALED_BYTES } from "./sealed-way.ts";
import { isSuperPacket } from "./segmenter.ts";
import type { Tables } from "./tables.ts";
import type { UnfinishedFrames } from "./unfinished-frames.ts";

interface ForwarderOptions {
  memory: PacketMemory;
  tables: Tables;
  flows: FlowTable;
  health: PeerHealth;
  /** The packet in hand: it is parsed anew for each packet. */
  packet: Packet;
  decision: Decision;
  tracker: FlowTracker;
  egress: Egress;
  /** Counters, indexed by Drop. */
  drops: Float64Array;
  fragments: FragmentTable;
  relate: IcmpRelate;
  fit: PathFit;
  names: EntranceNames;
  arp: ExternalArp;
  unfinished: UnfinishedFrames;
  run: GroRun;
  errors: IcmpErrors;
  /** Answers of the node's DNS server. */
  answers: AnswerCache;
  opener: Opener;
}

export class Forwarder {
  /** Packets dropped, indexed by Drop. */
  readonly drops: Float64Array;
  /** Packets and datagrams that came in. */
  taken = 0;
  /** ARP requests, probes and notes of other agents, which are the agent's own. */
  answered = 0;
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
  readonly #fit: PathFit;
  readonly #names: EntranceNames;
  readonly #arp: ExternalArp;
  readonly #unfinished: UnfinishedFrames;
  readonly #run: GroRun;
  readonly #errors: IcmpErrors;
  readonly #answers: AnswerCache;
  readonly #opener: Opener;
  #seconds = 0;

  constructor(options: ForwarderOptions) {
    this.drops = options.drops;
    this.#u8 = options.memory.u8;
    this.#tables = options.tables;
    this.#flows = options.flows;
    this.#health = options.health;
    this.#packet = options.packet;
    this.#decision = options.decision;
    this.#tracker = options.tracker;
    this.#egress = options.egress;
    this.#fragments = options.fragments;
    this.#relate = options.relate;
    this.#fit = options.fit;
    this.#names = options.names;
    this.#arp = options.arp;
    this.#unfinished = options.unfinished;
    this.#run = options.run;
    this.#errors = options.errors;
    this.#answers = options.answers;
    this.#opener = options.opener;
  }

  /** Carries what the device gave. `seconds` is the time on the flow table's clock. Hot path: must not allocate. */
  outbound(batch: DeviceBatch, seconds: number): void {
    this.#seconds = seconds;
    this.taken += batch.count;
    for (let i = 0; i < batch.count; i++) {
      const drop = this.#outboundPacket(batch, i);
      if (drop !== Drop.None) this.drops[drop]!++;
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
      const step = cut < length && this.#unfinished.isOneFrame(offset, length) ? length : cut;
      if (length === 0) {
        this.taken++;
        this.drops[Drop.TooShort]!++;
      }
      for (let at = 0; at < length; at += step) {
        const bytes = Math.min(step, length - at);
        const isTrain = at + bytes < length;
        this.taken++;
        if (isTrain) this.#run.remember(offset + at, bytes);
        const drop = this.#inboundFrame(offset + at, bytes, batch.source[i]!, batch.tos[i]!, cut, 0);
        if (drop !== Drop.None) this.drops[drop]!++;
        else if (isTrain) at += step * this.#follow(offset + at + step, offset + length, step, batch.source[i]!);
      }
    }
    this.flush();
  }

  /** Carries what came sealed: opens each datagram, and goes on with what was in it. Hot path: must not allocate. */
  inboundSealed(batch: UnderlayBatch, seconds: number): void {
    this.#seconds = seconds;
    for (let i = 0; i < batch.count; i++) {
      const length = batch.length[i]!;
      if (length > 0) this.#inboundTrain(batch.offset[i]!, length, batch.segmentBytes[i]!, batch.tos[i]!);
      else {
        this.taken++;
        this.drops[Drop.TooShort]!++;
      }
    }
    this.flush();
  }

  #inboundTrain(offset: number, length: number, step: number, tos: number): void {
    const { lengths, vteps } = this.#opener;
    const count = this.#opener.open(offset, length, step);
    for (let i = 0; i < count; i++) {
      const bytes = lengths[i]!;
      this.taken++;
      if (bytes < 0) {
        this.drops[-bytes]!++;
        continue;
      }
      const at = offset + i * step + LEAD_BYTES;
      const vtep = vteps[i]!;
      let end = i + 1;
      while (end < count && vteps[end] === vtep) end++;
      const isTrain = end > i + 1;
      if (isTrain) this.#run.remember(at, bytes);
      const drop = this.#inboundFrame(at, bytes, vtep, tos, bytes, SEALED);
      if (drop !== Drop.None) this.drops[drop]!++;
      else if (isTrain) i += this.#follow(at + step, offset + end * step, step, vtep, lengths, i + 1);
    }
  }

  /** Writes out what is queued. Then the buffers of the batch may be filled again. */
  flush(): void {
    this.#egress.flush();
  }

  /**
   * Carries the datagrams from `at` on that continue the one before them, and returns how many they are: none, if that one was no packet
   * of a container, but a probe or a note, and what was queued last is another. The kernel joins datagrams that have an
   * outer checksum, which it has found right or which never was on a wire: that says enough of those of an agent which verifies what
   * its containers send. What others send is verified here. `lengths`: as GroRun.follow() has it.
   */
  #follow(at: number, end: number, step: number, vtep: Ipv4, lengths?: Int32Array, first = 0): number {
    const packet = this.#packet;
    if (packet.at !== at - step + ENCAPSULATION_BYTES || !this.#egress.isOpenAt(packet.at)) return 0;
    const run = this.#run;
    const verifies = this.#tables.peers.get(vtep)?.lane !== true;
    run.follow(packet, this.#egress, at, end, step, verifies, lengths, first);
    if (run.packets === 0) return 0;
    this.taken += run.packets;
    this.#egress.countReceived(vtep, run.packets, run.bytes);
    this.#tracker.trackRun(run.packets, run.bytes, run.nextSequence, packet.protocol, this.#seconds);
    return run.packets;
  }

  #outboundPacket(batch: DeviceBatch, i: number): Drop {
    const packet = this.#packet;
    const malformed = packet.parse(batch.offset[i]!, batch.length[i]!);
    if (malformed !== Drop.None) return malformed;
    packet.partialChecksum = batch.needsChecksum[i] === 1 && packet.checksumOffset() >= 0;
    packet.gso = batch.gso[i]! as Gso;
    packet.gsoBytes = batch.gsoBytes[i]!;
    if (packet.gso !== Gso.None && !isSuperPacket(packet)) return Drop.BadSuperPacket;
    const isSure = packet.partialChecksum || packet.fragment || batch.hasRightChecksum[i] === 1;
    if (!isSure && !packet.transportChecksumIsRight()) return Drop.BadTransportChecksum;
    return this.#isAnswered() ? Drop.None : this.#carry(0, DEVICE);
  }

  /** Answers a question that a container of this node asked its gateway before. */
  #isAnswered(): boolean {
    const packet = this.#packet;
    if (packet.protocol !== ip.Protocol.Udp || (packet.ports & 0xffff) !== DNS_PORT) return false;
    const { endpoints, networks } = this.#tables;
    const client = endpoints.get(packet.source);
    if (packet.gso !== Gso.None || packet.fragment || client?.vtep !== DEVICE) return false;
    if (networks.get(client.vni)?.gateway !== packet.destination || !this.#answers.answer(packet)) return false;
    this.#egress.send(packet, DEVICE, 0, 0);
    return true;
  }

  /** `cut` is the length of the datagram, or of each segment of a super-frame. `sealed` is SEALED for what came sealed, or 0. */
  #inboundFrame(at: number, length: number, vtep: Ipv4, outerTos: number, cut: number, sealed: number): Drop {
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
    if (network === MANAGEMENT_VNI) return this.#takeProbe(inner, type, innerBytes, peer, sealed !== 0);
    if (network === this.#tables.node.ingressVni) {
      // It carries the source of any client outside: only nodes are trusted with that.
      if (!peer.agent) return Drop.UnknownVni;
    } else {
      const row = this.#tables.networks.get(network);
      if (row === undefined) return Drop.UnknownVni;
      if ((row.sealed === true) !== (sealed !== 0)) return row.sealed === true ? Drop.ClearPacket : Drop.SealedPacket;
    }
    if (type === EtherType.Arp && sealed === 0) return this.#answerArp(at, length, network, peer);
    if (type === EtherType.Vlan) return Drop.VlanTag;
    if (type !== EtherType.Ipv4) return Drop.UnknownEtherType;
    const packet = this.#packet;
    const malformed = packet.parse(inner, innerBytes);
    if (malformed !== Drop.None) return malformed;
    if (!packet.headerChecksumIsRight()) return Drop.BadHeaderChecksum;
    const note = noteOf(u8, at);
    if (note === Note.TakesLane) return this.#takeNote(network, vtep);
    packet.asksLane = note === Note.AsksLane;
    const bad = this.#unfinished.take(packet, cut < length ? cut : 0);
    if (bad !== Drop.None) return bad;
    const congested = combineEcn(packet, outerTos);
    if (congested !== Drop.None) return congested;
    this.#egress.countReceived(vtep, 1, packet.length);
    return this.#carry(network | sealed, vtep);
  }

  /** A peer that has keys sends its probes sealed: a clear one that names it may be forged. */
  #takeProbe(at: number, type: number, bytes: number, peer: PeerRow, isSealed: boolean): Drop {
    const health = this.#health;
    const drop =
      !isSealed && this.#opener.hasKeys(peer.vtep)
        ? health.receiveClear(at, type, bytes, peer)
        : health.receive(at, type, bytes, peer, isSealed);
    if (drop === Drop.None) this.answered++;
    return drop;
  }

  /** The packet in hand is the head of what would answer a flow that the peer's lane takes (lane-notes.ts). It goes nowhere. */
  #takeNote(network: number, vtep: Ipv4): Drop {
    const tracker = this.#tracker;
    tracker.find(network, this.#packet);
    if (tracker.entry >= 0) {
      if (this.#flows.fromOf(tracker.entry) !== vtep) return Drop.SpoofedSource;
      tracker.hearLane();
    }
    this.answered++;
    return Drop.None;
  }

  #answerArp(at: number, length: number, network: number, peer: PeerRow): Drop {
    const drop = this.#arp.answer(at, length, network, peer);
    if (drop !== Drop.None) return drop;
    this.answered++;
    this.#egress.datagram(at, length, peer);
    return Drop.None;
  }

  /** Carries a packet that came from `from`, on the VNI `zone`, with SEALED if it came so; zone 0 is the device's. */
  #carry(zone: number, from: Ipv4): Drop {
    const packet = this.#packet;
    const tracker = this.#tracker;
    if (packet.fragment) {
      const misplaced = this.#fragments.find(packet, zone, this.#seconds);
      if (misplaced !== Drop.None) return misplaced;
    }
    if (packet.icmpError) return this.#carryError(zone, from);
    tracker.find(zone, packet);
    if (tracker.entry < 0 && from === DEVICE && this.#names.find(packet, this.#seconds)) tracker.find(zone, packet);
    if (tracker.entry >= 0) {
      const unusable = tracker.reuse(zone, from, packet, this.#seconds);
      if (unusable !== Drop.None) return unusable;
    }
    if (tracker.entry < 0) {
      const decision = this.#decision;
      const refused = from === DEVICE ? decision.outbound(packet, this.#seconds) : decision.inbound(packet, from, zone);
      if (refused !== Drop.None) return this.#refuse(refused, zone, from, 0);
      const full = tracker.establish(packet, zone, from, decision, this.#seconds);
      if (full !== Drop.None) return full;
    }
    // Most packets pass wherever they go, and need no further look.
    const bytes = packet.segmentBytes;
    const around = isSealed(this.#flows.vniOf(tracker.entry)) ? SEALED_BYTES : 0;
    let mtu = 0;
    if (bytes + around > this.#health.smallestMtu || packet.u8[packet.at + ip.TTL_AT]! <= 1) {
      const obstacle = this.#fit.look(packet, tracker.entry);
      if (obstacle !== Drop.None) return this.#refuse(obstacle, zone, from, this.#fit.mtu);
      if (bytes > this.#fit.mtu) mtu = this.#fit.mtu;
    }
    if (packet.fragment && !packet.laterFragment) this.#fragments.remember(packet, zone, this.#seconds);
    tracker.track(packet, this.#seconds);
    return this.#route(mtu);
  }

  /** Drops the packet, and answers its sender where an answer is due. */
  #refuse(drop: Drop, zone: number, from: Ipv4, mtu: number): Drop {
    this.#errors.answer(this.#packet, drop, from, zone, this.#seconds, mtu);
    return drop;
  }

  #carryError(zone: number, from: Ipv4): Drop {
    const relate = this.#relate;
    const unrelated = relate.relate(this.#packet, zone, from, this.#seconds);
    if (unrelated !== Drop.None) return unrelated;
    return this.#egress.send(this.#packet, relate.to, relate.vni, relate.hash);
  }

  /** Rewrites the packet as its flow says and sends it on its way: in pieces, when `mtu` is not 0. */
  #route(mtu: number): Drop {
    const packet = this.#packet;
    const tracker = this.#tracker;
    if ((packet.tcpFlags & tcp.Flag.Syn) !== 0) this.#clampMss();
    if (!tracker.translate(packet)) return Drop.FlowReset;
    return this.#egress.send(packet, tracker.to, tracker.vni, this.#flows.hashOf(tracker.entry), mtu);
  }

  /** No segment that the other end sends is to be larger than the path. */
  #clampMss(): void {
    const { u8, transport, partialChecksum } = this.#packet;
    const most = this.#fit.mtuOfFlow(this.#tracker.entry) - ip.IPV4_BYTES - tcp.TCP_BYTES;
    tcp.clampMss(u8, transport, most, partialChecksum);
  }
}
