// What all data-path workers have in force: rows count once every worker has said so, and after a failure everything is
// sent again, because the agent cannot know what a worker has then.
import { diffTables, type TableDiff, type TableRows, wholeOf } from "../datapath/rows.ts";

interface TableWorker {
  ask(command: { type: "apply"; diff: TableDiff }): Promise<unknown>;
}

export class TablesInForce {
  readonly #workers: readonly TableWorker[];
  #rows: TableRows | undefined = new Map();

  /** `workers` may grow until the first apply(). */
  constructor(workers: readonly TableWorker[]) {
    this.#workers = workers;
  }

  /** The rows in force; undefined while they change, and after a failure. */
  get rows(): TableRows | undefined {
    return this.#rows;
  }

  /** Resolves when exactly these rows are in force in every worker. Rejects when one refuses. */
  async apply(rows: TableRows): Promise<void> {
    const diff = this.#rows === undefined ? wholeOf(rows) : diffTables(this.#rows, rows);
    if (diff.put.length === 0 && diff.delete.length === 0 && diff.isWhole !== true) return;
    this.#rows = undefined;
    const answers = await Promise.allSettled(this.#workers.map((worker) => worker.ask({ type: "apply", diff })));
    for (const answer of answers) if (answer.status === "rejected") throw answer.reason;
    this.#rows = rows;
  }
}
