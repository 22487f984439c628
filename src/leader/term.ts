// Whether this manager leads: its term begins with a leadership that the store gave it, and ends when that is lost or the
// manager stops.
import { messageOf, UserError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Leadership } from "./store.ts";

export class Term {
  readonly #log: Log;
  readonly #over = new AbortController();
  #leadership: Leadership | undefined;
  /** Aborted when it leads by another leadership than before. */
  #untilChanged = new AbortController();
  /** Why nothing can be asked of the leader; undefined while it leads. */
  #notLeading: string | undefined = "this manager has not started to lead";

  constructor(log: Log) {
    this.#log = log;
  }

  /** Aborted, with the reason, when the term is over. There is no second one: the next term is another Leader's. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  get isLeading(): boolean {
    return this.#notLeading === undefined;
  }

  /** Throws UserError 503 when it does not lead. */
  requireLeading(): void {
    if (this.#notLeading !== undefined) throw new UserError(503, this.#notLeading);
    if (this.#leadership?.isCertain() !== true) throw new UserError(503, "this manager may lead no longer");
  }

  /** The store has given this leadership, which `resign` gives back. */
  take(leadership: Leadership): void {
    this.#leadership = leadership;
  }

  /** It leads until the leadership that it took last is lost; what ended the one before ends the term no longer. */
  begin(): void {
    if (this.#over.signal.aborted) return;
    const { lost } = this.#leadership!;
    this.#notLeading = undefined;
    this.#untilChanged.abort();
    this.#untilChanged = new AbortController();
    const end = () => this.end(`this manager leads no longer: ${messageOf(lost.reason)}`);
    if (lost.aborted) end();
    else lost.addEventListener("abort", end, { signal: this.#untilChanged.signal });
  }

  end(reason: string): void {
    if (this.#over.signal.aborted) return;
    const hasLed = this.isLeading;
    this.#notLeading = reason;
    if (hasLed) this.#log.info("leads no longer", { reason });
    this.#over.abort(new Error(reason));
  }

  /** Resolves when another process may lead. */
  async resign(): Promise<void> {
    await this.#leadership?.resign();
  }
}
