// Work that is done one piece at a time, in the order in which it came.

export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  /** How many pieces are not done yet, the one under way among them. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Does `work` after all that was given before, whether that succeeded or failed. Settles as `work` does. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#last.then(work).finally(() => this.#waiting--);
    this.#last = result.catch(() => {}); // the caller has the failure
    return result;
  }

  /** Resolves when all that was given until now is done. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
