// Work that always starts from the newest state: one run at a time, and one more when it was asked for meanwhile. In a
// burst of changes it rests after a run for as long as that took, so that half of the time is left for other work of this
// thread, and some milliseconds at least, so that a run takes several changes together.
import { type Clock, delay } from "./clock.ts";

const RETRY_MS = 1000;
const SHORTEST_REST_MS = 4;
const LONGEST_REST_MS = 200;
/** So many runs, each asked for before the rest after the one before would be over, make a burst: one change often brings another. */
const BURST_RUNS = 3;

/** `T`: what the work may be asked to look at. */
export class ReconcileLoop<T = never> {
  readonly #clock: Clock;
  readonly #work: (dirty: Set<T>) => Promise<void>;
  readonly #failed: (error: unknown) => void;
  /** What the next run is to look at. BOUNDED: by what there is to look at. */
  #dirty = new Set<T>();
  #asked = 0;
  #done = 0;
  #isRefreshDue = false;
  #running: Promise<void> | undefined;
  readonly #stopping = new AbortController();
  /** Runs of the burst so far, and when the last of them will have rested. */
  #burst = 0;
  #restedAt = Number.NEGATIVE_INFINITY;
  // BOUNDED: by the callers that wait; all leave when a run is done.
  readonly #waiting = new Set<() => void>();

  /**
   * `work` takes what it has been asked to look at since its last run, and may add to it. After a failure, with
   * which `failed` is called, it is tried again with the same, and what was asked for meanwhile.
   */
  constructor(clock: Clock, work: (dirty: Set<T>) => Promise<void>, failed: (error: unknown) => void) {
    this.#clock = clock;
    this.#work = work;
    this.#failed = failed;
  }

  /** Begins one more run, which looks at `dirty`. A caller that must wait for it awaits `settled`. */
  ask(dirty: Iterable<T> = []): void {
    for (const one of dirty) this.#dirty.add(one);
    this.#asked++;
    this.#running ??= this.#run();
  }

  /** Begins one more run, for which `settled` does not wait: nothing is wanted that was not wanted before. */
  refresh(dirty: Iterable<T> = []): void {
    for (const one of dirty) this.#dirty.add(one);
    this.#isRefreshDue = true;
    this.#running ??= this.#run();
  }

  /** Resolves when everything that was asked for until now is done, or it was stopped. */
  async settled(): Promise<void> {
    const number = this.#asked;
    while (this.#done < number && !this.#isStopped) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  /** How many callers wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  get #isStopped(): boolean {
    return this.#stopping.signal.aborted;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    while ((this.#done < this.#asked || this.#isRefreshDue) && !this.#isStopped) {
      const restMs = this.#restMs();
      if (restMs > 0) await delay(this.#clock, restMs, this.#stopping.signal);
      if (this.#isStopped) break;
      const number = this.#asked;
      const began = this.#clock.monotonic();
      const dirty = this.#dirty;
      this.#dirty = new Set();
      this.#isRefreshDue = false;
      try {
        await this.#work(dirty);
        this.#done = number;
        this.#wake();
        const ended = this.#clock.monotonic();
        this.#restedAt = ended + restAfter(ended - began);
      } catch (error) {
        if (this.#isStopped) break;
        for (const one of dirty) this.#dirty.add(one);
        this.#isRefreshDue = true;
        this.#failed(error);
        await delay(this.#clock, RETRY_MS, this.#stopping.signal);
      }
    }
    this.#running = undefined; // here and not in a then(): the next ask() must find it so
  }

  /** How long the next run is to wait. */
  #restMs(): number {
    const leftMs = this.#restedAt - this.#clock.monotonic();
    this.#burst = leftMs > 0 ? this.#burst + 1 : 0;
    return this.#burst >= BURST_RUNS ? leftMs : 0;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

function restAfter(tookMs: number): number {
  return Math.max(SHORTEST_REST_MS, Math.min(tookMs, LONGEST_REST_MS));
}
