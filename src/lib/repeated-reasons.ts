// Reasons why something that is tried again and again does not succeed: which of them is news.
import type { Clock } from "./clock.ts";

/** How long a reason stays away before it is news again. */
const AWAY_MS = 60_000;

export class RepeatedReasons {
  readonly #clock: Clock;
  #last: { reason: string; at: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether `reason` is another one than before, or has stayed away since. */
  isNews(reason: string): boolean {
    const at = this.#clock.monotonic();
    const last = this.#last;
    this.#last = { reason, at };
    return last?.reason !== reason || at - last.at >= AWAY_MS;
  }
}
