// Whether clear packets pass to and from a peer whose probes go sealed: these come by another UDP port, and say nothing of that one. So once a
// second a clear probe goes, too. All that it says is that it came; a node that misses them says so in its sealed probes. Who forges one
// hides that the port is blocked, and does nothing else.

/** Milliseconds between two clear probes. */
const EVERY_MS = 1000;
/** A node that has had none for this time misses them. */
const MISSED_MS = 3 * EVERY_MS + EVERY_MS / 2;

/** The end that misses clear probes. */
export type ClearLost = "here" | "there";

export class ClearWay {
  /** -1: none are expected, for the peer's own probes are clear. */
  #heardMs = -1;
  #isMissedThere = false;
  #dueMs = 0;

  /** A sealed probe has come, which says whether the peer misses clear ones. */
  heardSealed(nowMs: number, isMissedThere: boolean): void {
    if (this.#heardMs < 0) this.#heardMs = nowMs;
    this.#isMissedThere = isMissedThere;
  }

  heardClear(nowMs: number): void {
    if (this.#heardMs >= 0) this.#heardMs = nowMs;
  }

  /** The peer's probes come clear, or not at all. */
  forget(): void {
    this.#heardMs = -1;
    this.#isMissedThere = false;
  }

  /** undefined: clear packets pass, or there is nothing to go by. */
  lost(nowMs: number): ClearLost | undefined {
    if (this.#heardMs >= 0 && nowMs - this.#heardMs > MISSED_MS) return "here";
    return this.#isMissedThere ? "there" : undefined;
  }

  /** Whether it is time for the next clear probe. */
  isDue(nowMs: number): boolean {
    if (nowMs < this.#dueMs) return false;
    this.#dueMs = nowMs + EVERY_MS;
    return true;
  }
}
