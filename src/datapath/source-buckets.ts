// A token bucket (RFC 2697 without colours) for each source: it fills with `perSecond` tokens a second, and holds no more.
// BOUNDED: SETS * WAYS sources; the source that asked least recently makes room in its set, and has a full bucket when it
// comes back. So a limit holds while fewer sources are busy than there are places. Keyed by the source's address.
const SETS = 256;
const WAYS = 8;

// Words of a place.
const SOURCE = 0;
const SECOND = 1;
const TAKEN = 2; // in that second
const WORDS = 3;

export class SourceBuckets {
  readonly #perSecond: number;
  readonly #seed: number;
  readonly #words = new Int32Array(SETS * WAYS * WORDS);

  /** `seed` keys the hash, so that no sender can choose colliding sources. */
  constructor(perSecond: number, seed: number) {
    this.#perSecond = perSecond;
    this.#seed = seed;
  }

  /** Whether there was a token to take. `seconds` is the time. Hot path: must not allocate. */
  take(source: number, seconds: number): boolean {
    const words = this.#words;
    const at = this.#placeOf(source);
    if (words[at + SOURCE] !== source || words[at + SECOND]! !== seconds) {
      words[at + SOURCE] = source;
      words[at + SECOND] = seconds;
      words[at + TAKEN] = 0;
    }
    if (words[at + TAKEN]! >= this.#perSecond) return false;
    words[at + TAKEN]!++;
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
