// The words that say what of a flow is in the express lane (express-flows.ts). They are in the reply entry, of both directions, where the
// original entry has words that a reply does without; so a file of a version without the lane has zeros here. All of them change
// under the table's lock.
import { ENTRY_WORDS, FlowEntries } from "./flow-entries.ts";

const RIDE = 11;
const GROUND_SUM = 12;
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
  /** Whether the flow may ride is judged, under the grounds whose sum is groundSumOf(). */
  Judged: 4,
  /** It may not. */
  Barred: 8,
  /** A packet of the flow has come from a peer since it was judged: the peer's lane takes what this node's lane sends. */
  Heard: 16,
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

  /** The sum of the counters of the flow's grounds, as it was when its Ride bits were set. */
  groundSumOf(entry: number): number {
    return this.words[(entry | 1) * ENTRY_WORDS + GROUND_SUM]!;
  }

  addRide(entry: number, bits: number): void {
    this.words[(entry | 1) * ENTRY_WORDS + RIDE]! |= bits;
  }

  removeRide(entry: number, bits: number): void {
    this.words[(entry | 1) * ENTRY_WORDS + RIDE]! &= ~bits;
  }

  /** Notes the judgment under the grounds with this sum. The bits of directions in the lane stay: their entries are still to be taken out. */
  setJudged(entry: number, barred: boolean, groundSum: number): void {
    const at = (entry | 1) * ENTRY_WORDS;
    this.words[at + RIDE] = (this.words[at + RIDE]! & Ride.Both) | Ride.Judged | (barred ? Ride.Barred : 0);
    this.words[at + GROUND_SUM] = groundSum;
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
