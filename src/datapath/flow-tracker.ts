// Flows as the forwarder uses them: whether a found flow may still be used, how a new one is written, what a packet does to its
// state, and how its packets are translated. The packet in hand has one flow, `entry`.
import type { Ipv4 } from "../lib/ip.ts";
import { SourceRateLimit } from "../lib/rate-limit.ts";
import { Drop } from "../packet/drop.ts";
import * as ip from "../packet/ipv4.ts";
import { addressDelta, type Packet, portDelta, swapPorts } from "../packet/packet.ts";
import { Flag } from "../packet/tcp.ts";
import type { Decision } from "./decision.ts";
import type { ExpressFlows } from "./express-flows.ts";
import type { FlowCheck } from "./flow-check.ts";
import { FlowState } from "./flow-entries.ts";
import { firstState, isOver, nextState, nextTcpState, timeoutSeconds } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { PeerHealth } from "./peer-health.ts";
import { DEVICE } from "./rows.ts";
import { wayMismatch } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";
import { Effect, TcpSequences } from "./tcp-sequences.ts";

/** Other source ports that are tried when a reply key clashes. */
const PORT_TRIES = 128;
const FIRST_PORT = 1024;

/** Flows that may turn out to be answered in the express lane, for one new flow. */
const RIDERS = 8;

/** The holder of the node's own flows. */
const NODE = 0;

interface FlowTrackerOptions {
  flows: FlowTable;
  tables: Tables;
  health: PeerHealth;
  check: FlowCheck;
  /** undefined: there is no express lane. */
  express?: ExpressFlows | undefined;
  /** Flows that each holder may begin each second in this worker. */
  newFlowsPerSecond: number;
  random: () => number;
}

/** A seed that no sender knows. */
export function seedOf(random: () => number): number {
  return Math.floor(random() * 2 ** 32) | 0;
}

export class FlowTracker {
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #health: PeerHealth;
  readonly #check: FlowCheck;
  readonly #express: ExpressFlows | undefined;
  readonly #random: () => number;
  readonly #sequences: TcpSequences;
  readonly #newFlows: SourceRateLimit;
  /** The entry of the packet in hand; -1: none. Set by find(), reuse() and establish(). */
  entry = -1;
  #version = 0;
  /** Where the last packet that translate() was given goes. */
  to: Ipv4 = DEVICE;
  vni = 0;
  /** Flows that made room for others. */
  evictedFlows = 0;

  constructor({ flows, tables, health, check, express, newFlowsPerSecond, random }: FlowTrackerOptions) {
    this.#flows = flows;
    this.#tables = tables;
    this.#health = health;
    this.#check = check;
    this.#express = express;
    this.#random = random;
    this.#sequences = new TcpSequences(flows);
    this.#newFlows = new SourceRateLimit(newFlowsPerSecond, seedOf(random));
  }

  /** Looks for the packet's flow. A miss is one only under the lock: another worker may be moving entries. */
  find(zone: number, packet: Packet): void {
    const flows = this.#flows;
    const { protocol, source, destination, ports } = packet;
    let entry = flows.find(zone, protocol, source, destination, ports);
    if (entry < 0) {
      flows.lock();
      entry = flows.find(zone, protocol, source, destination, ports);
      flows.unlock();
    }
    this.entry = entry;
    this.#version = flows.foundVersion;
  }

  /**
   * Whether the packet that came from `from`, on the VNI `zone`, may use the flow that find() found. A flow that is over, or that lost what it stands on, is
   * removed: then `entry` is -1 and the packet is decided anew, but a TCP segment in mid-stream cannot begin a connection anew.
   */
  reuse(zone: number, from: Ipv4, packet: Packet, seconds: number): Drop {
    const flows = this.#flows;
    const { entry } = this;
    const isSyn = (packet.tcpFlags & (Flag.Syn | Flag.Ack)) === Flag.Syn;
    const mismatch = from === DEVICE ? Drop.None : wayMismatch(zone, flows.vniOf(entry));
    if (isSyn && mismatch === Drop.None && this.#givesWay(entry)) return this.#discard();
    const isIdle = this.#check.isIdle(entry, this.#version, seconds);
    const isDue = this.#check.isDue(entry);
    const hasLostGround = isDue && this.#check.hasLostGround(entry);
    if (isIdle || (hasLostGround && !this.#check.isBorneOut(entry))) {
      this.#check.end(entry, this.#version);
      this.entry = -1;
      return packet.protocol === ip.Protocol.Tcp && !isSyn ? Drop.FlowReset : Drop.None;
    }
    if (mismatch !== Drop.None) return mismatch;
    if (flows.fromOf(entry) !== from) return this.#mayMove(entry, from, packet) ? this.#discard() : Drop.SpoofedSource;
    if (isDue) flows.setEpoch(entry, this.#tables.epoch);
    return Drop.None;
  }

  /** Takes the found flow out of the table, for a new one in its place. */
  #discard(): Drop {
    this.#flows.remove(this.entry, this.#version);
    this.entry = -1;
    return Drop.None;
  }

  /** Whether a SYN starts a new flow here: the old one is closing, or was never answered by a node that is away. */
  #givesWay(entry: number): boolean {
    const state = this.#flows.stateOf(entry);
    if (isOver(state)) return true;
    const to = this.#flows.toOf(entry);
    return state === FlowState.SynSent && to !== DEVICE && !this.#health.isReachable(to);
  }

  /**
   * Whether the sender may have moved to `from`. A client from outside, and a host behind a VTEP that runs no agent, may come in
   * through another node than before; an endpoint of a node stays where it is. A TCP segment that is not in turn does not
   * count as the client's. Packets without sequence numbers are taken as they come.
   */
  #mayMove(entry: number, from: Ipv4, packet: Packet): boolean {
    const tables = this.#tables;
    const endpoint = tables.endpoints.get(packet.source);
    if (endpoint !== undefined && !(tables.isExternal(endpoint) && tables.mayComeFrom(endpoint, from))) return false;
    if (endpoint === undefined && tables.inPool(packet.source)) return false;
    const had = this.#flows.fromOf(entry);
    if (packet.protocol !== ip.Protocol.Tcp || (had !== DEVICE && !this.#health.isReachable(had))) return true;
    return !packet.fragment && this.#sequences.isExpected(entry, packet, this.#flows.stateOf(entry));
  }

  /** Writes the flow that was decided for the packet, if no other worker has written it meanwhile. `entry` is then its entry. */
  establish(packet: Packet, zone: number, from: Ipv4, decision: Decision, seconds: number): Drop {
    const flows = this.#flows;
    const holder = this.#holderOf(packet.source, decision.destination);
    if (holder !== NODE && !this.#newFlows.take(holder, seconds)) return Drop.TooManyNewFlows;
    let drop: Drop = Drop.None;
    flows.lock();
    this.entry = flows.find(zone, packet.protocol, packet.source, packet.destination, packet.ports);
    if (this.entry < 0) drop = this.#write(packet, zone, from, decision, holder, seconds);
    if (drop === Drop.None) this.#version = flows.versionOf(this.entry);
    flows.unlock();
    return drop;
  }

  #write(packet: Packet, zone: number, from: Ipv4, decision: Decision, holder: number, seconds: number): Drop {
    const flows = this.#flows;
    const { source, destination, protocol } = packet;
    const replyZone = decision.to === DEVICE ? 0 : decision.vni;
    const ports = this.#freePorts(replyZone, protocol, decision, seconds);
    if (ports < 0) return Drop.PortsExhausted;
    const key = ports | 0;
    const reply = swapPorts(key);
    const full = this.#makeRoom(holder);
    if (full !== Drop.None) return full;
    const entry = flows.reserve();
    flows.setKey(entry, zone, protocol, source, destination, packet.ports);
    flows.setKey(entry + 1, replyZone, protocol, decision.destination, decision.source, reply);
    const addresses = addressDelta(source, destination, decision.source, decision.destination);
    const backwards = addressDelta(decision.destination, decision.source, destination, source);
    flows.setPath(entry, from, decision.to, decision.vni);
    flows.setPath(entry + 1, decision.to, from, from === DEVICE ? decision.vni : zone);
    flows.setDeltas(entry, addresses, portDelta(protocol, packet.ports, key));
    flows.setDeltas(entry + 1, backwards, portDelta(protocol, reply, swapPorts(packet.ports)));
    flows.setEpoch(entry, this.#tables.epoch);
    flows.setEpoch(entry + 1, this.#tables.epoch);
    flows.setVip(entry, decision.vip);
    flows.setCreated(entry, seconds);
    flows.setLastSeen(entry, seconds);
    const state = firstState(protocol, packet.tcpFlags);
    flows.setTimeout(entry, timeoutSeconds(state, protocol));
    flows.publish(entry, state, holder);
    this.entry = entry;
    return Drop.None;
  }

  /**
   * The holder in whose share of the table a new flow goes: its client, if that is an endpoint. Flows of clients outside go in a
   * share of the server, apart from the flows that the server itself opens, so that neither keeps the other from the table.
   */
  #holderOf(client: Ipv4, server: Ipv4): number {
    const { endpoints } = this.#tables;
    if (endpoints.has(client)) return client;
    return endpoints.has(server) ? ~server : NODE;
  }

  /**
   * Makes room for a new flow, or says why there is none. A holder that has its share gives an unanswered flow of its own for it, then one that
   * ends; only a table that is full to the last flow takes one from the largest holder. An established flow stays.
   */
  #makeRoom(holder: number): Drop {
    const flows = this.#flows;
    const isFull = flows.size === flows.capacity;
    if (!isFull && !flows.hasItsShare(holder)) return Drop.None;
    let first = this.#firstToGo(holder, isFull);
    const express = this.#express;
    for (let i = 0; i < RIDERS && first >= 0 && express?.isAnswered(first) === true; i++) {
      first = this.#firstToGo(holder, isFull);
    }
    if (first < 0) return isFull ? Drop.FlowTableFull : Drop.FlowShareTaken;
    flows.removeLocked(first);
    this.evictedFlows++;
    return Drop.None;
  }

  #firstToGo(holder: number, isFull: boolean): number {
    const first = this.#flows.firstToGo(holder);
    return first < 0 && isFull ? this.#flows.firstOfLargest() : first;
  }

  /** Counts the packet and moves the flow's state. Hot path: must not allocate. */
  track(packet: Packet, seconds: number): void {
    const { entry } = this;
    const express = this.#express;
    if (express !== undefined) express.beforePacket(entry, this.#version, packet.tcpFlags);
    const before = this.#flows.stateOf(entry);
    this.#flows.count(entry, 1, packet.length, seconds);
    this.#moveState(packet, before);
    if (express !== undefined) express.afterPacket(entry, this.#version, packet, before);
  }

  #moveState(packet: Packet, before: FlowState): void {
    const flows = this.#flows;
    const { entry } = this;
    const { protocol, tcpFlags } = packet;
    const isReply = (entry & 1) === 1;
    if (protocol !== ip.Protocol.Tcp) {
      const after = nextState(before, isReply);
      if (after !== before) flows.changeState(entry, this.#version, after, timeoutSeconds(after, protocol));
      return;
    }
    if (packet.fragment) return; // the length of its segment is not in it
    const effect = this.#sequences.judge(entry, packet, before);
    if (effect === Effect.None) return;
    const known = flows.finsOf(entry);
    let fins = known;
    let after = before;
    if ((effect & Effect.Resets) !== 0) after = FlowState.Closed;
    else if ((effect & Effect.Restarts) !== 0) {
      after = FlowState.SynReceived;
      fins = 0;
    } else {
      if ((effect & Effect.OriginalFin) !== 0) fins |= 1;
      if ((effect & Effect.ReplyFin) !== 0) fins |= 2;
      after = nextTcpState(before, isReply, tcpFlags, fins, this.#sequences.isOutstanding(entry));
    }
    if (after !== before || fins !== known)
      flows.changeState(entry, this.#version, after, timeoutSeconds(after, protocol), fins);
  }

  /** The peer's agent says that its lane takes the flow that the found entry's packets answer. */
  hearLane(): void {
    this.#express?.hear(this.entry, this.#version);
  }

  /** Counts packets of the same flow as the one tracked last, which change its state no further. */
  trackRun(packets: number, bytes: number, nextSequence: number, protocol: number, seconds: number): void {
    this.#flows.count(this.entry, packets, bytes, seconds);
    if (protocol === ip.Protocol.Tcp) this.#sequences.follow(this.entry, nextSequence);
  }

  /**
   * Gives the packet the addresses and ports of the other side: the other entry's key, turned round. False when the
   * flow was removed meanwhile: then the packet is as it was.
   */
  translate(packet: Packet): boolean {
    const flows = this.#flows;
    const { entry } = this;
    const other = entry ^ 1;
    const source = flows.destinationOf(other);
    const destination = flows.sourceOf(other);
    const ports = swapPorts(flows.portsOf(other));
    const addressDelta = flows.addressDeltaOf(entry);
    const portDelta = flows.portDeltaOf(entry);
    this.to = flows.toOf(entry);
    this.vni = flows.vniOf(entry);
    if (!flows.isCurrent(entry, this.#version)) return false;
    if (source === packet.source && destination === packet.destination && ports === packet.ports) return true;
    packet.rewrite(source, destination, ports, addressDelta, portDelta);
    return true;
  }

  /**
   * Ports with which the reply's key is not in the table: those decided, or others with another source port (for ICMP, another
   * identifier). An unsigned number; -1 when none was found.
   */
  #freePorts(replyZone: number, protocol: number, decision: Decision, seconds: number): number {
    const { destination, source, ports } = decision;
    if (this.#isFree(replyZone, protocol, destination, source, swapPorts(ports), seconds)) return ports >>> 0;
    if (ports === 0) return -1; // a protocol without ports
    for (let i = 0; i < PORT_TRIES; i++) {
      const port = FIRST_PORT + Math.floor(this.#random() * (65536 - FIRST_PORT));
      const tried = protocol === ip.Protocol.Icmp ? (port << 16) | port : (port << 16) | (ports & 0xffff);
      if (this.#isFree(replyZone, protocol, destination, source, swapPorts(tried), seconds)) return tried >>> 0;
    }
    return -1;
  }

  /** A flow that closes or has idled out does not hold its key. */
  #isFree(zone: number, protocol: number, from: Ipv4, to: Ipv4, ports: number, seconds: number): boolean {
    const entry = this.#flows.find(zone, protocol, from, to, ports);
    if (entry < 0) return true;
    if (!isOver(this.#flows.stateOf(entry)) && !this.#check.isIdleLocked(entry, seconds)) return false;
    this.#flows.removeLocked(entry);
    return true;
  }
}
