// The rows that all workers of a data path have in force. They count once every worker has said so. After a failure everything
// is sent again, because the agent cannot know what a worker has then.
import { rowKey, type TableDiff, type TableRow, type TableRows, wholeOf } from "../datapath/rows.ts";
import { stillTrue } from "./still-true.ts";

interface TableWorker {
  ask(command: { type: "apply"; diff: TableDiff }): Promise<unknown>;
}

export class TablesInForce {
  readonly #workers: readonly TableWorker[];
  /** The rows that were asked for last. BOUNDED: by the cluster's state; keyed by rowKey(). */
  readonly #rows = new Map<string, TableRow>();
  /** Rows of the last tables that were in force, by key, where `#rows` has others by now. BOUNDED: as #rows. */
  readonly #replaced = new Map<string, TableRow | undefined>();
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
   * Resolves when the rows that the difference leads to are in force in every worker. The work is that of the difference, not of
   * all rows. Rejects when a worker refuses: then the rows in force are those from before that are still true. The new rows are
   * wanted all the same, and the next call sends all of them.
   */
  async apply(diff: TableDiff): Promise<void> {
    if (diff.isWhole === true) for (const key of [...this.#rows.keys()]) this.#put(key, undefined);
    for (const key of diff.delete) this.#put(key, undefined);
    for (const row of diff.put) this.#put(rowKey(row), row);
    const isEmpty = diff.put.length === 0 && diff.delete.length === 0 && diff.isWhole !== true;
    if (isEmpty && this.#areInForce) return;
    const sent = this.#areInForce ? diff : wholeOf(this.#rows);
    this.#areInForce = false;
    try {
      await this.#send(sent);
    } catch (error) {
      await this.#send(wholeOf(stillTrue(this.#before(), this.#rows))).catch(() => {}); // the first reason is the one that tells
      throw error;
    }
    this.#replaced.clear();
    this.#areInForce = true;
  }

  #put(key: string, row: TableRow | undefined): void {
    if (!this.#replaced.has(key)) this.#replaced.set(key, this.#rows.get(key));
    if (row === undefined) this.#rows.delete(key);
    else this.#rows.set(key, row);
  }

  /** The last tables that were in force. It copies all rows: after a failure only. */
  #before(): TableRows {
    const rows = new Map<string, TableRow>(this.#rows);
    for (const [key, row] of this.#replaced) {
      if (row === undefined) rows.delete(key);
      else rows.set(key, row);
    }
    return rows;
  }

  async #send(diff: TableDiff): Promise<void> {
    const answers = await Promise.allSettled(this.#workers.map((worker) => worker.ask({ type: "apply", diff })));
    for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
  }
}
