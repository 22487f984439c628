// The window against replayed packets of one association, RFC 6479: a ring of words that is longer than the window, so that moving the window
// clears whole words and shifts none. Sequences are unsigned numbers of 32 bits, and begin with 1.

/** Packets that may come late. */
export const WINDOW = 1024;
const WORD_BITS = 32;
/** A power of two, larger than WINDOW / WORD_BITS. */
const WORDS = 64;

export class ReplayWindow {
  readonly #seen = new Int32Array(WORDS);
  #highest = 0;

  /** Whether the packet may be new: it is neither older than the window nor one that was taken. Hot path: must not allocate. */
  mayTake(sequence: number): boolean {
    if (sequence > this.#highest) return true;
    if (sequence === 0 || sequence + WINDOW <= this.#highest) return false;
    return (this.#seen[wordOf(sequence)]! & bitOf(sequence)) === 0;
  }

  /** Takes a packet for which mayTake() was true, and which has been found genuine since. Hot path: must not allocate. */
  take(sequence: number): void {
    if (sequence > this.#highest) {
      const from = Math.floor(this.#highest / WORD_BITS);
      const steps = Math.min(Math.floor(sequence / WORD_BITS) - from, WORDS);
      for (let i = 1; i <= steps; i++) this.#seen[(from + i) & (WORDS - 1)] = 0;
      this.#highest = sequence;
    }
    this.#seen[wordOf(sequence)]! |= bitOf(sequence);
  }
}

function wordOf(sequence: number): number {
  return (sequence >>> 5) & (WORDS - 1);
}

function bitOf(sequence: number): number {
  return 1 << (sequence & (WORD_BITS - 1));
}
