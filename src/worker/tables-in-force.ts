// The rows that all workers of a data path have in force. They count once every worker has said so. After a failure everything
// is sent again, because the agent cannot know what a worker has then.
import { diffTables, rowKey, type TableDiff, type TableRow, type TableRows, wholeOf } from "../datapath/rows.ts";

interface TableWorker {
  ask(command: { type: "apply"; diff: TableDiff }): Promise<unknown>;
}

export class TablesInForce {
  readonly #workers: readonly TableWorker[];
  /** The rows that were asked for last. BOUNDED: by the cluster's state; keyed by rowKey(). */
  readonly #rows = new Map<string, TableRow>();
  #areInForce = true;

  /** `workers` may grow until the first apply(). */
  constructor(workers: readonly TableWorker[]) {
    this.#workers = workers;
  }

  /** The rows in force; undefined while they change, and after a failure. */
  get rows(): TableRows | undefined {
    return this.#areInForce ? this.#rows : undefined;
  }

  /**
   * Resolves when the rows that the difference leads to are in force in every worker. Rejects when a worker refuses; the rows are
   * wanted all the same, and the next call sends all of them. The work is that of the difference, not of all rows.
   */
  async apply(diff: TableDiff): Promise<void> {
    if (diff.isWhole === true) this.#rows.clear();
    for (const key of diff.delete) this.#rows.delete(key);
    for (const row of diff.put) this.#rows.set(rowKey(row), row);
    const isEmpty = diff.put.length === 0 && diff.delete.length === 0 && diff.isWhole !== true;
    if (isEmpty && this.#areInForce) return;
    const sent = this.#areInForce ? diff : wholeOf(this.#rows);
    this.#areInForce = false;
    const answers = await Promise.allSettled(this.#workers.map((worker) => worker.ask({ type: "apply", diff: sent })));
    for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
    this.#areInForce = true;
  }

  /** As apply(), for exactly these rows: all of them are compared. */
  replaceBy(rows: TableRows): Promise<void> {
    return this.apply(diffTables(this.#rows, rows));
  }
}
