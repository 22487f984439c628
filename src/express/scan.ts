// The walk through all that is in the lane, in the agent's main thread, so that no packet waits for it: it takes over what the lane has
// counted, and takes out what no flow bears out. Every flow's idle time, counts and state are then as of the walk.
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

interface ExpressScanOptions {
  memory: PacketMemory;
  flows: FlowTable;
  counts: ExpressCounts;
  /** The descriptor of the map of flows, and the entries that it takes. */
  map: number;
  capacity: number;
  /** Called for each entry that its flow bears out, before what it has counted is taken over. */
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
  #left = 0;
  /** The key of the entry in hand. */
  readonly #key: FlowKey = { zone: 0, protocol: 0, source: 0, destination: 0, ports: 0 };
  readonly #reading: LaneReading = { packets: 0, bytes: 0, seenSeconds: 0, nextSequence: 0, acknowledgment: 0 };

  /** Bytes of packet memory that it takes. */
  static readonly memoryBytes = BATCH * (KEY_BYTES + VALUE_BYTES) + 4096;

  constructor({ memory, flows, counts, map, capacity, onEntry = () => {} }: ExpressScanOptions) {
    this.#onEntry = onEntry;
    this.#view = memory.view;
    this.#flows = flows;
    this.#counts = counts;
    this.#map = new BpfMap(memory, map, flowsShape(capacity), BATCH);
  }

  /** Looks at the next entries. False: that was the last of them, and the next call begins anew. */
  step(): boolean {
    const count = this.#map.lookupBatch();
    for (let i = 0; i < count; i++) this.#touch(i);
    for (let i = 0; i < count; i++) this.#take(i);
    if (count > 0) return true;
    this.entries = this.#left;
    this.#left = 0;
    this.#map.rewind();
    return false;
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

  /** Nearly all of a walk's time is the memory's. */
  #touch(i: number): void {
    const key = this.#key;
    readKey(this.#view, this.#map.keys + i * KEY_BYTES, key);
    this.#flows.touch(key.zone, key.protocol, key.source, key.destination, key.ports);
  }

  #find(i: number): number {
    const key = this.#key;
    readKey(this.#view, this.#map.keys + i * KEY_BYTES, key);
    return this.#flows.find(key.zone, key.protocol, key.source, key.destination, key.ports);
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
