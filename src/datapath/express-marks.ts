// The words that say what of a flow is in the express lane (express-flows.ts). They are in the reply entry, of both directions, where the
// original entry has words that a reply does without; so a file of a version without the lane has zeros here. All of them change
// under the table's lock.
import { ENTRY_WORDS, FlowEntries } from "./flow-entries.ts";

const RIDE = 11;
const JUDGED_BY = 12;
const PACKETS = 25; // and the next word: the original's, the reply's
const BYTES_LOW = 27; // and the next word
const BYTES_HIGH = 29; // 16 bits of the original, 16 of the reply

const WORD = 2 ** 32;
const HIGHEST_BYTES = 2 ** 48;

/** The bits of rideOf(). */
export const Ride = {
  None: 0,
  /** The lane may have an entry for the original direction, or for the reply's. */
  Original: 1,
  Reply: 2,
  Both: 3,
  /** Whether the flow may ride is judged; isJudged() says whether that still holds. */
  Judged: 4,
  /** It may not. */
  Barred: 8,
  /** A packet of the flow has come from a peer since it was judged: the peer's lane takes what this node's lane sends. */
  Heard: 16,
  /** The lane had no room for an entry of the flow, or no link that it goes by. */
  Refused: 32,
  /** It stalled in the lane, and is kept out of it (lane-stalls.ts). */
  Stalled: 64,
} as const;

/** The bit of an entry's own direction. */
export function rideBit(entry: number): number {
  return (entry & 1) === 0 ? Ride.Original : Ride.Reply;
}

export class ExpressMarks extends FlowEntries {
  /** What the last takeCarried() found that was new. */
  newPackets = 0;
  newBytes = 0;

  rideOf(entry: number): number {
    return this.words[(entry | 1) * ENTRY_WORDS + RIDE]!;
  }

  /** Whether the flow is still the one with this version, and this direction is to be in the lane. */
  isRiding(entry: number, version: number): boolean {
    return this.isCurrent(entry, version) && (this.rideOf(entry) & rideBit(entry)) !== 0;
  }

  /** The sum of the counters of the flow's grounds, as it was when the flow was found to be one that may ride. */
  groundSumOf(entry: number): number {
    return this.words[(entry | 1) * ENTRY_WORDS + JUDGED_BY]!;
  }

  /**
   * Whether the flow's judgment holds. That it may ride holds while its grounds have this sum. That it may not holds until the tables
   * change, for rows that come take no ground away: `revision` is that of the tables (tables.ts).
   */
  isJudged(entry: number, groundSum: number, revision: number): boolean {
    const ride = this.rideOf(entry);
    const by = (ride & Ride.Barred) === 0 ? groundSum : revision;
    return (ride & Ride.Judged) !== 0 && this.words[(entry | 1) * ENTRY_WORDS + JUDGED_BY] === by;
  }

  addRide(entry: number, bits: number): void {
    this.words[(entry | 1) * ENTRY_WORDS + RIDE]! |= bits;
  }

  removeRide(entry: number, bits: number): void {
    this.words[(entry | 1) * ENTRY_WORDS + RIDE]! &= ~bits;
  }

  /** Notes that the flow may ride. The bits of directions in the lane stay: their entries are still to be taken out. */
  admit(entry: number, groundSum: number): void {
    this.#setJudged(entry, Ride.Judged, groundSum);
  }

  /** Notes that the flow may not ride; the bits stay, as in admit(). */
  bar(entry: number, revision: number): void {
    this.#setJudged(entry, Ride.Judged | Ride.Barred, revision);
  }

  #setJudged(entry: number, bits: number, by: number): void {
    const at = (entry | 1) * ENTRY_WORDS;
    this.words[at + RIDE] = (this.words[at + RIDE]! & (Ride.Both | Ride.Stalled)) | bits;
    this.words[at + JUDGED_BY] = by;
  }

  /** Notes that the entry is not in the lane. */
  unmark(entry: number): void {
    this.removeRide(entry, rideBit(entry));
  }

  /** Notes that the lane has not taken the entry. */
  refuse(entry: number): void {
    this.unmark(entry);
    this.addRide(entry, Ride.Refused);
  }

  /** Forgets which of the flows below this number may not ride: revisions of an earlier agent's tables say nothing to this one, nor do flows that stalled in its lane. */
  forgetBarred(flows: number): void {
    for (let original = 0; original < 2 * flows; original += 2) {
      this.removeRide(original, Ride.Stalled);
      if ((this.rideOf(original) & Ride.Barred) !== 0) this.removeRide(original, Ride.Judged | Ride.Barred);
    }
  }

  /**
   * Forgets what is in the lane of the flows below this number, and how they were judged: for a lane that begins anew, whose counters of
   * grounds do too, and for an agent without one. What was carried stays counted.
   */
  clearRides(flows: number): void {
    for (let original = 0; original < 2 * flows; original += 2) this.removeRide(original, ~Ride.None);
  }

  /** Packets that the lane has carried in this direction, as far as it was asked. An entry that enters again counts on from here. */
  carriedPacketsOf(entry: number): number {
    return this.words[(entry | 1) * ENTRY_WORDS + PACKETS + (entry & 1)]! >>> 0;
  }

  /** Bytes that the lane has carried, as carriedPacketsOf(); up to 2^48. */
  carriedBytesOf(entry: number): number {
    const at = (entry | 1) * ENTRY_WORDS;
    const high = (this.words[at + BYTES_HIGH]! >>> (16 * (entry & 1))) & 0xffff;
    return high * WORD + (this.words[at + BYTES_LOW + (entry & 1)]! >>> 0);
  }

  /** Takes over the lane's counters of this direction. The fields say what is new in them: nothing in a reading that is older than the last. */
  takeCarried(entry: number, packets: number, bytes: number): void {
    const more = (packets - this.carriedPacketsOf(entry)) | 0;
    this.newPackets = this.newBytes = 0;
    if (more <= 0) return;
    const low = bytes % HIGHEST_BYTES;
    this.newPackets = more;
    this.newBytes = (low - this.carriedBytesOf(entry) + HIGHEST_BYTES) % HIGHEST_BYTES;
    const at = (entry | 1) * ENTRY_WORDS;
    const shift = 16 * (entry & 1);
    this.words[at + PACKETS + (entry & 1)] = packets | 0;
    this.words[at + BYTES_LOW + (entry & 1)] = low | 0;
    const others = this.words[at + BYTES_HIGH]! & ~(0xffff << shift);
    this.words[at + BYTES_HIGH] = others | (Math.floor(low / WORD) << shift);
  }

  /** Packets of this direction, those in the lane too. */
  override packetsOf(entry: number): number {
    return super.packetsOf(entry) + this.carriedPacketsOf(entry);
  }

  override bytesOf(entry: number): number {
    return super.bytesOf(entry) + this.carriedBytesOf(entry);
  }
}
