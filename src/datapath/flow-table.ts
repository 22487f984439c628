// The flow table: every tracked connection as two entries of 128 bytes, original and reply, in memory that may be
// mapped from a file and so outlives the process.
//
//   header | index: open addressing, linear probing | entries: flow f has 2f (original) and 2f + 1 (reply)
//
// A flow is either free, or unreplied (on the list from oldest to newest, which a full table evicts from), or
// replied. An entry's key says how its packets arrive; how they leave follows from the other entry's key, turned
// round. Which words may be read: those of a flow found by find(); the rest belong to the table.
//
// Several workers share one table. Who makes or removes flows holds the lock; who looks one up does not. A flow is
// written before it is in the index, and its version changes when it is removed, before it is written anew and when it
// is published: a reader takes the version with the entry, reads what it needs, and then asks isCurrent(). A look-up may
// miss a flow while another worker closes a gap in the index: only a miss under the lock is one. And it may find one
// that was removed just now, whole until it is written anew: so state and timeout change under the lock, and only a
// live flow's.
// BOUNDED: by `capacity` flows; keyed by zone, protocol, addresses and ports.
import type { Ipv4 } from "../lib/ip.ts";

const MAGIC = 0x4f564c46;
const LAYOUT = 1;
const HEADER_WORDS = 32;
const ENTRY_WORDS = 32;

// Header words.
const H_MAGIC = 0;
const H_LAYOUT = 1;
const H_CAPACITY = 2;
const H_SEED = 3;
/** Flows in use. */
const H_COUNT = 4;
/** First free flow of the chain + 1. */
const H_FREE = 5;
/** Flows from here on were never used. */
const H_FRESH = 6;
/** Oldest and newest unreplied flow + 1. */
const H_OLDEST = 7;
const H_NEWEST = 8;
/** 1: somebody makes or removes flows. */
const H_LOCK = 9;

// Entry words. The key is words 1 to 10.
const HASH = 0;
const SOURCE = 1; // 4 words, IPv4 mapped (RFC 4291 section 2.5.5.2)
const DESTINATION = 5;
const PORTS = 9;
const ZONE = 10; // zone << 8 | protocol
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
// Only in the original entry: the flow's own.
const FLOW_STATE = 24;
const SERVICE = 25;
const CREATED = 26;
const NEWER = 27; // the next newer unreplied flow + 1, or the next free one
const OLDER = 28;
const VERSION = 29;

const MAPPED = 0xffff;
/** The epoch of no tables: whatever is in force, the flow is checked against it. */
const NEVER = 0;

/** Flow states, word FLOW_STATE's low byte. TCP's are those that nf_conntrack names. */
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

export class FlowTable {
  readonly capacity: number;
  readonly #words: Int32Array;
  readonly #header: Int32Array;
  readonly #index: Int32Array;
  readonly #mask: number;
  readonly #seed: number;
  /** The version of the flow that the last find() found. */
  foundVersion = 0;

  /** Bytes of memory that a table of `capacity` flows takes. */
  static bytesFor(capacity: number): number {
    return 4 * (HEADER_WORDS + indexSlots(capacity) + capacity * 2 * ENTRY_WORDS);
  }

  /** For a table that another worker opened: the same memory, as this thread sees it. */
  static join(buffer: ArrayBuffer, capacity: number): FlowTable {
    return new FlowTable(buffer, capacity, undefined);
  }

  /**
   * Takes up the table that is in `buffer`, or makes an empty one. `seed` keys the hash of a new one, so that
   * nobody outside can choose colliding flows. Throws RangeError when the buffer is too small.
   */
  static open(buffer: ArrayBuffer, capacity: number, seed: number): FlowTable {
    return new FlowTable(buffer, capacity, seed);
  }

  private constructor(buffer: ArrayBuffer, capacity: number, seed: number | undefined) {
    const slots = indexSlots(capacity);
    this.capacity = capacity;
    this.#header = new Int32Array(buffer, 0, HEADER_WORDS);
    this.#index = new Int32Array(buffer, 4 * HEADER_WORDS, slots);
    this.#words = new Int32Array(buffer, 4 * (HEADER_WORDS + slots), capacity * 2 * ENTRY_WORDS);
    this.#mask = slots - 1;
    const isWhole = this.#isWhole();
    if (!isWhole && seed === undefined) throw new RangeError("there is no flow table to join");
    this.#seed = isWhole ? this.#header[H_SEED]! : seed! | 0;
    if (!isWhole) this.#clear();
    else if (seed !== undefined) this.#rebuild();
  }

  get size(): number {
    return this.#header[H_COUNT]!;
  }

  /** Flows below this number may be in use; the rest never were. */
  get highWater(): number {
    return this.#header[H_FRESH]!;
  }

  /** The entry with this key, or -1. Hot path: must not allocate. */
  find(zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): number {
    const hash = this.hash(zone, protocol, source, destination, ports);
    const zoneWord = (zone << 8) | protocol;
    const words = this.#words;
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const found = this.#index[slot]!;
      if (found === 0) return -1;
      const at = (found - 1) * ENTRY_WORDS;
      this.foundVersion = words[((found - 1) & ~1) * ENTRY_WORDS + VERSION]!;
      if (
        words[at + HASH] === hash &&
        words[at + SOURCE + 3] === source &&
        words[at + DESTINATION + 3] === destination &&
        words[at + PORTS] === ports &&
        words[at + ZONE] === zoneWord &&
        words[at + SOURCE + 2] === MAPPED &&
        words[at + DESTINATION + 2] === MAPPED
      )
        return found - 1;
    }
  }

  hash(zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): number {
    let h = this.#seed ^ Math.imul(source, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15) ^ destination, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13) ^ ports, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 16) ^ ((zone << 8) | protocol), 0x27d4eb2f);
    return h ^ (h >>> 15);
  }

  /** Whether the flow is still the one that was found with this version: what was read of it since is its own. */
  isCurrent(entry: number, version: number): boolean {
    return Atomics.load(this.#words, (entry & ~1) * ENTRY_WORDS + VERSION) === version;
  }

  /** Waits until no other worker makes or removes flows: a microsecond, unless its thread was put aside. */
  lock(): void {
    while (Atomics.compareExchange(this.#header, H_LOCK, 0, 1) !== 0);
  }

  unlock(): void {
    Atomics.store(this.#header, H_LOCK, 0);
  }

  /**
   * Takes a free flow and writes its keys; -1 when the table is full. Under the lock, by a caller that has made sure
   * that neither key is in the table, sets the rest of both entries and then calls publish(). Returns the original
   * entry; the reply's is the next.
   */
  reserve(
    zone: number,
    protocol: number,
    source: Ipv4,
    destination: Ipv4,
    ports: number,
    replyZone: number,
    replySource: Ipv4,
    replyDestination: Ipv4,
    replyPorts: number,
  ): number {
    const flow = this.#take();
    if (flow < 0) return -1;
    const original = 2 * flow;
    Atomics.add(this.#words, original * ENTRY_WORDS + VERSION, 1);
    this.#write(original, zone, protocol, source, destination, ports);
    this.#write(original + 1, replyZone, protocol, replySource, replyDestination, replyPorts);
    return original;
  }

  /** Puts a reserved flow in the table, in this state. Under the lock. */
  publish(original: number, state: FlowState): void {
    this.#words[original * ENTRY_WORDS + FLOW_STATE] = state;
    if (state === FlowState.Unreplied || state === FlowState.SynSent) this.#appendUnreplied(original >>> 1);
    Atomics.add(this.#words, original * ENTRY_WORDS + VERSION, 1);
    this.#link(original);
    this.#link(original + 1);
    this.#header[H_COUNT]!++;
  }

  /** Takes the flow out, by either of its entries, if it is still the one with this version. */
  remove(entry: number, version: number): void {
    this.lock();
    if (this.isCurrent(entry, version)) this.removeLocked(entry);
    this.unlock();
  }

  /** As remove(), for who holds the lock. */
  removeLocked(entry: number): void {
    const original = entry & ~1;
    if (this.stateOf(original) === FlowState.Free) return;
    const at = original * ENTRY_WORDS;
    Atomics.add(this.#words, at + VERSION, 1);
    this.#unlink(original);
    this.#unlink(original + 1);
    this.#takeFromUnreplied(original >>> 1);
    this.#words[at + FLOW_STATE] = FlowState.Free;
    this.#words[at + NEWER] = this.#header[H_FREE]!;
    this.#header[H_FREE] = (original >>> 1) + 1;
    this.#header[H_COUNT]!--;
  }

  /** The flow that waits longest for its first reply, as its original entry; -1 when none does. */
  oldestUnreplied(): number {
    const oldest = this.#header[H_OLDEST]!;
    return oldest === 0 ? -1 : 2 * (oldest - 1);
  }

  /**
   * Moves the flow on, if it is still the one with this version. A reply, which `entry` tells, takes it from those that
   * a full table evicts.
   */
  changeState(entry: number, version: number, state: FlowState, timeoutSeconds: number): void {
    this.lock();
    if (this.isCurrent(entry, version) && this.stateOf(entry) !== FlowState.Free) {
      if ((entry & 1) === 1) this.#takeFromUnreplied(entry >>> 1);
      this.#words[(entry & ~1) * ENTRY_WORDS + FLOW_STATE] = state;
      this.setTimeout(entry, timeoutSeconds);
    }
    this.unlock();
  }

  versionOf(entry: number): number {
    return Atomics.load(this.#words, (entry & ~1) * ENTRY_WORDS + VERSION);
  }

  // The words of an entry.

  stateOf(entry: number): FlowState {
    return this.#words[(entry & ~1) * ENTRY_WORDS + FLOW_STATE]! as FlowState;
  }
  sourceOf(entry: number): Ipv4 {
    return this.#words[entry * ENTRY_WORDS + SOURCE + 3]!;
  }
  destinationOf(entry: number): Ipv4 {
    return this.#words[entry * ENTRY_WORDS + DESTINATION + 3]!;
  }
  portsOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + PORTS]!;
  }
  zoneOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + ZONE]! >>> 8;
  }
  protocolOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + ZONE]! & 0xff;
  }
  hashOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + HASH]!;
  }
  /** The VTEP its packets must come from; 0: the device. */
  fromOf(entry: number): Ipv4 {
    return this.#words[entry * ENTRY_WORDS + FROM]!;
  }
  /** The VTEP its packets go to; 0: the device. */
  toOf(entry: number): Ipv4 {
    return this.#words[entry * ENTRY_WORDS + TO]!;
  }
  vniOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + VNI]!;
  }
  addressDeltaOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + ADDRESS_DELTA]!;
  }
  portDeltaOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + PORT_DELTA]!;
  }
  setPath(entry: number, from: Ipv4, to: Ipv4, vni: number): void {
    const at = entry * ENTRY_WORDS;
    this.#words[at + FROM] = from;
    this.#words[at + TO] = to;
    this.#words[at + VNI] = vni;
  }
  setDeltas(entry: number, addressDelta: number, portDelta: number): void {
    const at = entry * ENTRY_WORDS;
    this.#words[at + ADDRESS_DELTA] = addressDelta;
    this.#words[at + PORT_DELTA] = portDelta;
  }
  epochOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + EPOCH]!;
  }
  setEpoch(entry: number, epoch: number): void {
    this.#words[entry * ENTRY_WORDS + EPOCH] = epoch;
  }
  /** The VIP that the flow was balanced from; 0: none. */
  vipOf(entry: number): Ipv4 {
    return this.#words[(entry & ~1) * ENTRY_WORDS + SERVICE]!;
  }
  setVip(entry: number, vip: Ipv4): void {
    this.#words[(entry & ~1) * ENTRY_WORDS + SERVICE] = vip;
  }
  createdOf(entry: number): number {
    return this.#words[(entry & ~1) * ENTRY_WORDS + CREATED]!;
  }
  setCreated(entry: number, seconds: number): void {
    this.#words[(entry & ~1) * ENTRY_WORDS + CREATED] = seconds;
  }
  /** When either direction last saw a packet, in seconds. */
  lastSeenOf(entry: number): number {
    return this.#words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN]!;
  }
  setLastSeen(entry: number, seconds: number): void {
    this.#words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN] = seconds;
  }
  timeoutOf(entry: number): number {
    return this.#words[(entry & ~1) * ENTRY_WORDS + TIMEOUT]!;
  }
  setTimeout(entry: number, seconds: number): void {
    this.#words[(entry & ~1) * ENTRY_WORDS + TIMEOUT] = seconds;
  }
  /** Of TCP: the sequence number after the last that this direction sent. */
  nextSequenceOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + NEXT_SEQUENCE]!;
  }
  setNextSequence(entry: number, sequence: number): void {
    this.#words[entry * ENTRY_WORDS + NEXT_SEQUENCE] = sequence;
  }
  packetsOf(entry: number): number {
    return this.#words[entry * ENTRY_WORDS + PACKETS]! >>> 0;
  }
  bytesOf(entry: number): number {
    const at = entry * ENTRY_WORDS;
    return (this.#words[at + BYTES_HIGH]! >>> 0) * 4294967296 + (this.#words[at + BYTES_LOW]! >>> 0);
  }

  /** Counts packets of `bytes` together in this direction, seen at `seconds`. */
  count(entry: number, packets: number, bytes: number, seconds: number): void {
    const words = this.#words;
    const at = entry * ENTRY_WORDS;
    words[(entry & ~1) * ENTRY_WORDS + LAST_SEEN] = seconds;
    words[at + PACKETS] = (words[at + PACKETS]! + packets) | 0;
    const low = words[at + BYTES_LOW]!;
    const sum = (low + bytes) | 0;
    words[at + BYTES_LOW] = sum;
    if (sum >>> 0 < low >>> 0) words[at + BYTES_HIGH] = (words[at + BYTES_HIGH]! + 1) | 0;
  }

  #write(entry: number, zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): void {
    const words = this.#words;
    const at = entry * ENTRY_WORDS;
    words.fill(0, at, at + VERSION); // the version goes on counting
    words[at + HASH] = this.hash(zone, protocol, source, destination, ports);
    words[at + SOURCE + 2] = MAPPED;
    words[at + SOURCE + 3] = source;
    words[at + DESTINATION + 2] = MAPPED;
    words[at + DESTINATION + 3] = destination;
    words[at + PORTS] = ports;
    words[at + ZONE] = (zone << 8) | protocol;
  }

  #take(): number {
    const free = this.#header[H_FREE]!;
    if (free !== 0) {
      this.#header[H_FREE] = this.#words[(free - 1) * 2 * ENTRY_WORDS + NEWER]!;
      return free - 1;
    }
    const fresh = this.#header[H_FRESH]!;
    if (fresh === this.capacity) return -1;
    this.#header[H_FRESH] = fresh + 1;
    return fresh;
  }

  #link(entry: number): void {
    let slot = this.hashOf(entry) & this.#mask;
    while (this.#index[slot] !== 0) slot = (slot + 1) & this.#mask;
    Atomics.store(this.#index, slot, entry + 1);
  }

  /** Takes an entry out of the index and closes the gap, so that probing needs no tombstones. */
  #unlink(entry: number): void {
    let gap = this.hashOf(entry) & this.#mask;
    while (this.#index[gap] !== entry + 1) gap = (gap + 1) & this.#mask;
    for (let slot = gap; ; ) {
      slot = (slot + 1) & this.#mask;
      const next = this.#index[slot]!;
      if (next === 0) break;
      const home = this.hashOf(next - 1) & this.#mask;
      // It may move into the gap unless its home lies between the gap and where it is.
      if (((slot - home) & this.#mask) < ((slot - gap) & this.#mask)) continue;
      this.#index[gap] = next;
      gap = slot;
    }
    this.#index[gap] = 0;
  }

  #appendUnreplied(flow: number): void {
    const header = this.#header;
    const newest = header[H_NEWEST]!;
    const at = flow * 2 * ENTRY_WORDS;
    this.#words[at + OLDER] = newest;
    this.#words[at + NEWER] = 0;
    if (newest === 0) header[H_OLDEST] = flow + 1;
    else this.#words[(newest - 1) * 2 * ENTRY_WORDS + NEWER] = flow + 1;
    header[H_NEWEST] = flow + 1;
  }

  #takeFromUnreplied(flow: number): void {
    const header = this.#header;
    const words = this.#words;
    const at = flow * 2 * ENTRY_WORDS;
    const older = words[at + OLDER]!;
    const newer = words[at + NEWER]!;
    if (older === 0 && header[H_OLDEST] !== flow + 1) return; // not on the list
    if (older === 0) header[H_OLDEST] = newer;
    else words[(older - 1) * 2 * ENTRY_WORDS + NEWER] = newer;
    if (newer === 0) header[H_NEWEST] = older;
    else words[(newer - 1) * 2 * ENTRY_WORDS + OLDER] = older;
    words[at + OLDER] = 0;
    words[at + NEWER] = 0;
  }

  #isWhole(): boolean {
    const header = this.#header;
    const fresh = header[H_FRESH]!;
    return (
      header[H_MAGIC] === MAGIC &&
      header[H_LAYOUT] === LAYOUT &&
      header[H_CAPACITY] === this.capacity &&
      fresh >= 0 &&
      fresh <= this.capacity
    );
  }

  #clear(): void {
    this.#header.fill(0);
    this.#index.fill(0);
    this.#header[H_LAYOUT] = LAYOUT;
    this.#header[H_CAPACITY] = this.capacity;
    this.#header[H_SEED] = this.#seed;
    this.#header[H_MAGIC] = MAGIC;
  }

  /** Makes index, lists and count anew from the entries: a process that was killed may have left them half done. */
  #rebuild(): void {
    const header = this.#header;
    this.#index.fill(0);
    header[H_COUNT] = header[H_FREE] = header[H_OLDEST] = header[H_NEWEST] = header[H_LOCK] = 0;
    for (let flow = 0; flow < header[H_FRESH]!; flow++) {
      const original = flow * 2;
      const at = original * ENTRY_WORDS;
      const state = this.#words[at + FLOW_STATE]!;
      this.#words[at + NEWER] = this.#words[at + OLDER] = 0;
      this.setEpoch(original, NEVER);
      this.setEpoch(original + 1, NEVER);
      if (state <= FlowState.Free || state > FlowState.Closed || !this.#hasItsHash(original)) {
        this.#words[at + FLOW_STATE] = FlowState.Free;
        this.#words[at + NEWER] = header[H_FREE]!;
        header[H_FREE] = flow + 1;
        continue;
      }
      if (state === FlowState.Unreplied || state === FlowState.SynSent) this.#appendUnreplied(flow);
      this.#link(original);
      this.#link(original + 1);
      header[H_COUNT]!++;
    }
  }

  #hasItsHash(original: number): boolean {
    for (let entry = original; entry <= original + 1; entry++) {
      const hash = this.hash(
        this.zoneOf(entry),
        this.protocolOf(entry),
        this.sourceOf(entry),
        this.destinationOf(entry),
        this.portsOf(entry),
      );
      if (hash !== this.hashOf(entry)) return false;
    }
    return true;
  }
}

/** Twice the entries or more, a power of two: short probes. */
function indexSlots(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(capacity * 4));
}
