// The flow table: every tracked connection as two entries of 128 bytes, original and reply, in memory that may be
// mapped from a file and so outlives the process.
//
//   header | index: open addressing, linear probing | holders | entries: flow f has 2f (original) and 2f + 1 (reply)
//
// A flow is either free, or a holder's (flow-holders.ts). An entry's key says how its packets arrive; how they leave follows from the other entry's key, turned
// round. Which words may be read: those of a flow found by find(); the rest belong to the table.
//
// Several workers share one table. A worker that makes or removes flows holds the lock; one that looks a flow up does not. A flow is
// written before it is in the index, and its version changes when it is removed, before it is written anew and when it
// is published: a reader takes the version with the entry, reads what it needs, and then asks isCurrent(). A look-up may
// miss a flow while another worker closes a gap in the index: only a miss under the lock is one. And it may find one
// that was removed just now, whole until it is written anew: so state and timeout change under the lock, and only a
// live flow's.
// BOUNDED: by `capacity` flows; keyed by zone, protocol, addresses and ports.
import type { Ipv4 } from "../lib/ip.ts";
import { ExpressMarks, Ride } from "./express-marks.ts";
import * as word from "./flow-entries.ts";
import { ENTRY_WORDS, FlowState } from "./flow-entries.ts";
import { FlowHolders } from "./flow-holders.ts";

const MAGIC = 0x4f564c46;
const LAYOUT = 2;
const HEADER_WORDS = 32;
/** A cache line, 64 bytes. */
const LINE_WORDS = 16;

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
/** 1: a worker makes or removes flows. */
const H_LOCK = 9;
/** The boot of the machine that the flows' clock counts from. */
const H_BOOT = 10;

/** The bit of a version that is set while the flow is in the table: publishing and removing both count it up. */
const PUBLISHED = 1;
const MAPPED = 0xffff;
/** The epoch of no tables: whatever is in force, the flow is checked against it. */
const NEVER = 0;

export class FlowTable extends ExpressMarks {
  readonly capacity: number;
  /** Called under the lock with the original entry of a flow that is removed while the express lane may have entries of it. */
  onRiderRemoved: (original: number) => void = () => {};
  readonly #header: Int32Array;
  readonly #index: Int32Array;
  readonly #holders: FlowHolders;
  readonly #mask: number;
  readonly #seed: number;
  /** The version of the flow that the last find() found. */
  foundVersion = 0;
  /** What touch() has read: without it the compiler would leave the reads out. */
  touched = 0;

  /** Bytes of memory that a table of `capacity` flows takes. */
  static bytesFor(capacity: number): number {
    return 4 * (entriesAt(capacity) + capacity * 2 * ENTRY_WORDS);
  }

  /** For a table that another worker opened: the same memory, as this thread sees it. */
  static join(buffer: ArrayBuffer, capacity: number): FlowTable {
    return new FlowTable(buffer, capacity, undefined, 0);
  }

  /**
   * Takes up the table that is in `buffer`, or makes an empty one; also where the table is of another boot of the machine, which
   * `boot` tells apart: its times are another clock's, and its connections are gone. `seed` keys the hash of a new one, so that
   * no sender can choose colliding flows. Throws RangeError when the buffer is too small.
   */
  static open(buffer: ArrayBuffer, capacity: number, seed: number, boot = 0): FlowTable {
    return new FlowTable(buffer, capacity, seed, boot);
  }

  private constructor(buffer: ArrayBuffer, capacity: number, seed: number | undefined, boot: number) {
    const slots = indexSlots(capacity);
    super(new Int32Array(buffer, 4 * entriesAt(capacity), capacity * 2 * ENTRY_WORDS));
    this.capacity = capacity;
    this.#header = new Int32Array(buffer, 0, HEADER_WORDS);
    this.#index = new Int32Array(buffer, 4 * HEADER_WORDS, slots);
    const holders = new Int32Array(buffer, 4 * (HEADER_WORDS + slots), FlowHolders.wordsFor(capacity));
    this.#holders = new FlowHolders(holders, this.words, capacity);
    this.#mask = slots - 1;
    const isWhole = this.#isWhole() && (seed === undefined || this.#header[H_BOOT] === (boot | 0));
    if (!isWhole && seed === undefined) throw new RangeError("there is no flow table to join");
    this.#seed = isWhole ? this.#header[H_SEED]! : seed! | 0;
    if (!isWhole) this.#clear(boot);
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
    return this.findHashed(
      this.hash(zone, protocol, source, destination, ports),
      zone,
      protocol,
      source,
      destination,
      ports,
    );
  }

  /** As find(), with the hash() of the key. */
  findHashed(hash: number, zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): number {
    const zoneWord = (zone << 8) | protocol;
    const words = this.words;
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const found = this.#index[slot]!;
      if (found === 0) return -1;
      const at = (found - 1) * ENTRY_WORDS;
      this.foundVersion = words[((found - 1) & ~1) * ENTRY_WORDS + word.VERSION]!;
      if (
        words[at + word.HASH] === hash &&
        words[at + word.SOURCE + 3] === source &&
        words[at + word.DESTINATION + 3] === destination &&
        words[at + word.PORTS] === ports &&
        words[at + word.ZONE] === zoneWord &&
        words[at + word.SOURCE + 2] === MAPPED &&
        words[at + word.DESTINATION + 2] === MAPPED &&
        (this.foundVersion & PUBLISHED) !== 0 // else it has been removed, and may be being written anew
      )
        return found - 1;
    }
  }

  /**
   * Where find() looks first for a key with this hash: what touch() takes. With many keys to find, a caller asks this for all of them, then
   * touches all: so the processor waits for the memory of many flows at once, and not for each in turn.
   */
  firstOf(hash: number): number {
    return this.#index[hash & this.#mask]!;
  }

  /** Reads a word of each cache line that findHashed() and the flow's fields will be read from. */
  touch(first: number): void {
    if (first === 0) return;
    const at = ((first - 1) & ~1) * ENTRY_WORDS;
    for (let word = 0; word < 2 * ENTRY_WORDS; word += LINE_WORDS) this.touched ^= this.words[at + word]!;
  }

  hash(zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): number {
    let h = this.#seed ^ Math.imul(source, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15) ^ destination, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13) ^ ports, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 16) ^ ((zone << 8) | protocol), 0x27d4eb2f);
    return h ^ (h >>> 15);
  }

  /** Waits until no other worker makes or removes flows: a microsecond, unless its thread was put aside. */
  lock(): void {
    while (Atomics.compareExchange(this.#header, H_LOCK, 0, 1) !== 0);
  }

  unlock(): void {
    Atomics.store(this.#header, H_LOCK, 0);
  }

  /**
   * Takes a free flow; -1 when the table is full. Under the lock, by a caller that has made sure that neither key is in the table, calls
   * setKey() for both entries, sets the rest of them and then calls publish(). Returns the original entry; the reply's is the next.
   */
  reserve(): number {
    const flow = this.#take();
    if (flow < 0) return -1;
    const original = 2 * flow;
    // The next version that is not published, also after a process was killed between two of these steps.
    Atomics.store(this.words, original * ENTRY_WORDS + word.VERSION, (this.versionOf(original) | PUBLISHED) + 1);
    return original;
  }

  /** Begins an entry of a reserved flow: writes how its packets arrive, and clears the rest. */
  setKey(entry: number, zone: number, protocol: number, source: Ipv4, destination: Ipv4, ports: number): void {
    const words = this.words;
    const at = entry * ENTRY_WORDS;
    words.fill(0, at, at + word.VERSION + (entry & 1)); // the version, which is the original's, goes on counting
    this.setLate(entry, 0, 0);
    words[at + word.HASH] = this.hash(zone, protocol, source, destination, ports);
    words[at + word.SOURCE + 2] = MAPPED;
    words[at + word.SOURCE + 3] = source;
    words[at + word.DESTINATION + 2] = MAPPED;
    words[at + word.DESTINATION + 3] = destination;
    words[at + word.PORTS] = ports;
    words[at + word.ZONE] = (zone << 8) | protocol;
  }

  /** Puts a reserved flow in the table, in this state, as one of `holder`. Under the lock. */
  publish(original: number, state: FlowState, holder = 0): void {
    this.setState(original, state, 0);
    this.setHolder(original, holder);
    this.#holders.add(original >>> 1, this.#holderHash(original), state);
    Atomics.add(this.words, original * ENTRY_WORDS + word.VERSION, 1);
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

  /**
   * Gives what its client sends another destination, under the lock, with the checksum differences that follow from it. No worker that has
   * found the flow before uses it any more without finding it anew.
   */
  renameLocked(original: number, destination: Ipv4, there: number, back: number): void {
    const at = original * ENTRY_WORDS;
    if ((this.rideOf(original) & Ride.Both) !== 0) this.onRiderRemoved(original);
    this.removeRide(original, ~Ride.None);
    Atomics.add(this.words, at + word.VERSION, 1);
    this.#unlink(original);
    this.words[at + word.DESTINATION + 3] = destination;
    const [zone, protocol] = [this.zoneOf(original), this.protocolOf(original)];
    this.words[at + word.HASH] = this.hash(
      zone,
      protocol,
      this.sourceOf(original),
      destination,
      this.portsOf(original),
    );
    this.setDeltas(original, there, this.portDeltaOf(original));
    this.setDeltas(original + 1, back, this.portDeltaOf(original + 1));
    Atomics.add(this.words, at + word.VERSION, 1);
    this.#link(original);
  }

  /** As remove(), under the lock. */
  removeLocked(entry: number): void {
    const original = entry & ~1;
    if (this.stateOf(original) === FlowState.Free) return;
    const at = original * ENTRY_WORDS;
    if ((this.rideOf(original) & Ride.Both) !== 0) this.onRiderRemoved(original);
    Atomics.add(this.words, at + word.VERSION, 1);
    this.#unlink(original);
    this.#unlink(original + 1);
    this.#holders.remove(original >>> 1, this.#holderHash(original), this.stateOf(original));
    this.setState(original, FlowState.Free, 0);
    this.words[at + word.NEWER] = this.#header[H_FREE]!;
    this.#header[H_FREE] = (original >>> 1) + 1;
    this.#header[H_COUNT]!--;
  }

  /** Whether the holder has its share of the table, and gets a new flow only for one of its own. Under the lock. */
  hasItsShare(holder: number): boolean {
    return this.#holders.hasItsShare(this.#hashOfHolder(holder), this.capacity - this.size);
  }

  /** The holder's flow that goes first for a new one of its own, as its original entry; -1 when none may. Under the lock. */
  firstToGo(holder: number): number {
    return originalOf(this.#holders.firstToGo(this.#hashOfHolder(holder)));
  }

  /** The flow that firstToGo() gives for the largest holder that has one. Under the lock. */
  firstOfLargest(): number {
    return originalOf(this.#holders.firstOfLargest());
  }

  /** Moves the flow on, if it is still the one with this version. `fins`: as finsOf(). */
  changeState(entry: number, version: number, state: FlowState, timeoutSeconds: number, fins = 0): void {
    this.lock();
    if (this.isCurrent(entry, version)) this.changeStateLocked(entry, state, timeoutSeconds, fins);
    this.unlock();
  }

  /** As changeState(), under the lock. */
  changeStateLocked(entry: number, state: FlowState, timeoutSeconds: number, fins = 0): void {
    if (this.stateOf(entry) === FlowState.Free) return;
    this.#holders.move(entry >>> 1, this.#holderHash(entry), this.stateOf(entry), state);
    this.setState(entry, state, fins);
    this.setTimeout(entry, timeoutSeconds);
  }

  /** Notes that the tables of this epoch bear the flow out, if it is still the one with this version. */
  moveEpoch(entry: number, version: number, epoch: number): void {
    this.lock();
    if (this.isCurrent(entry, version)) {
      this.setEpoch(entry & ~1, epoch);
      this.setEpoch(entry | 1, epoch);
    }
    this.unlock();
  }

  #take(): number {
    const free = this.#header[H_FREE]!;
    if (free !== 0) {
      this.#header[H_FREE] = this.words[(free - 1) * 2 * ENTRY_WORDS + word.NEWER]!;
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

  #holderHash(entry: number): number {
    return this.#hashOfHolder(this.holderOf(entry));
  }

  #hashOfHolder(holder: number): number {
    return this.hash(0, 0, holder, 0, 0);
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

  #clear(boot: number): void {
    this.#header.fill(0);
    this.#index.fill(0);
    this.#holders.clear();
    this.#header[H_LAYOUT] = LAYOUT;
    this.#header[H_CAPACITY] = this.capacity;
    this.#header[H_SEED] = this.#seed;
    this.#header[H_BOOT] = boot;
    this.#header[H_MAGIC] = MAGIC;
  }

  /** Makes index, lists and count anew from the entries: a process that was killed may have left them half done. */
  #rebuild(): void {
    const header = this.#header;
    this.#index.fill(0);
    this.#holders.clear();
    header[H_COUNT] = header[H_FREE] = header[H_LOCK] = 0;
    for (let flow = 0; flow < header[H_FRESH]!; flow++) {
      const original = flow * 2;
      const at = original * ENTRY_WORDS;
      const state = this.stateOf(original);
      this.words[at + word.NEWER] = this.words[at + word.OLDER] = 0;
      this.setEpoch(original, NEVER);
      this.setEpoch(original + 1, NEVER);
      if (state <= FlowState.Free || state > FlowState.Closed || !this.#hasItsKeys(original)) {
        this.setState(original, FlowState.Free, 0);
        this.words[at + word.VERSION]! &= ~PUBLISHED;
        this.words[at + word.NEWER] = header[H_FREE]!;
        header[H_FREE] = flow + 1;
        continue;
      }
      this.words[at + word.VERSION]! |= PUBLISHED;
      this.#holders.add(flow, this.#holderHash(original), state);
      this.#link(original);
      this.#link(original + 1);
      header[H_COUNT]!++;
    }
  }

  /** Whether both keys are whole. */
  #hasItsKeys(original: number): boolean {
    for (let entry = original; entry <= original + 1; entry++) {
      const at = entry * ENTRY_WORDS;
      if (this.words[at + word.SOURCE + 2] !== MAPPED || this.words[at + word.DESTINATION + 2] !== MAPPED) return false;
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

function originalOf(flow: number): number {
  return flow < 0 ? -1 : 2 * flow;
}

/** Where the entries begin, in words. */
function entriesAt(capacity: number): number {
  return HEADER_WORDS + indexSlots(capacity) + FlowHolders.wordsFor(capacity);
}

/** Twice the entries or more, a power of two: short probes. */
function indexSlots(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(capacity * 4));
}
