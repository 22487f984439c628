// The walk through all that is in the lane, in the agent's main thread, so that no packet waits for it: it takes over what the lane has
// counted, and takes out what no flow bears out. Every flow's idle time, counts and state are then as of the walk. An entry that has carried
// nothing since the last walk began has nothing to take over, and its flow is looked up only now and then.
import type { ExpressCounts } from "../datapath/express-counts.ts";
import type { FlowTable } from "../datapath/flow-table.ts";
import type { LaneReading } from "../datapath/ports.ts";
import { BpfMap } from "../linux/bpf-map.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { swapPorts } from "../packet/packet.ts";
import { type FlowKey, readKey } from "./entry.ts";
import { readValue } from "./installer.ts";
import { flowsShape, KEY_BYTES, VALUE_BYTES, Value } from "./layout.ts";

/** Entries of a step: about a millisecond of this thread, or less. */
const BATCH = 1024;
/** One walk of so many looks every flow up. */
const WHOLE_EVERY = 8;
/** The programs' clock is that of the last tick: ten milliseconds behind, or less. */
const SLACK_NANOSECONDS = 100e6;
const WORD = 2 ** 32;
/** In the place of where the flow table has a flow: it is not looked up. */
const IDLE = -1;

interface ExpressScanOptions {
  memory: PacketMemory;
  flows: FlowTable;
  counts: ExpressCounts;
  /** The descriptor of the map of flows, and the entries that it takes. */
  map: number;
  capacity: number;
  /** The programs' clock: CLOCK_MONOTONIC. */
  nanoseconds?: () => number;
  /** Called for each entry whose flow was looked up and bears it out, before what it has counted is taken over. */
  onEntry?: (entry: number, version: number, reading: LaneReading) => void;
}

export class ExpressScan {
  /** Entries that the last whole walk has found and left. */
  entries = 0;
  readonly #view: DataView;
  readonly #flows: FlowTable;
  readonly #counts: ExpressCounts;
  readonly #map: BpfMap;
  readonly #onEntry: NonNullable<ExpressScanOptions["onEntry"]>;
  readonly #nanoseconds: () => number;
  #left = 0;
  #walks = 0;
  #isWalking = false;
  #isWholeNext = false;
  #beganAt = Number.NEGATIVE_INFINITY;
  /** What was seen before this has nothing new. */
  #idleBefore = Number.NEGATIVE_INFINITY;
  // The hashes of the keys of the batch, and where the flow table has their flows.
  readonly #hashes = new Int32Array(BATCH);
  readonly #firsts = new Int32Array(BATCH);
  /** The key of the entry in hand. */
  readonly #key: FlowKey = { zone: 0, protocol: 0, source: 0, destination: 0, ports: 0 };
  readonly #reading: LaneReading = { packets: 0, bytes: 0, seenSeconds: 0, nextSequence: 0, acknowledgment: 0 };

  /** Bytes of packet memory that it takes. */
  static readonly memoryBytes = BATCH * (KEY_BYTES + VALUE_BYTES) + 4096;

  constructor({ memory, flows, counts, map, capacity, nanoseconds, onEntry = () => {} }: ExpressScanOptions) {
    this.#onEntry = onEntry;
    this.#nanoseconds = nanoseconds ?? (() => Number(process.hrtime.bigint()));
    this.#view = memory.view;
    this.#flows = flows;
    this.#counts = counts;
    this.#map = new BpfMap(memory, map, flowsShape(capacity), BATCH);
  }

  /** Lets the next walk look every flow up. */
  lookAtAll(): void {
    this.#isWholeNext = true;
  }

  /** Looks at the next entries. False: that was the last of them, and the next call begins anew. */
  step(): boolean {
    if (!this.#isWalking) this.#begin();
    const count = this.#map.lookupBatch();
    if (count === 0) {
      this.#end();
      return false;
    }
    // Nearly all of the time is the memory's, so it is asked for everything before anything is used.
    for (let i = 0; i < count; i++) this.#firsts[i] = this.#isIdle(i) ? IDLE : this.#firstOf(i);
    for (let i = 0; i < count; i++) if (this.#firsts[i]! > 0) this.#flows.touch(this.#firsts[i]!);
    for (let i = 0; i < count; i++) {
      if (this.#firsts[i] === IDLE) this.#left++;
      else this.#take(i);
    }
    return true;
  }

  #begin(): void {
    this.#isWalking = true;
    this.#idleBefore = this.#isWholeNext || this.#walks % WHOLE_EVERY === 0 ? 0 : this.#beganAt - SLACK_NANOSECONDS;
    this.#isWholeNext = false;
    this.#beganAt = this.#nanoseconds();
    this.#walks++;
  }

  #end(): void {
    this.#isWalking = false;
    this.entries = this.#left;
    this.#left = 0;
    this.#map.rewind();
  }

  /** Whether the entry has carried nothing since the last walk began: that one has taken over what it had carried before. */
  #isIdle(i: number): boolean {
    const view = this.#view;
    const at = this.#map.values + i * VALUE_BYTES + Value.Seen;
    return view.getUint32(at + 4, true) * WORD + view.getUint32(at, true) < this.#idleBefore;
  }

  #firstOf(i: number): number {
    const key = this.#key;
    const flows = this.#flows;
    readKey(this.#view, this.#map.keys + i * KEY_BYTES, key);
    const hash = flows.hash(key.zone, key.protocol, key.source, key.destination, key.ports);
    this.#hashes[i] = hash;
    return flows.firstOf(hash);
  }

  #take(i: number): void {
    const flows = this.#flows;
    const entry = this.#find(i);
    const version = flows.foundVersion;
    const value = this.#map.values + i * VALUE_BYTES;
    if (entry < 0 || !flows.isRiding(entry, version) || !this.#isOf(entry, value)) {
      this.#lookAgain(i);
      return;
    }
    this.#left++;
    readValue(this.#view, value, this.#reading);
    this.#onEntry(entry, version, this.#reading);
    this.#counts.take(entry, version, this.#reading);
  }

  #find(i: number): number {
    const key = this.#key;
    readKey(this.#view, this.#map.keys + i * KEY_BYTES, key);
    const { zone, protocol, source, destination, ports } = key;
    return this.#flows.findHashed(this.#hashes[i]!, zone, protocol, source, destination, ports);
  }

  /**
   * Takes out what no flow bears out. A worker may have marked the entry since the batch was read, or be about to take it out; marks change
   * under the lock, and a miss is one only there.
   */
  #lookAgain(i: number): void {
    this.#map.aimAt(i);
    this.#flows.lock();
    try {
      this.#takeOut(this.#find(i));
    } finally {
      this.#flows.unlock();
    }
  }

  #takeOut(entry: number): void {
    const flows = this.#flows;
    const map = this.#map;
    if (entry >= 0 && flows.isRiding(entry, flows.foundVersion)) {
      if (!map.lookup() || this.#isOf(entry, map.value)) {
        this.#left++;
        return;
      }
      flows.unmark(entry); // what is there is of an earlier flow
    }
    if (!map.lookupAndDelete() || entry < 0 || !this.#isOf(entry, map.value)) return;
    readValue(this.#view, map.value, this.#reading);
    this.#counts.takeLocked(entry, this.#reading);
  }

  /** Whether what the entry makes of a packet is what the flow does: an entry of an earlier agent, or of an earlier flow, may not. */
  #isOf(entry: number, value: number): boolean {
    const view = this.#view;
    const flows = this.#flows;
    const other = entry ^ 1;
    const to = flows.toOf(entry);
    return (
      view.getInt32(value + Value.Source) === flows.destinationOf(other) &&
      view.getInt32(value + Value.Destination) === flows.sourceOf(other) &&
      view.getInt32(value + Value.Ports) === swapPorts(flows.portsOf(other)) &&
      (to === 0 || view.getInt32(value + Value.OuterDestination) === to)
    );
  }
}
