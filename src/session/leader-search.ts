// Finds the manager that leads. All are asked, one 250 ms after the other, so that one that is dead costs no more than that;
// a standby names the leader, which is asked at once. While one of them does not answer, those that did are asked again: one may
// lead by then.
import type { Clock, Timer } from "../lib/clock.ts";
import { MisdirectedError, messageOf } from "../lib/errors.ts";
import type { Transport } from "./transport.ts";

const HEAD_START_MS = 250;
const AGAIN_MS = 500;

interface LeaderSearchOptions {
  transport: Pick<Transport, "leads">;
  clock: Clock;
  /** HOST:PORT of each, the likeliest first. */
  managers(): readonly string[];
}

/** No manager leads. */
export class LeaderlessError extends Error {
  override name = "LeaderlessError";
  /** Why each does not, by HOST:PORT. */
  readonly reasons: ReadonlyMap<string, string>;

  constructor(reasons: ReadonlyMap<string, string>) {
    const texts = [...reasons].map(([manager, reason]) => `${manager}: ${reason}`);
    super(texts.join("; ") || "it knows of no manager");
    this.reasons = reasons;
  }
}

export class LeaderSearch {
  readonly #options: LeaderSearchOptions;

  constructor(options: LeaderSearchOptions) {
    this.#options = options;
  }

  /** HOST:PORT of the leader. Throws LeaderlessError, and the signal's reason when that aborts. */
  async find(signal: AbortSignal): Promise<string> {
    const { transport, clock, managers } = this.#options;
    const race = new Race(transport, clock, managers());
    const end = (): void => race.end(signal.reason);
    signal.addEventListener("abort", end);
    try {
      signal.throwIfAborted();
      return await race.run();
    } finally {
      signal.removeEventListener("abort", end);
    }
  }
}

/** One search. */
class Race {
  readonly #transport: Pick<Transport, "leads">;
  readonly #clock: Clock;
  readonly #waiting: string[];
  // BOUNDED: by the managers, and those that these name.
  readonly #reasons = new Map<string, string>();
  readonly #asked = new Set<string>();
  /** Those that have answered that they do not lead, or cannot be reached. */
  readonly #refused = new Set<string>();
  readonly #over = new AbortController();
  readonly #result: Promise<string>;
  #resolve!: (manager: string) => void;
  #reject!: (error: unknown) => void;
  #timer: Timer | undefined;
  #running = 0;

  constructor(transport: Pick<Transport, "leads">, clock: Clock, managers: readonly string[]) {
    this.#transport = transport;
    this.#clock = clock;
    this.#waiting = [...managers];
    this.#result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  async run(): Promise<string> {
    this.#next();
    try {
      return await this.#result;
    } finally {
      this.#timer?.cancel();
      this.#over.abort();
    }
  }

  end(reason: unknown): void {
    this.#reject(reason);
  }

  /** Asks the next one, and the one after it in a while. */
  #next(): void {
    this.#timer?.cancel();
    if (this.#over.signal.aborted) return;
    const manager = this.#waiting.shift();
    if (manager !== undefined) {
      void this.#ask(manager);
      this.#timer = this.#clock.after(HEAD_START_MS, () => this.#next());
    } else if (this.#running === 0) this.#reject(new LeaderlessError(this.#reasons));
    else if (this.#refused.size > 0) this.#timer = this.#clock.after(AGAIN_MS, () => this.#askAgain());
  }

  #askAgain(): void {
    for (const manager of this.#refused) this.#asked.delete(manager);
    this.#waiting.push(...this.#refused);
    this.#refused.clear();
    this.#next();
  }

  async #ask(manager: string): Promise<void> {
    if (this.#asked.has(manager)) return this.#next();
    this.#asked.add(manager);
    this.#running++;
    try {
      await this.#transport.leads(manager, this.#over.signal);
      this.#resolve(manager);
    } catch (error) {
      this.#running--;
      this.#reasons.set(manager, messageOf(error));
      this.#refused.add(manager);
      if (error instanceof MisdirectedError) this.#waiting.unshift(...error.managers);
      this.#next();
    }
  }
}
