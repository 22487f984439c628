// Peers that are to be dialled: some at a time, the others in turn.

/** A handshake costs each end some milliseconds, and one that nothing answers takes seconds of waiting. */
const MOST_AT_ONCE = 32;

export class KeyDials<P> {
  readonly #dial: (peer: P) => Promise<void>;
  readonly #queue = new Set<P>(); // BOUNDED: by the peers
  readonly #under = new Set<P>(); // BOUNDED: by MOST_AT_ONCE
  #isStopped = false;

  /** `dial` does not reject. */
  constructor(dial: (peer: P) => Promise<void>) {
    this.#dial = dial;
  }

  /** A peer that is being dialled is not dialled again for that. */
  add(peer: P): void {
    if (this.#isStopped || this.#under.has(peer)) return;
    this.#queue.add(peer);
    this.#next();
  }

  /** It need not be dialled any more. A dial that has begun goes on. */
  remove(peer: P): void {
    this.#queue.delete(peer);
  }

  stop(): void {
    this.#isStopped = true;
    this.#queue.clear();
  }

  #next(): void {
    for (const peer of this.#queue) {
      if (this.#under.size >= MOST_AT_ONCE) return;
      this.#queue.delete(peer);
      this.#under.add(peer);
      void this.#dial(peer).then(() => {
        this.#under.delete(peer);
        this.#next();
      });
    }
  }
}
