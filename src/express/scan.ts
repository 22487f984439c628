// The walk through all that is in the lane, in the agent's main thread, so that no packet waits for it: it takes over what the lane has
// counted, and takes out what no flow bears out. Every flow's idle time, counts and state are then as of the walk.
import type { ExpressCounts } from "../datapath/express-counts.ts";
import type { FlowTable } from "../datapath/flow-table.ts";
import type { LaneReading } from "../datapath/ports.ts";
import { BpfMap } from "../linux/bpf-map.ts";
import type { PacketMemory } from "../packet/memory.ts";
import { swapPorts } from "../packet/packet.ts";
import { readValue } from "./installer.ts";
import { flowsShape, INBOUND, KEY_BYTES, Key, VALUE_BYTES, Value } from "./layout.ts";

/** Entries of a step: about a millisecond of this thread, or less. */
const BATCH = 1024;

interface ExpressScanOptions {
  memory: PacketMemory;
  flows: FlowTable;
  counts: ExpressCounts;
  /** The descriptor of the map of flows, and the entries that it takes. */
  map: number;
  capacity: number;
}

export class ExpressScan {
  /** Entries that the last whole walk has found and left. */
  entries = 0;
  /** Entries that no flow bore out. */
  orphans = 0;
  readonly #view: DataView;
  readonly #flows: FlowTable;
  readonly #counts: ExpressCounts;
  readonly #map: BpfMap;
  #left = 0;
  // The flow table's key of the entry in hand.
  #zone = 0;
  #protocol = 0;
  #source = 0;
  #destination = 0;
  #ports = 0;
  readonly #reading: LaneReading = { packets: 0, bytes: 0, seenSeconds: 0, nextSequence: 0, acknowledgment: 0 };

  /** Bytes of packet memory that it takes. */
  static readonly memoryBytes = BATCH * (KEY_BYTES + VALUE_BYTES) + 4096;

  constructor({ memory, flows, counts, map, capacity }: ExpressScanOptions) {
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
    const value = this.#map.values + i * VALUE_BYTES;
    const entry = this.#find(i);
    const version = flows.foundVersion;
    if (entry < 0 || !flows.isRiding(entry, version) || !this.#isOf(entry, value)) {
      this.#takeOut(i);
      return;
    }
    this.#left++;
    readValue(this.#view, value, this.#reading);
    this.#counts.take(entry, version, this.#reading);
  }

  /** Nearly all of a walk's time is the memory's. */
  #touch(i: number): void {
    this.#readKey(i);
    this.#flows.touch(this.#zone, this.#protocol, this.#source, this.#destination, this.#ports);
  }

  /** The entry of the flow table that the batch's entry `i` is of; -1: there is none. A miss is one only under the lock. */
  #find(i: number): number {
    this.#readKey(i);
    const flows = this.#flows;
    const found = flows.find(this.#zone, this.#protocol, this.#source, this.#destination, this.#ports);
    if (found >= 0) return found;
    flows.lock();
    const certain = flows.find(this.#zone, this.#protocol, this.#source, this.#destination, this.#ports);
    flows.unlock();
    return certain;
  }

  #readKey(i: number): void {
    const view = this.#view;
    const key = this.#map.keys + i * KEY_BYTES;
    const word = view.getUint32(key + Key.Protocol, true);
    this.#protocol = word & 0xff;
    this.#zone = (word & INBOUND) === 0 ? 0 : view.getUint32(key + Key.Origin) >>> 8;
    this.#source = view.getInt32(key + Key.Source);
    this.#destination = view.getInt32(key + Key.Destination);
    this.#ports = view.getInt32(key + Key.Ports);
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

  #takeOut(i: number): void {
    const view = this.#view;
    const key = this.#map.keys + i * KEY_BYTES;
    for (let at = 0; at < KEY_BYTES; at += 4) view.setInt32(this.#map.key + at, view.getInt32(key + at));
    if (this.#map.delete()) this.orphans++;
  }
}
