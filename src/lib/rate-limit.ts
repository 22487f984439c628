// Limits a second: each second of the caller's clock begins a new count. What is not taken in one second is lost.

/** A limit for all together. */
export class RateLimit {
  readonly #perSecond: number;
  #second = -1;
  #taken = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether `amount` more fits in the second; then it is taken. `second` is the whole second of the clock. Hot path: must not allocate. */
  take(second: number, amount = 1): boolean {
    if (second !== this.#second) {
      this.#second = second;
      this.#taken = 0;
    }
    if (this.#taken + amount > this.#perSecond) return false;
    this.#taken += amount;
    return true;
  }
}

const SETS = 256;
const WAYS = 8;

// Words of a place.
const SOURCE = 0;
const SECOND = 1;
const TAKEN = 2; // in that second
const WORDS = 3;

/**
 * A limit for each source.
 * BOUNDED: SETS * WAYS sources, keyed by the source's address. The source that came least recently makes room in its set,
 * and begins at nothing when it comes back. So a limit holds while fewer sources are busy than there are places.
 */
export class SourceRateLimit {
  readonly #perSecond: number;
  readonly #seed: number;
  readonly #words = new Int32Array(SETS * WAYS * WORDS).fill(-1); // a free place is older than any second

  /** `seed` keys the hash, so that no sender can choose colliding sources. */
  constructor(perSecond: number, seed: number) {
    this.#perSecond = perSecond;
    this.#seed = seed;
  }

  /** As RateLimit.take, for one source: an int32. Hot path: must not allocate. */
  take(source: number, second: number, amount = 1): boolean {
    const words = this.#words;
    const at = this.#placeOf(source);
    if (words[at + SOURCE] !== source || words[at + SECOND]! !== second) {
      words[at + SOURCE] = source;
      words[at + SECOND] = second;
      words[at + TAKEN] = 0;
    }
    if (words[at + TAKEN]! + amount > this.#perSecond) return false;
    words[at + TAKEN]! += amount;
    return true;
  }

  #placeOf(source: number): number {
    const words = this.#words;
    const hash = Math.imul(source ^ this.#seed, 0x9e3779b1);
    const set = ((hash ^ (hash >>> 15)) & (SETS - 1)) * WAYS * WORDS;
    let place = set;
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (words[at + SOURCE] === source) return at;
      if (words[at + SECOND]! < words[place + SECOND]!) place = at;
    }
    return place;
  }
}
