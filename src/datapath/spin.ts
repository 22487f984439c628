// How long a worker looks again before it blocks. Looking saves the wake-up, which on a virtual machine whose processor
// halts is most of a small packet's way; but a worker that looks holds a processor that others may be waiting for, the
// very process that it waits for among them. So it does not while its own thread has to queue for a processor.

/** The share of the time in the queue from which on processors are scarce. */
const SCARCE = 0.1;

export class Spin {
  readonly #ms: number;
  readonly #queuedMs: () => number;
  #sampledMs = 0;
  #queuedBefore = 0;
  #isScarce = false;

  /** `queuedMs`: how long this thread has been able to run without a processor to run on, in all. */
  constructor(ms: number, queuedMs: () => number) {
    this.#ms = ms;
    this.#queuedMs = queuedMs;
  }

  /** How long to look now. */
  get ms(): number {
    return this.#isScarce ? 0 : this.#ms;
  }

  /** To be called now and then. */
  sample(nowMs: number): void {
    if (this.#ms === 0) return;
    const queued = this.#queuedMs();
    const passed = nowMs - this.#sampledMs;
    this.#isScarce = this.#sampledMs > 0 && queued - this.#queuedBefore > passed * SCARCE;
    this.#sampledMs = nowMs;
    this.#queuedBefore = queued;
  }
}
