// The words of a flow's two entries, 128 bytes each, in memory that several workers see. flow-table.ts says which worker may read and
// write a word, and when.
import type { Ipv4 } from "../lib/ip.ts";

export const ENTRY_WORDS = 32;

// Entry words. The key is words 1 to 10.
export const HASH = 0;
export const SOURCE = 1; // 4 words, IPv4 mapped (RFC 4291 section 2.5.5.2)
export const DESTINATION = 5;
export const PORTS = 9;
export const ZONE = 10; // zone << 8 | protocol
const LAST_SEEN = 11;
const TIMEOUT = 12;
const FROM = 13;
const TO = 14;
const VNI = 15;
const ADDRESS_DELTA = 16;
const PORT_DELTA = 17;
const EPOCH = 18;
const PACKETS = 19;
const BYTES_LOW = 20;
const BYTES_HIGH = 21;
const NEXT_SEQUENCE = 22;
const ACKNOWLEDGED = 23;
// These words are in the original entry only: they are of both directions.
const FLOW_STATE = 24;
const SERVICE = 25;
const CREATED = 26;
export const NEWER = 27; // the next newer flow + 1 of a holder's list, or the next free one
export const OLDER = 28;
export const VERSION = 29;
// This word of the reply entry is of both directions too, as are those of express-marks.ts.
const HOLDER = 24;
// Both entries have these words.
const LATE_END = 30;
const LATE_KIND = 31;

/** Word FLOW_STATE: the state, and which sides have sent their FIN. */
const STATE_MASK = 0xff;
const FINS_SHIFT = 8;

/** Flow states. TCP's are those that nf_conntrack names. */
export const FlowState = {
  Free: 0,
  Unreplied: 1,
  Replied: 2,
  SynSent: 3,
  SynReceived: 4,
  Established: 5,
  FinWait: 6,
  CloseWait: 7,
  LastAck: 8,
  TimeWait: 9,
  Closed: 10,
} as const;
export type FlowState = (typeof FlowState)[keyof typeof FlowState];

export class FlowEntries {
  protected readonly words: Int32Array;

  constructor(words: Int32Array) {
    this.words = words;
  }

  /** Whether the flow is still the one that was found with this version: what was read of it since is its own. */
  isCurrent(entry: number, version: number): boolean {
    return Atomics.load(this.words, (entry & ~1) * ENTRY_WORDS + VERSION) === version;
  }

  versionOf(entry: number): number {
    return Atomics.load(this.words, (entry & ~1) * ENTRY_WORDS + VERSION);
  }

  stateOf(entry: number): FlowState {
    return (this.words[(entry & ~1) * ENTRY_WORDS + FLOW_STATE]! & STATE_MASK) as FlowState;
  }
  /** Which sides have sent their FIN: 1 the original's, 2 the reply's, 3 both. */
  finsOf(entry: number): number {
    return this.words[(entry & ~1) * ENTRY_WORDS + FLOW_STATE]! >>> FINS_SHIFT;
  }
  protected setState(entry: number, state: FlowState, fins: number): void {
    this.words[(entry & ~1) * ENTRY_WORDS + FLOW_STATE] = (fins << FINS_SHIFT) | state;
  }
  /** The holder in whose share of the table the flow is, as FlowTracker names it. */
  holderOf(entry: number): number {
    return this.words[(entry | 1) * ENTRY_WORDS + HOLDER]!;
  }
  protected setHolder(entry: number, holder: number): void {
    this.words[(entry | 1) * ENTRY_WORDS + HOLDER] = holder;
  }
  sourceOf(entry: number): Ipv4 {
    return this.words[entry * ENTRY_WORDS + SOURCE + 3]!;
  }
  destinationOf(entry: number): Ipv4 {
    return this.words[entry * ENTRY_WORDS + DESTINATION + 3]!;
  }
  portsOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + PORTS]!;
  }
  zoneOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + ZONE]! >>> 8;
  }
  protocolOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + ZONE]! & 0xff;
  }
  hashOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + HASH]!;
  }
  /** The VTEP that its packets must come from, or DEVICE. */
  fromOf(entry: number): Ipv4 {
    return this.words[entry * ENTRY_WORDS + FROM]!;
  }
  /** The VTEP that its packets go to, or DEVICE. */
  toOf(entry: number): Ipv4 {
    return this.words[entry * ENTRY_WORDS + TO]!;
  }
  vniOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + VNI]!;
  }
  addressDeltaOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + ADDRESS_DELTA]!;
  }
  portDeltaOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + PORT_DELTA]!;
  }
  setPath(entry: number, from: Ipv4, to: Ipv4, vni: number): void {
    const at = entry * ENTRY_WORDS;
    this.words[at + FROM] = from;
    this.words[at + TO] = to;
    this.words[at + VNI] = vni;
  }
  setDeltas(entry: number, addressDelta: number, portDelta: number): void {
    const at = entry * ENTRY_WORDS;
    this.words[at + ADDRESS_DELTA] = addressDelta;
    this.words[at + PORT_DELTA] = portDelta;
  }
  epochOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + EPOCH]!;
  }
  setEpoch(entry: number, epoch: number): void {
    this.words[entry * ENTRY_WORDS + EPOCH] = epoch;
  }
  /** The VIP that the flow was balanced from; 0: none. */
  vipOf(entry: number): Ipv4 {
    return this.words[(entry & ~1) * ENTRY_WORDS + SERVICE]!;
  }
  setVip(entry: number, vip: Ipv4): void {
    this.words[(entry & ~1) * ENTRY_WORDS + SERVICE] = vip;
  }
  createdOf(entry: number): number {
    return this.words[(entry & ~1) * ENTRY_WORDS + CREATED]!;
  }
  setCreated(entry: number, seconds: number): void {
    this.words[(entry & ~1) * ENTRY_WORDS + CREATED] = seconds;
  }
  /** The second in which either direction last had a packet. */
  lastSeenOf(entry: number): number {
    return this.words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN]!;
  }
  setLastSeen(entry: number, seconds: number): void {
    this.words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN] = seconds;
  }
  timeoutOf(entry: number): number {
    return this.words[(entry & ~1) * ENTRY_WORDS + TIMEOUT]!;
  }
  setTimeout(entry: number, seconds: number): void {
    this.words[(entry & ~1) * ENTRY_WORDS + TIMEOUT] = seconds;
  }
  /** The sequence number after the last that this direction of a TCP flow sent. */
  nextSequenceOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + NEXT_SEQUENCE]!;
  }
  setNextSequence(entry: number, sequence: number): void {
    this.words[entry * ENTRY_WORDS + NEXT_SEQUENCE] = sequence;
  }
  /** The TCP sequence number up to which the other side has acknowledged what this direction sent. */
  acknowledgedOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + ACKNOWLEDGED]!;
  }
  setAcknowledged(entry: number, sequence: number): void {
    this.words[entry * ENTRY_WORDS + ACKNOWLEDGED] = sequence;
  }
  /** The end of the last TCP segment that came out of turn in this direction; lateKindOf() says what it was. */
  lateEndOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + LATE_END]!;
  }
  lateKindOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + LATE_KIND]!;
  }
  setLate(entry: number, end: number, kind: number): void {
    this.words[entry * ENTRY_WORDS + LATE_END] = end;
    this.words[entry * ENTRY_WORDS + LATE_KIND] = kind;
  }
  packetsOf(entry: number): number {
    return this.words[entry * ENTRY_WORDS + PACKETS]! >>> 0;
  }
  bytesOf(entry: number): number {
    const at = entry * ENTRY_WORDS;
    return (this.words[at + BYTES_HIGH]! >>> 0) * 4294967296 + (this.words[at + BYTES_LOW]! >>> 0);
  }

  /** Counts packets of `bytes` together in this direction, seen at `seconds`. */
  count(entry: number, packets: number, bytes: number, seconds: number): void {
    const words = this.words;
    const at = entry * ENTRY_WORDS;
    words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN] = seconds;
    words[at + PACKETS] = (words[at + PACKETS]! + packets) | 0;
    const low = words[at + BYTES_LOW]!;
    const sum = (low + bytes) | 0;
    words[at + BYTES_LOW] = sum;
    if (sum >>> 0 < low >>> 0) words[at + BYTES_HIGH] = (words[at + BYTES_HIGH]! + 1) | 0;
  }
}
