// Lets commands that come again and again be committed together: callers who were answered a moment ago often ask for the next
// thing at once, and each commit costs the disk, every node, and both ends of the nodes' streams.
import { type Clock, systemClock } from "../lib/clock.ts";

/** Callers who were answered have this time to come back: some round trips on one machine. */
const GATHER_MS = 2;

/** The machine's own time: what is waited for is on its way to this process. A wait keeps the process alive, for callers wait. */
const MACHINE_CLOCK: Clock = {
  ...systemClock,
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

export class Gathering {
  readonly #clock: Clock;
  /** How many commands are queued. */
  #queued = 0;
  /** How many callers there were when some of them were answered last: these, and those who still waited. */
  #callers = 0;
  #answeredAt = Number.NEGATIVE_INFINITY;
  /** How many commands the wait under way is for, and what ends it. */
  #wanted = 0;
  #end: (() => void) | undefined;

  constructor(clock = MACHINE_CLOCK) {
    this.#clock = clock;
  }

  /** A command has been queued. */
  queued(): void {
    this.#queued++;
    if (this.#queued >= this.#wanted) this.#end?.();
  }

  /** A turn has taken a command out of the queue. */
  taken(): void {
    this.#queued--;
  }

  /** The turn is over, and `count` callers have their answers. */
  answered(count: number): void {
    this.#callers = count + this.#queued;
    this.#answeredAt = this.#clock.monotonic();
  }

  /**
   * Resolves when as many commands are queued as there were callers, or they have had their time; undefined: nothing is to be
   * waited for. A caller that is alone never waits, and callers that do not come are not waited for again.
   */
  wait(): Promise<void> | undefined {
    const leftMs = this.#answeredAt + GATHER_MS - this.#clock.monotonic();
    this.#wanted = this.#callers;
    this.#callers = 0;
    if (this.#queued === 0 || this.#queued >= this.#wanted || leftMs <= 0) return undefined;
    return new Promise((resolve) => {
      const timer = this.#clock.after(leftMs, () => this.#end?.());
      this.#end = () => {
        timer.cancel();
        this.#end = undefined;
        resolve();
      };
    });
  }
}
