// Rows for the data path's workers when one worker refuses them: rows count as in force only in all workers.
import test from "ava";
import { endpointKey, type TableDiff, type TableRow, type TableRows } from "../../src/datapath/rows.ts";
import { Tables } from "../../src/datapath/tables.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { TablesInForce } from "../../src/worker/tables-in-force.ts";
import { diffTables } from "../fakes/diff-tables.ts";
import { rowsOf } from "../fakes/rows-of.ts";

const endpoint = (host: number): TableRow => ({ kind: "endpoint", ip: ipv4(`10.192.16.${host}`), vni: 4096, vtep: 0 });

class FakeWorker {
  readonly tables = new Tables();
  readonly diffs: TableDiff[] = [];
  refuses = false;
  refuseNext = false;

  async ask({ diff }: { diff: TableDiff }): Promise<void> {
    this.diffs.push(diff);
    if (this.refuses || this.refuseNext) {
      this.refuseNext = false;
      throw new Error("refused");
    }
    this.tables.apply(diff);
  }

  get hosts(): number[] {
    return [...this.tables.endpoints.keys()].map((ip) => ip & 0xff).sort((a, b) => a - b);
  }
}

/** Puts exactly these rows in force; `before` were wanted last. */
function replace(tables: TablesInForce, before: TableRows, rows: TableRows): Promise<void> {
  return tables.apply(diffTables(before, rows));
}

const NONE = rowsOf([]);

test("a worker that refuses one diff: the rows are not in force, and everything is sent again", async (t) => {
  const workers = [new FakeWorker(), new FakeWorker()];
  const tables = new TablesInForce(workers);
  const before = rowsOf([endpoint(1), endpoint(2)]);
  await replace(tables, NONE, before);
  workers[1]!.refuses = true;
  const next = rowsOf([endpoint(2), endpoint(3)]);
  await t.throwsAsync(replace(tables, before, next), { message: "refused" });
  t.is(tables.rows, undefined);
  await t.throwsAsync(replace(tables, next, next), { message: "refused" }, "also when the rows are the same as before");
  workers[1]!.refuses = false;
  await replace(tables, next, next);
  t.deepEqual(tables.rows, next);
  for (const { hosts } of workers) t.deepEqual(hosts, [2, 3]);
});

test("after a failure rows that are as before are sent whole, an empty table too", async (t) => {
  const worker = new FakeWorker();
  const tables = new TablesInForce([worker]);
  const before = rowsOf([endpoint(1)]);
  await replace(tables, NONE, before);
  worker.refuses = true;
  await t.throwsAsync(replace(tables, before, NONE));
  worker.refuses = false;
  await replace(tables, NONE, NONE);
  t.deepEqual(worker.hosts, []);
  const sent = worker.diffs.length;
  await replace(tables, NONE, NONE);
  t.is(worker.diffs.length, sent, "and then nothing more");
});

test("a difference is sent as it is; after a failure all rows are sent, those of the difference that failed among them", async (t) => {
  const worker = new FakeWorker();
  const tables = new TablesInForce([worker]);
  await tables.apply({ put: [endpoint(1), endpoint(2)], delete: [] });
  const diff: TableDiff = { put: [endpoint(3)], delete: [endpointKey(ipv4("10.192.16.1"))] };
  await tables.apply(diff);
  t.is(worker.diffs.at(-1), diff);
  worker.refuses = true;
  await t.throwsAsync(tables.apply({ put: [endpoint(4)], delete: [] }), { message: "refused" });
  worker.refuses = false;
  await tables.apply({ put: [], delete: [] });
  t.true(worker.diffs.at(-1)!.isWhole);
  t.deepEqual(worker.hosts, [2, 3, 4]);
  const sent = worker.diffs.length;
  await tables.apply({ put: [], delete: [] });
  t.is(worker.diffs.length, sent, "an empty difference is not sent");
});

test("after a failure no worker goes on sending to an address that was released or is another's; the rest stays", async (t) => {
  const workers = [new FakeWorker(), new FakeWorker()];
  const tables = new TablesInForce(workers);
  await tables.apply({ put: [endpoint(1), endpoint(2), endpoint(3)], delete: [] });
  const moved: TableRow = { ...endpoint(2), vtep: ipv4("192.0.2.12") } as TableRow;
  workers[1]!.refuseNext = true;
  const diff = { put: [moved, endpoint(4)], delete: [endpointKey(ipv4("10.192.16.1"))] };
  await t.throwsAsync(tables.apply(diff), { message: "refused" });
  for (const { hosts } of workers) t.deepEqual(hosts, [3]);
  await tables.apply({ put: [], delete: [] });
  for (const { hosts } of workers) t.deepEqual(hosts, [2, 3, 4]);
});
