// Two threads on one flow table in mapped memory: no flow is lost, doubled, or read half.
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import test from "ava";
import { FlowTable } from "../../src/datapath/flow-table.ts";
import { openSharedFile } from "../../src/linux/shared-file.ts";
import { findOriginal, findReply, flowKeys, isWhole, liveEntries } from "../fakes/flows.ts";
import { temporaryDirectory } from "../temporary.ts";
import type { HammerOptions, HammerReport } from "./flow-table-worker.ts";

const CAPACITY = 64;
const NUMBERS = 160;

test("two workers on one table lose no flow, double none, and read none that is half another's", async (t) => {
  const directory = temporaryDirectory("flows");
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "flows");
  const file = openSharedFile(path, FlowTable.bytesFor(CAPACITY));
  const table = FlowTable.open(file.buffer, CAPACITY, 99);
  const seed = Math.floor(Math.random() * 2 ** 31);
  t.log(`seed ${seed}`);

  const reports = await Promise.all(
    [seed, seed + 1].map(async (workerSeed) => {
      const options: HammerOptions = {
        path,
        capacity: CAPACITY,
        numbers: NUMBERS,
        seed: workerSeed,
        milliseconds: 1500,
      };
      const worker = new Worker(new URL("flow-table-worker.js", import.meta.url), { workerData: options });
      const [report] = (await once(worker, "message")) as [HammerReport];
      return report;
    }),
  );
  t.log(JSON.stringify(reports));
  const total = (field: keyof HammerReport): number => reports.reduce((sum, report) => sum + report[field], 0);
  for (const { added, removed, read } of reports) t.true(added > 100 && removed > 100 && read > 100);
  t.is(total("torn"), 0);
  t.is(table.size, total("added") - total("removed"));
  t.is(liveEntries(table).length, table.size);

  let found = 0;
  for (let number = 0; number < NUMBERS; number++) {
    const keys = flowKeys(number);
    const entry = findOriginal(table, keys);
    t.is(findReply(table, keys), entry < 0 ? -1 : entry + 1, `flow ${number}`);
    if (entry < 0) continue;
    found++;
    t.true(isWhole(table, entry, keys), `flow ${number}`);
  }
  t.is(found, table.size, "every flow is found by its key: none is there twice");
  file.close();
});
