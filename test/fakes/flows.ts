// Flows to fill a table with: numbered, each with keys of its own, and what a table says of them.
import { FlowState } from "../../src/datapath/flow-entries.ts";
import type { FlowTable } from "../../src/datapath/flow-table.ts";
import { swapPorts } from "../../src/packet/packet.ts";

/** A flow's original key and its reply's. */
export interface FlowKeys {
  readonly number: number;
  readonly zone: number;
  readonly protocol: number;
  readonly source: number;
  readonly destination: number;
  readonly ports: number;
  readonly replyZone: number;
  readonly task: number;
}

const CLIENTS = 0x0ac02000;
const VIP = 0x0ac02002;
const TASKS = 0x0ac02100;

/** From a client to a VIP, balanced to a task: no two have a key in common. */
export function flowKeys(number: number): FlowKeys {
  const clientPort = 1024 + (number % 64_000);
  return {
    number,
    zone: number % 3 === 0 ? 0 : 4096 + (number % 3),
    protocol: number % 2 === 0 ? 6 : 17,
    source: CLIENTS + Math.floor(number / 64_000),
    destination: VIP,
    ports: (clientPort << 16) | 80,
    replyZone: number % 5,
    task: TASKS + (number % 7),
  };
}

/** Reserves a flow and writes its two keys; -1 when the table is full. Under the lock. */
export function reserve(
  table: FlowTable,
  [zone, protocol, source, destination, ports]: readonly [number, number, number, number, number],
  [replyZone, replySource, replyDestination, replyPorts]: readonly [number, number, number, number],
): number {
  const entry = table.reserve();
  if (entry < 0) return -1;
  table.setKey(entry, zone, protocol, source, destination, ports);
  table.setKey(entry + 1, replyZone, protocol, replySource, replyDestination, replyPorts);
  return entry;
}

/** Reserves and publishes, as FlowTracker.establish() does; -1 when the table is full. Under the lock. */
export function insert(table: FlowTable, keys: FlowKeys, state: FlowState = FlowState.Unreplied): number {
  const { zone, protocol, source, destination, ports, replyZone, task, number } = keys;
  const reply = swapPorts(ports);
  const entry = reserve(table, [zone, protocol, source, destination, ports], [replyZone, task, source, reply]);
  if (entry < 0) return -1;
  for (const side of [entry, entry + 1]) {
    table.setPath(side, number, ~number, number);
    table.setDeltas(side, number & 0xffff, number & 0xffff);
  }
  table.setVip(entry, number);
  table.setTimeout(entry, 30);
  table.publish(entry, state);
  return entry;
}

export function findOriginal(table: FlowTable, { zone, protocol, source, destination, ports }: FlowKeys): number {
  return table.find(zone, protocol, source, destination, ports);
}

export function findReply(table: FlowTable, { replyZone, protocol, source, task, ports }: FlowKeys): number {
  return table.find(replyZone, protocol, task, source, swapPorts(ports));
}

/** Whether every word of the entry is this flow's. */
export function isWhole(table: FlowTable, entry: number, keys: FlowKeys): boolean {
  const original = entry & ~1;
  return (
    table.sourceOf(original) === keys.source &&
    table.destinationOf(original) === keys.destination &&
    table.portsOf(original) === keys.ports &&
    table.zoneOf(original) === keys.zone &&
    table.protocolOf(original) === keys.protocol &&
    table.sourceOf(original + 1) === keys.task &&
    table.destinationOf(original + 1) === keys.source &&
    table.portsOf(original + 1) === swapPorts(keys.ports) &&
    table.zoneOf(original + 1) === keys.replyZone &&
    table.vipOf(original) === keys.number &&
    [original, original + 1].every(
      (side) =>
        table.fromOf(side) === keys.number &&
        table.toOf(side) === ~keys.number &&
        table.vniOf(side) === keys.number &&
        table.addressDeltaOf(side) === (keys.number & 0xffff),
    )
  );
}

/** The live flows' original entries. */
export function liveEntries(table: FlowTable): number[] {
  return Array.from({ length: table.highWater }, (_, flow) => 2 * flow).filter(
    (entry) => table.stateOf(entry) !== FlowState.Free,
  );
}
