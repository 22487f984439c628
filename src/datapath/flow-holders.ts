// The number of flows that each holder has in a table, and those of them that may go for another of its own: the unanswered ones, and
// those that end. In the table's memory, so that all workers see one count; changed under its lock.
// BOUNDED: by the table's capacity; keyed by the holder's hash. Two holders in one bucket share the part of one. That is
// rare: there are a quarter as many buckets as flows, and no sender knows the seed.
import { ENTRY_WORDS, FlowState, NEWER, OLDER } from "./flow-entries.ts";

/** Flows that may go, the unanswered first. */
const Expendable = { None: -1, Unanswered: 0, Ending: 1 } as const;
type Expendable = (typeof Expendable)[keyof typeof Expendable];

/**
 * While more than an eighth of the table is free, no holder is limited. The last eighth is for all holders in equal parts: a holder
 * that has less than its part always finds room, whatever the others do. With few holders a part is at most a sixteenth of it.
 */
const PART_FOR_ALL = 1 / 8;
const LEAST_HOLDERS = 16;
const FLOWS_PER_BUCKET = 4;
const LEAST_BUCKETS = 4;

// Words of a bucket: the number of flows, then for each list (at 2 * Expendable) its oldest and newest flow + 1; 0: none.
const COUNT = 0;
const OLDEST = 1;
const NEWEST = 2;
const BUCKET_WORDS = 5;
/** The words behind the buckets: one, the number of buckets that have flows. */
const TAIL_WORDS = 1;

export class FlowHolders {
  readonly #words: Int32Array;
  readonly #entries: Int32Array;
  readonly #mask: number;
  readonly #busyAt: number;
  readonly #forAll: number;

  static wordsFor(capacity: number): number {
    return BUCKET_WORDS * bucketsFor(capacity) + TAIL_WORDS;
  }

  /** `words` are the holders' own, `entries` the flows'. */
  constructor(words: Int32Array, entries: Int32Array, capacity: number) {
    this.#words = words;
    this.#entries = entries;
    this.#mask = bucketsFor(capacity) - 1;
    this.#busyAt = words.length - TAIL_WORDS;
    this.#forAll = Math.floor(capacity * PART_FOR_ALL);
  }

  clear(): void {
    this.#words.fill(0);
  }

  /** Whether the holder has its share of a table in which `free` flows are left. */
  hasItsShare(hash: number, free: number): boolean {
    if (free > this.#forAll) return false;
    const part = Math.floor(this.#forAll / Math.max(LEAST_HOLDERS, this.#words[this.#busyAt]!));
    return this.#words[this.#bucket(hash) + COUNT]! >= Math.max(1, part);
  }

  /** Counts a flow of the holder that the table takes. */
  add(flow: number, hash: number, state: FlowState): void {
    if (this.#words[this.#bucket(hash) + COUNT]!++ === 0) this.#words[this.#busyAt]!++;
    this.#append(flow, hash, expendableIn(state));
  }

  /** Takes off a flow that leaves the table, and was in this state. */
  remove(flow: number, hash: number, state: FlowState): void {
    if (--this.#words[this.#bucket(hash) + COUNT]! === 0) this.#words[this.#busyAt]!--;
    this.#take(flow, hash, expendableIn(state));
  }

  move(flow: number, hash: number, before: FlowState, after: FlowState): void {
    const from = expendableIn(before);
    const to = expendableIn(after);
    if (from === to) return;
    this.#take(flow, hash, from);
    this.#append(flow, hash, to);
  }

  /** The flow of the holder that goes first; -1 when none of its flows may go. */
  firstToGo(hash: number): number {
    return this.#firstOf(this.#bucket(hash));
  }

  /** The flow that firstToGo() gives for the largest holder that has one. It looks at every holder: only a full table calls it. */
  firstOfLargest(): number {
    const words = this.#words;
    let largest = 0;
    let flow = -1;
    for (let at = 0; at < this.#busyAt; at += BUCKET_WORDS) {
      if (words[at + COUNT]! <= largest) continue;
      const first = this.#firstOf(at);
      if (first < 0) continue;
      largest = words[at + COUNT]!;
      flow = first;
    }
    return flow;
  }

  #firstOf(bucket: number): number {
    const unanswered = this.#words[bucket + OLDEST]!;
    return (unanswered !== 0 ? unanswered : this.#words[bucket + OLDEST + 2]!) - 1;
  }

  #bucket(hash: number): number {
    return (hash & this.#mask) * BUCKET_WORDS;
  }

  #append(flow: number, hash: number, list: Expendable): void {
    const entries = this.#entries;
    const at = flow * 2 * ENTRY_WORDS;
    entries[at + OLDER] = entries[at + NEWER] = 0;
    if (list === Expendable.None) return;
    const words = this.#words;
    const ends = this.#bucket(hash) + 2 * list;
    const newest = words[ends + NEWEST]!;
    entries[at + OLDER] = newest;
    if (newest === 0) words[ends + OLDEST] = flow + 1;
    else entries[(newest - 1) * 2 * ENTRY_WORDS + NEWER] = flow + 1;
    words[ends + NEWEST] = flow + 1;
  }

  #take(flow: number, hash: number, list: Expendable): void {
    if (list === Expendable.None) return;
    const words = this.#words;
    const entries = this.#entries;
    const ends = this.#bucket(hash) + 2 * list;
    const at = flow * 2 * ENTRY_WORDS;
    const older = entries[at + OLDER]!;
    const newer = entries[at + NEWER]!;
    if (older === 0) words[ends + OLDEST] = newer;
    else entries[(older - 1) * 2 * ENTRY_WORDS + NEWER] = newer;
    if (newer === 0) words[ends + NEWEST] = older;
    else entries[(newer - 1) * 2 * ENTRY_WORDS + OLDER] = older;
  }
}

/** A handshake that its client has not ended is unanswered too: a flood's server answers, and its client never does. */
function expendableIn(state: FlowState): Expendable {
  if (state === FlowState.Unreplied || state === FlowState.SynSent || state === FlowState.SynReceived)
    return Expendable.Unanswered;
  return state >= FlowState.LastAck ? Expendable.Ending : Expendable.None;
}

/** A power of two. */
function bucketsFor(capacity: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(LEAST_BUCKETS, capacity / FLOWS_PER_BUCKET)));
}
