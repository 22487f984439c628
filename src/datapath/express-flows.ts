// Which flows are in the express lane: when each direction of a flow enters and leaves it, as its packets pass the agent.
//
//   judged (may-ride.ts) -> the entry from a peer enters -> a packet has come from that peer since -> the entry toward it enters
//   UDP that is not answered -> now and then a packet asks the peer's agent, which answers once its entry is in (lane-notes.ts)
//   a SYN-ACK that is borne out: both enter, before it is sent on; on one node: both enter once the flow has a reply, or some packets
//   FIN: its direction leaves, before it is sent on; RST, the end of the flow: both leave
//   a ground was lost, or the lane is off: the next packet finds the entries void, and takes them out; then as at the first packet
//   tables have changed: a flow that might not ride is judged again at its next packet
//
// So a node's lane sends to a peer only what the peer's lane takes, but for moments; in those the peer's agent takes it. A packet of a flow
// that is in the lane comes to the agent all the same if the lane passes it on (a fragment, say), or has no such entry: after
// some of them the entry is written anew.
// The marks in the table (express-marks.ts) say what the lane may have. They change before the lane does when an entry is taken out,
// and when it enters: a worker that finds its mark gone after the writing has met another's removal, and takes the entry out.

import type { Ipv4 } from "../lib/ip.ts";
import { setChanges } from "../lib/set-changes.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { Packet } from "../packet/packet.ts";
import { Flag } from "../packet/tcp.ts";
import { type CountCarried, ExpressCounts } from "./express-counts.ts";
import { Ride, rideBit } from "./express-marks.ts";
import { FlowState } from "./flow-entries.ts";
import { isClosing } from "./flow-state.ts";
import type { FlowTable } from "./flow-table.ts";
import type { LaneNotes } from "./lane-notes.ts";
import { mayRide } from "./may-ride.ts";
import type { PeerHealth } from "./peer-health.ts";
import type { ExpressLane, LaneReading } from "./ports.ts";
import { DEVICE } from "./rows.ts";
import type { Tables } from "./tables.ts";

/** Segments that the lane never carries, and that may change what a flow is. */
const SPECIAL = Flag.Syn | Flag.Fin | Flag.Rst;
/** So many packets that come to the agent though their entry is in the lane have it written anew. A power of two. */
const STRAYS = 32;
/** Counters of such packets; flows share them. */
const STRAY_COUNTERS = 1024;
/** UDP that has no answer after so many packets is taken to go one way. */
const ONE_WAY_PACKETS = 8;

interface ExpressFlowsOptions {
  flows: FlowTable;
  tables: Tables;
  health: PeerHealth;
  lane: ExpressLane;
  notes: LaneNotes;
  countCarried: CountCarried;
}

export class ExpressFlows {
  readonly counts: ExpressCounts;
  /** Entries that this worker has given to the lane, and taken out. */
  entered = 0;
  taken = 0;
  readonly #flows: FlowTable;
  readonly #tables: Tables;
  readonly #health: PeerHealth;
  readonly #lane: ExpressLane;
  readonly #notes: LaneNotes;
  #avoided: ReadonlySet<Ipv4> = new Set(); // BOUNDED: by the peers; VTEPs
  readonly #strays = new Uint8Array(STRAY_COUNTERS);
  readonly #reading: LaneReading = { packets: 0, bytes: 0, seenSeconds: 0, nextSequence: 0, acknowledgment: 0 };

  constructor({ flows, tables, health, lane, notes, countCarried }: ExpressFlowsOptions) {
    this.#flows = flows;
    this.#tables = tables;
    this.#health = health;
    this.#lane = lane;
    this.#notes = notes;
    this.counts = new ExpressCounts(flows, countCarried);
    flows.onRiderRemoved = (original) => this.takeOutLocked(original);
  }

  /** No flow of these VTEPs may ride from now on. Returns those for which that is new, or over: their grounds are to be lost. */
  avoid(vteps: readonly Ipv4[]): Ipv4[] {
    const before = this.#avoided;
    this.#avoided = new Set(vteps);
    return setChanges(before, this.#avoided);
  }

  /**
   * Before a packet is judged: takes over what the lane knows of its flow, where the judgment needs it, and takes out what the lane may no
   * longer carry. Hot path: must not allocate.
   */
  beforePacket(entry: number, version: number, tcpFlags: number): void {
    const flows = this.#flows;
    if ((flows.rideOf(entry) & Ride.Both) === 0) return;
    if (!this.#lane.isOn || flows.groundSumOf(entry) !== this.#groundSum(entry)) this.takeOut(entry, version);
    else if ((tcpFlags & Flag.Rst) !== 0) this.takeOut(entry, version);
    else if ((tcpFlags & Flag.Fin) !== 0) this.#takeOutOne(entry, version);
    else if ((tcpFlags & Flag.Syn) !== 0) {
      this.#read(entry, version);
      this.#read(entry ^ 1, version);
    }
  }

  /** After a packet was judged, and has moved its flow from the state `before`. Hot path: must not allocate. */
  afterPacket(entry: number, version: number, packet: Packet, before: FlowState): void {
    const { asksLane } = packet;
    packet.asksLane = false;
    this.#moveRide(entry, version, packet, before);
    if (asksLane) this.#answer(entry, version);
  }

  /** The peer's agent says that its lane takes what this node sends of the flow; `entry` is that of what it sends itself. */
  hear(entry: number, version: number): void {
    const flows = this.#flows;
    flows.lock();
    if (flows.isRiding(entry, version)) flows.addRide(entry, Ride.Heard);
    flows.unlock();
  }

  /** The peer's agent has asked. It is told when the entry stands, for then its own enters. */
  #answer(entry: number, version: number): void {
    this.#lane.flush();
    if (this.#flows.isRiding(entry, version)) this.#notes.tellTakes(entry);
  }

  #moveRide(entry: number, version: number, packet: Packet, before: FlowState): void {
    const flows = this.#flows;
    const state = flows.stateOf(entry);
    const { tcpFlags } = packet;
    if (isClosing(state)) {
      if ((flows.rideOf(entry) & Ride.Both) !== 0) this.takeOut(entry, version);
      return;
    }
    if (packet.fragment || !this.#lane.isOn || this.#isKeptOut(entry)) return;
    const isAnswer = state === FlowState.SynReceived && before !== state; // a SYN-ACK that is borne out
    if (!isAnswer && ((tcpFlags & SPECIAL) !== 0 || state === FlowState.SynSent || state === FlowState.SynReceived))
      return;
    const groundSum = this.#groundSum(entry);
    if (!flows.isJudged(entry, groundSum, this.#tables.revision)) this.#judge(entry, version, groundSum);
    const ride = flows.rideOf(entry);
    if ((ride & Ride.Barred) !== 0 || (flows.finsOf(entry) & rideBit(entry)) !== 0) return; // or has sent its FIN
    if (isAnswer) {
      this.takeOut(entry, version); // what an earlier connection of the same ports has left
      this.#enterBoth(entry, version, groundSum);
    } else if ((ride & rideBit(entry)) === 0) {
      const mayTry = (ride & Ride.Refused) === 0 || this.#countStray(entry) % STRAYS === 0;
      if (mayTry) this.#admit(entry, version, packet, groundSum);
    } else {
      // The lane passes on what the peer's agent leaves to a card that is not there: it is heard all the same.
      if ((ride & Ride.Heard) === 0 && flows.fromOf(entry) !== DEVICE) this.hear(entry, version);
      if (this.#countStray(entry) % STRAYS !== 0) return;
      this.#takeOutOne(entry, version);
      this.#enter(entry, version, groundSum);
    }
  }

  /** Whether the lane is at fault with the flow, or with its peer (lane-stalls.ts). */
  #isKeptOut(entry: number): boolean {
    const flows = this.#flows;
    if ((flows.rideOf(entry) & Ride.Stalled) !== 0) return true;
    return this.#avoided.size > 0 && (this.#avoided.has(flows.fromOf(entry)) || this.#avoided.has(flows.toOf(entry)));
  }

  /** Takes both directions out of the lane, and takes over what it knows of them. */
  takeOut(entry: number, version: number): void {
    this.#takeOutOne(entry, version);
    this.#takeOutOne(entry ^ 1, version);
  }

  /** As takeOut(), under the lock of the table. */
  takeOutLocked(entry: number): void {
    const flows = this.#flows;
    const version = flows.versionOf(entry);
    const original = entry & ~1;
    for (let side = original; side <= original + 1; side++) {
      if ((flows.rideOf(side) & rideBit(side)) === 0) continue;
      flows.removeRide(side, rideBit(side));
      this.taken++;
      if (this.#lane.take(side, version, this.#reading)) this.counts.takeLocked(side, this.#reading);
    }
  }

  /** Whether a flow that counts as unanswered was answered in the lane; then it counts as such from here on. Under the lock of the table. */
  isAnswered(entry: number): boolean {
    const flows = this.#flows;
    const version = flows.versionOf(entry);
    const original = entry & ~1;
    const before = flows.stateOf(original);
    for (let side = original; side <= original + 1; side++) {
      if ((flows.rideOf(side) & rideBit(side)) === 0) continue;
      if (this.#lane.read(side, version, this.#reading)) this.counts.takeLocked(side, this.#reading);
    }
    return flows.stateOf(original) !== before;
  }

  /** A direction whose packet has come to the agent, and that is not in the lane. */
  #admit(entry: number, version: number, packet: Packet, groundSum: number): void {
    const flows = this.#flows;
    const ride = flows.rideOf(entry);
    if (flows.fromOf(entry) !== DEVICE) {
      this.#enter(entry, version, groundSum, Ride.Heard);
      return;
    }
    const isTcp = flows.protocolOf(entry) === Protocol.Tcp;
    const isOneWay = !isTcp && flows.packetsOf(entry) >= ONE_WAY_PACKETS;
    if (flows.toOf(entry) === DEVICE) {
      if (isTcp || isOneWay || flows.stateOf(entry) === FlowState.Replied) this.#enterBoth(entry, version, groundSum);
      return;
    }
    if ((ride & rideBit(entry ^ 1)) === 0) this.#enter(entry ^ 1, version, groundSum);
    else if ((ride & Ride.Heard) === 0 && this.#isTimeToAsk(entry)) {
      this.#read(entry ^ 1, version);
      packet.asksLane = isOneWay;
    }
    if ((flows.rideOf(entry) & Ride.Heard) !== 0) this.#enter(entry, version, groundSum);
  }

  /** Asks at the first packets, and then at some. */
  #isTimeToAsk(entry: number): boolean {
    const count = this.#countStray(entry);
    return (count & (count - 1)) === 0 || count % STRAYS === 0;
  }

  #judge(entry: number, version: number, groundSum: number): void {
    const flows = this.#flows;
    const isAdmitted = mayRide(flows, this.#tables, entry);
    flows.lock();
    if (flows.isCurrent(entry, version)) {
      if (isAdmitted) flows.admit(entry, groundSum);
      else flows.bar(entry, this.#tables.revision);
    }
    flows.unlock();
    if ((flows.rideOf(entry) & Ride.Both) !== 0) this.takeOut(entry, version); // written under an earlier judgment
  }

  #enterBoth(entry: number, version: number, groundSum: number): void {
    this.#enter(entry, version, groundSum);
    this.#enter(entry ^ 1, version, groundSum);
  }

  /** Puts a direction in the lane, unless it is there or has sent its FIN. */
  #enter(entry: number, version: number, groundSum: number, more: number = Ride.None): void {
    const flows = this.#flows;
    const bit = rideBit(entry);
    flows.lock();
    const isOpen = flows.isCurrent(entry, version) && (flows.finsOf(entry) & bit) === 0;
    const enters = isOpen && (flows.rideOf(entry) & bit) === 0;
    if (enters) {
      flows.addRide(entry, bit | more);
      flows.removeRide(entry, Ride.Refused);
    }
    flows.unlock();
    if (!enters) return;
    const to = flows.toOf(entry);
    const mtu = to === DEVICE ? this.#tables.node.mtu : this.#health.mtuOf(to);
    const port = to === DEVICE ? 0 : (this.#tables.peers.get(to)?.port ?? 0);
    if (this.#lane.enter(entry, version, groundSum, mtu, port)) this.entered++;
  }

  #takeOutOne(entry: number, version: number): void {
    const flows = this.#flows;
    const bit = rideBit(entry);
    if ((flows.rideOf(entry) & bit) === 0) return;
    flows.lock();
    const isIn = flows.isCurrent(entry, version) && (flows.rideOf(entry) & bit) !== 0;
    if (isIn) flows.removeRide(entry, bit);
    flows.unlock();
    if (!isIn) return;
    this.taken++;
    if (this.#lane.take(entry, version, this.#reading)) this.counts.take(entry, version, this.#reading);
  }

  #read(entry: number, version: number): void {
    if ((this.#flows.rideOf(entry) & rideBit(entry)) === 0) return;
    if (this.#lane.read(entry, version, this.#reading)) this.counts.take(entry, version, this.#reading);
  }

  #groundSum(entry: number): number {
    const flows = this.#flows;
    const original = entry & ~1;
    return this.#lane.groundSum(
      flows.sourceOf(original),
      flows.sourceOf(original + 1),
      flows.vipOf(original),
      flows.fromOf(original),
      flows.toOf(original),
    );
  }

  #countStray(entry: number): number {
    const at = (entry ^ (entry >>> 10)) & (STRAY_COUNTERS - 1);
    return ++this.#strays[at]!;
  }
}
