// A worker that finds, makes and removes flows of a table that another worker uses at the same time, as fast as it can,
// and says what it saw. What it did to the table it counts itself.
import { parentPort, workerData } from "node:worker_threads";
import { FlowState } from "../../src/datapath/flow-entries.ts";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { openSharedFile } from "../../src/linux/shared-file.ts";
import { findOriginal, findReply, flowKeys, insert, isWhole } from "../fakes/flows.ts";
import { seededRandom } from "../fakes/seeded-random.ts";

export interface HammerOptions {
  path: string;
  capacity: number;
  /** Flow numbers that are used: more than the table takes. */
  numbers: number;
  seed: number;
  milliseconds: number;
}

export interface HammerReport {
  added: number;
  removed: number;
  /** Look-ups without the lock that found a flow which was still current after it was read. */
  read: number;
  /** Of those, flows that had something of another. */
  torn: number;
}

/** How many uses of each kind a report needs to say anything. */
const ENOUGH = 100;

const { path, capacity, numbers, seed, milliseconds } = workerData as HammerOptions;
const file = openSharedFile(path, FlowTable.bytesFor(capacity));
const table = FlowTable.join(file.buffer, capacity);
const random = seededRandom(seed);
const report: HammerReport = { added: 0, removed: 0, read: 0, torn: 0 };
const keys = Array.from({ length: numbers }, (_, number) => flowKeys(number));

function pass(): void {
  const flow = keys[Math.floor(random() * numbers)]!;
  const byReply = random() < 0.5;
  const entry = byReply ? findReply(table, flow) : findOriginal(table, flow);
  const version = table.foundVersion;
  if (entry < 0) {
    if (random() < 0.3) add(flow.number);
    return;
  }
  const whole = isWhole(table, entry, flow);
  if (table.isCurrent(entry, version)) {
    report.read++;
    if (!whole) report.torn++;
  }
  if (random() < 0.2) table.changeState(entry, version, byReply ? FlowState.Replied : FlowState.Closed, 10);
  if (random() < 0.2) remove(entry, version);
}

function add(number: number): void {
  const flow = keys[number]!;
  table.lock();
  if (findOriginal(table, flow) < 0) {
    if (insert(table, flow) < 0) {
      const oldest = table.firstToGo(0);
      if (oldest >= 0) {
        table.removeLocked(oldest);
        report.removed++;
        if (insert(table, flow) >= 0) report.added++;
      }
    } else report.added++;
  }
  table.unlock();
}

function remove(entry: number, version: number): void {
  table.lock();
  if (table.isCurrent(entry, version) && table.stateOf(entry) !== FlowState.Free) {
    table.removeLocked(entry);
    report.removed++;
  }
  table.unlock();
  table.remove(entry, version); // whoever has the place now keeps it
}

// On a busy machine that time may hardly be this thread's: it goes on until it has done some of each.
const end = performance.now() + milliseconds;
while (performance.now() < end || Math.min(report.added, report.removed, report.read) <= ENOUGH) {
  for (let i = 0; i < 500; i++) pass();
}
file.close();
parentPort!.postMessage(report);
