// A token bucket (RFC 2697 without colours): so many a second, and no more than that at once.

export class TokenBucket {
  readonly #perSecond: number;
  #tokens: number;
  #filledAt = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  /** Whether there was a token to take. `seconds` is the time. */
  take(seconds: number): boolean {
    if (seconds > this.#filledAt) {
      this.#filledAt = seconds;
      this.#tokens = this.#perSecond;
    }
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }
}
