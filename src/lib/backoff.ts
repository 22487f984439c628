// Exponential back-off: each failure doubles the pause before the next attempt, up to a longest one.

export class Backoff {
  readonly #firstMs: number;
  readonly #longestMs: number;
  #failures = 0;

  constructor(firstMs: number, longestMs: number) {
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
  }

  /** Failures since the last success. */
  get failures(): number {
    return this.#failures;
  }

  /** Counts a failure. Returns the milliseconds to wait after it. */
  failed(): number {
    return Math.min(this.#longestMs, this.#firstMs * 2 ** this.#failures++);
  }

  /** The next failure is the first again. */
  succeeded(): void {
    this.#failures = 0;
  }
}
