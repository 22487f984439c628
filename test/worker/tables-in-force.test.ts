// Rows for the data path's workers when one worker refuses them: rows count as in force only in all workers.
import test from "ava";
import { endpointKey, rowsOf, type TableDiff, type TableRow } from "../../src/datapath/rows.ts";
import { Tables } from "../../src/datapath/tables.ts";
import { ipv4 } from "../../src/lib/ip.ts";
import { TablesInForce } from "../../src/worker/tables-in-force.ts";

const endpoint = (host: number): TableRow => ({ kind: "endpoint", ip: ipv4(`10.192.16.${host}`), vni: 4096, vtep: 0 });

class FakeWorker {
  readonly tables = new Tables();
  readonly diffs: TableDiff[] = [];
  refuses = false;

  async ask({ diff }: { diff: TableDiff }): Promise<void> {
    this.diffs.push(diff);
    if (this.refuses) throw new Error("refused");
    this.tables.apply(diff);
  }

  get hosts(): number[] {
    return [...this.tables.endpoints.keys()].map((ip) => ip & 0xff).sort((a, b) => a - b);
  }
}

test("a worker that refuses one diff: the rows are not in force, and everything is sent again", async (t) => {
  const workers = [new FakeWorker(), new FakeWorker()];
  const tables = new TablesInForce(workers);
  await tables.replaceBy(rowsOf([endpoint(1), endpoint(2)]));
  workers[1]!.refuses = true;
  const next = rowsOf([endpoint(2), endpoint(3)]);
  await t.throwsAsync(tables.replaceBy(next), { message: "refused" });
  t.is(tables.rows, undefined);
  await t.throwsAsync(tables.replaceBy(next), { message: "refused" }, "also when the rows are the same as before");
  workers[1]!.refuses = false;
  await tables.replaceBy(next);
  t.deepEqual(tables.rows, next);
  for (const { hosts } of workers) t.deepEqual(hosts, [2, 3]);
});

test("after a failure rows that are as before are sent whole, an empty table too", async (t) => {
  const worker = new FakeWorker();
  const tables = new TablesInForce([worker]);
  const before = rowsOf([endpoint(1)]);
  await tables.replaceBy(before);
  worker.refuses = true;
  await t.throwsAsync(tables.replaceBy(rowsOf([])));
  worker.refuses = false;
  await tables.replaceBy(rowsOf([]));
  t.deepEqual(worker.hosts, []);
  const sent = worker.diffs.length;
  await tables.replaceBy(rowsOf([]));
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
