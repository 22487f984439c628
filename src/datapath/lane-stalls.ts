// Flows that stall in the express lane though their peer is up: a filter on the way may drop the lane's frames, which differ from the agent's
// (no outer UDP checksum, super-packets). The walk through the lane (express/scan.ts) shows every TCP entry with a peer to see().
//
//   suspected: for STALL_MS nothing came back but what the peer repeats, though what was sent is not acknowledged and is sent again;
//              or the peer repeats what it sent, though this node has acknowledged it
//   tried: the flow leaves the lane, and the agent carries it. It goes on within TRY_MS: the lane was at fault. It does not: the other
//          end was, a container that has died, say; and the flow may enter the lane again
//   avoided: the peer, when two of its flows have stalled, or one and no other has got on: its flows leave the lane, for a time that
//            doubles with each stall after it. What a client outside sends may stall in its own network: of such flows two are to
//            have stalled, each while no other got on
//
// A container that does not read acknowledges all the same, so its connections never stall. A peer that is down, or was meanwhile,
// makes no flow suspected.
import { type Cidr, contains, type Ipv4 } from "../lib/ip.ts";
import { setChanges } from "../lib/set-changes.ts";
import { Protocol } from "../packet/ipv4.ts";
import { Ride, rideBit } from "./express-marks.ts";
import type { FlowTable } from "./flow-table.ts";
import type { LaneReading } from "./ports.ts";
import { DEVICE } from "./rows.ts";

const STALL_MS = 4000;
/** Longer than TCP ever waits between two attempts. */
const TRY_MS = 130_000;
/** Stalls of a peer's flows within this time are counted together. */
const TOGETHER_MS = 600_000;
const FIRST_AVOIDED_MS = 300_000;
const MOST_AVOIDED_MS = 86_400_000;
const MOST_SUSPECTS = 1024;
/** Bytes that packets have on average if they are more than acknowledgments: those have up to 80. */
const PAYLOAD_ABOVE_BYTES = 96;

interface Suspect {
  version: number;
  sinceMs: number;
  /** What is acknowledged of this direction; where the peer repeats itself, the number after what it sent. It must not move. */
  number: number;
  /** What both directions had carried when it was suspected, by the agent too; undefined: at the end of the walk. */
  before: Carried | undefined;
}

interface Carried {
  packets: number;
  otherPackets: number;
  otherBytes: number;
  /** The number after the last that the other direction sent. */
  otherNumber: number;
}

interface Trial extends Suspect {
  triedMs: number;
}

interface StalledPeer {
  /** Its flows that have stalled of late. */
  flows: number;
  lastMs: number;
  /** Its flows go by the agent until then; 0: they do not. */
  untilMs: number;
  /** How long it was avoided last; 0: it never was. */
  avoidedMs: number;
}

export class LaneStalls {
  /** Flows that went on once they had left the lane. */
  stalled = 0;
  /** Called when other peers are to be avoided than before. */
  onAvoid: () => void = () => {};
  readonly #flows: FlowTable;
  readonly #pool: Cidr;
  readonly #suspects = new Map<number, Suspect>(); // BOUNDED: MOST_SUSPECTS; keyed by entry
  readonly #trials = new Map<number, Trial>(); // BOUNDED: MOST_SUSPECTS, which end after TRY_MS; keyed by entry
  readonly #peers = new Map<Ipv4, StalledPeer>(); // BOUNDED: by the peers whose flows have stalled; keyed by VTEP
  readonly #progressMs = new Map<Ipv4, number>(); // BOUNDED: by the peers that flows go to; when a peer last acknowledged in the lane
  readonly #turnedMs = new Map<Ipv4, number>(); // BOUNDED: by the peers; when a peer last became reachable or ceased to be
  #unreachable: ReadonlySet<Ipv4> = new Set(); // BOUNDED: by the peers

  /** `pool` has the overlay's addresses, which no client outside has. */
  constructor(flows: FlowTable, pool: Cidr) {
    this.#flows = flows;
    this.#pool = pool;
  }

  /** The VTEPs whose flows the agent is to carry. */
  get avoided(): Ipv4[] {
    return [...this.#peers].filter(([, { untilMs }]) => untilMs > 0).map(([vtep]) => vtep);
  }

  /** An entry in the lane, whose reading the flow table does not have yet. */
  see(entry: number, version: number, reading: LaneReading, nowMs: number): void {
    const flows = this.#flows;
    if (flows.protocolOf(entry) !== Protocol.Tcp) return;
    const isSent = flows.fromOf(entry) === DEVICE;
    if (isSent && flows.toOf(entry) === DEVICE) return;
    const acknowledged = flows.acknowledgedOf(entry);
    if (isSent) {
      if (((reading.nextSequence - acknowledged) | 0) <= 0) this.#suspects.delete(entry);
      else this.#suspect(entry, version, acknowledged, nowMs);
      return;
    }
    const hasGotOn = ((reading.acknowledgment - flows.acknowledgedOf(entry ^ 1)) | 0) > 0;
    if (hasGotOn && (flows.rideOf(entry) & rideBit(entry ^ 1)) !== 0) this.#progressMs.set(flows.fromOf(entry), nowMs);
    const packets = (reading.packets - flows.carriedPacketsOf(entry)) | 0;
    const bytes = reading.bytes - flows.carriedBytesOf(entry);
    const { nextSequence } = reading;
    const isRepeated = packets > 0 && bytes > PAYLOAD_ABOVE_BYTES * packets && nextSequence === acknowledged;
    if (isRepeated && nextSequence === flows.nextSequenceOf(entry)) this.#suspect(entry, version, nextSequence, nowMs);
  }

  /** After each whole walk. Returns whether flows have left the lane, whose entries the next walk takes out. */
  walked(nowMs: number): boolean {
    for (const [entry, trial] of this.#trials) this.#judge(entry, trial, nowMs);
    let haveLeft = false;
    for (const [entry, suspect] of this.#suspects) {
      suspect.before ??= this.#carried(entry);
      if (!this.#isStill(entry, suspect)) this.#suspects.delete(entry);
      else if (nowMs - suspect.sinceMs >= STALL_MS && this.#flows.packetsOf(entry) !== suspect.before.packets) {
        this.#suspects.delete(entry);
        this.#bar(entry, suspect.version);
        this.#trials.set(entry, { ...suspect, triedMs: nowMs });
        haveLeft = true;
      }
    }
    this.#tryAgain(nowMs);
    return haveLeft;
  }

  /** The VTEPs that probes do not reach are these now. */
  setUnreachable(vteps: readonly Ipv4[], nowMs: number): void {
    const before = this.#unreachable;
    this.#unreachable = new Set(vteps);
    for (const vtep of setChanges(before, this.#unreachable)) this.#turnedMs.set(vtep, nowMs);
  }

  /** No peer is avoided any more, and no flow is on trial: what the lane was at fault with before says nothing of it from now on. */
  forget(): void {
    for (const [entry, { version }] of this.#trials) this.#release(entry, version);
    this.#trials.clear();
    this.#suspects.clear();
    this.#peers.clear();
    this.onAvoid();
  }

  #suspect(entry: number, version: number, number: number, nowMs: number): void {
    const present = this.#suspects.get(entry);
    if (present?.version === version && present.number === number) return;
    if (present === undefined && this.#suspects.size >= MOST_SUSPECTS) return;
    this.#suspects.set(entry, { version, sinceMs: nowMs, number, before: undefined });
  }

  #carried(entry: number): Carried {
    const flows = this.#flows;
    const other = entry ^ 1;
    return {
      packets: flows.packetsOf(entry),
      otherPackets: flows.packetsOf(other),
      otherBytes: flows.bytesOf(other),
      otherNumber: flows.nextSequenceOf(other),
    };
  }

  #vtepOf(entry: number): Ipv4 {
    return this.#flows.fromOf(entry) || this.#flows.toOf(entry);
  }

  /** Whether the flow is the one that was suspected, its peer up all the time. */
  #isWatched(entry: number, { version, sinceMs }: Suspect): boolean {
    const vtep = this.#vtepOf(entry);
    const hasTurned = (this.#turnedMs.get(vtep) ?? Number.NEGATIVE_INFINITY) >= sinceMs;
    return this.#flows.isCurrent(entry, version) && !hasTurned && !this.#unreachable.has(vtep);
  }

  #hasMoved(entry: number, { number }: Suspect): boolean {
    const flows = this.#flows;
    const isSent = flows.fromOf(entry) === DEVICE;
    return number !== (isSent ? flows.acknowledgedOf(entry) : flows.nextSequenceOf(entry));
  }

  #isStill(entry: number, suspect: Suspect): boolean {
    if (!this.#isWatched(entry, suspect) || this.#hasMoved(entry, suspect)) return false;
    return this.#flows.fromOf(entry) !== DEVICE || this.#isUnheard(entry, suspect.before!);
  }

  /** Whether nothing came back that shows that the peer has got something: no acknowledgment, nothing but what it sent before. */
  #isUnheard(entry: number, { otherPackets, otherBytes, otherNumber }: Carried): boolean {
    const now = this.#carried(entry);
    const packets = now.otherPackets - otherPackets;
    if (packets === 0) return true;
    return now.otherBytes - otherBytes > PAYLOAD_ABOVE_BYTES * packets && now.otherNumber === otherNumber;
  }

  #judge(entry: number, trial: Trial, nowMs: number): void {
    const isWatched = this.#isWatched(entry, trial);
    if (isWatched && !this.#hasMoved(entry, trial) && nowMs - trial.triedMs < TRY_MS) return;
    this.#trials.delete(entry);
    const vtep = this.#vtepOf(entry);
    const isConvicted = isWatched && this.#hasMoved(entry, trial);
    if (isConvicted) this.#convict(entry, vtep, trial, nowMs);
    // A flow that alone has stalled stays with the agent; one whose peer is avoided may try again together with it.
    if (!isConvicted || this.avoided.includes(vtep)) this.#release(entry, trial.version);
  }

  #convict(entry: number, vtep: Ipv4, { sinceMs }: Trial, nowMs: number): void {
    this.stalled++;
    const isOutside = !contains(this.#pool, this.#flows.sourceOf(entry & ~1));
    const othersGotOn = (this.#progressMs.get(vtep) ?? Number.NEGATIVE_INFINITY) > sinceMs;
    if (isOutside && othersGotOn) return;
    let peer = this.#peers.get(vtep);
    if (peer === undefined) {
      peer = { flows: 0, lastMs: nowMs, untilMs: 0, avoidedMs: 0 };
      this.#peers.set(vtep, peer);
    }
    peer.flows++;
    peer.lastMs = nowMs;
    if (peer.untilMs > 0 || (peer.flows < 2 && (othersGotOn || isOutside))) return;
    peer.avoidedMs = Math.min(MOST_AVOIDED_MS, 2 * peer.avoidedMs || FIRST_AVOIDED_MS);
    peer.untilMs = nowMs + peer.avoidedMs;
    this.onAvoid();
  }

  #tryAgain(nowMs: number): void {
    let isOver = false;
    for (const [vtep, peer] of this.#peers) {
      if (peer.untilMs > 0 && nowMs >= peer.untilMs) {
        peer.untilMs = 0;
        peer.flows = 1; // one more is enough
        peer.lastMs = nowMs;
        isOver = true;
      } else if (peer.untilMs === 0 && nowMs - peer.lastMs > Math.max(TOGETHER_MS, peer.avoidedMs))
        this.#peers.delete(vtep);
    }
    if (isOver) this.onAvoid();
  }

  /** The flow leaves the lane, and does not enter it. */
  #bar(entry: number, version: number): void {
    const flows = this.#flows;
    flows.lock();
    if (flows.isCurrent(entry, version)) {
      flows.removeRide(entry, Ride.Both);
      flows.addRide(entry, Ride.Stalled);
    }
    flows.unlock();
  }

  /** The flow may enter the lane at its next packet. */
  #release(entry: number, version: number): void {
    const flows = this.#flows;
    flows.lock();
    if (flows.isCurrent(entry, version)) flows.removeRide(entry, Ride.Stalled);
    flows.unlock();
  }
}
