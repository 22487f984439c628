// The path MTU to one peer, found by probes of chosen sizes (RFC 8899, DPLPMTUD). Sizes are of the inner IP packet.
//
//   Searching --(nothing larger is left to try)--> Complete --(raise timer, or its own size is lost)--> Searching
//
// The size of the underlay link is in use until a probe of it is lost. A lost probe lowers the MTU only once a smaller one is answered,
// so that a path that loses everything (congestion, an outage) is not taken for a narrow one.

/** RFC 8899 section 5.1.2, BASE_PLPMTU. */
const BASE_BYTES = 1200;
/** MIN_PLPMTU: the size that every host takes, RFC 791 section 3.1. */
const MIN_BYTES = 576;
/** MAX_PROBES: a size counts as lost after this many probes of it are lost. */
const MAX_PROBES = 3;
/** The size in use has more tries, because congestion loses probes too. */
const MAX_CONFIRMATIONS = 6;
/** PROBE_TIMER, or four round trips. */
const PROBE_MS = 300;
/** CONFIRMATION_TIMER: finds a black hole. */
const CONFIRM_MS = 5000;
/** PMTU_RAISE_TIMER; 600 s in the RFC, for probes that cost data. */
const RAISE_MS = 60_000;

export class PathMtu {
  /** Bytes of the largest packet that may be sent. */
  mtu: number;
  #max: number;
  /** The largest size that was answered in this search; 0: none. */
  #low = 0;
  /** The largest size that was not lost in this search. */
  #high: number;
  #candidate: number;
  #attempts = 0;
  /** When the probe under way counts as lost, or the next one is due. */
  #dueMs = 0;
  #isUnderWay = false;
  #isComplete = false;
  /** When larger sizes are tried again. */
  #raiseMs = 0;

  /** `max` is the size that fits the underlay link. */
  constructor(max: number) {
    this.mtu = this.#max = this.#high = this.#candidate = max;
  }

  get dueMs(): number {
    return this.#dueMs;
  }

  /** Measures everything anew, because the link or the path has changed. */
  restart(max: number): void {
    this.mtu = max === this.#max ? this.mtu : max;
    this.#max = max;
    this.#search(0, max, 0);
  }

  /** The size of the probe to send now; 0: none is due. */
  next(nowMs: number, rttMs: number): number {
    if (nowMs < this.#dueMs) return 0;
    if (this.#isUnderWay && this.#attempts >= this.#tries()) {
      this.#lost(nowMs);
      if (nowMs < this.#dueMs) return 0;
    }
    if (this.#isComplete && !this.#isUnderWay && nowMs >= this.#raiseMs && this.mtu < this.#max) {
      this.#search(this.mtu, this.#max, nowMs);
    }
    this.#isUnderWay = true;
    this.#attempts++;
    this.#dueMs = nowMs + Math.max(PROBE_MS, 4 * rttMs);
    return this.#candidate;
  }

  /** A probe of `bytes` was answered. */
  answered(bytes: number, nowMs: number): void {
    if (!this.#isUnderWay || bytes !== this.#candidate) return;
    this.#low = bytes;
    // A larger size than the one in use passes, or the one in use is lost.
    if (bytes > this.mtu || this.#high < this.mtu) this.mtu = bytes;
    this.#narrow(nowMs);
  }

  #lost(nowMs: number): void {
    const size = this.#candidate;
    this.#isComplete = false;
    this.#high = size - 1;
    if (this.#low >= size) this.#low = 0; // the size in use: a black hole
    if (this.#low > 0) {
      if (this.#high < this.mtu) this.mtu = this.#low;
      this.#narrow(nowMs);
    } else if (size > BASE_BYTES) this.#try(BASE_BYTES, nowMs);
    else if (size > MIN_BYTES) this.#try(MIN_BYTES, nowMs);
    else this.#search(0, this.#max, nowMs + CONFIRM_MS); // nothing passes: not a matter of size
  }

  #narrow(nowMs: number): void {
    if (this.#low < this.#high) {
      this.#try(Math.ceil((this.#low + this.#high) / 2), nowMs);
      return;
    }
    if (!this.#isComplete) this.#raiseMs = nowMs + RAISE_MS;
    this.#search(this.#low, this.#low, nowMs + CONFIRM_MS);
    this.#isComplete = true;
  }

  #search(low: number, high: number, dueMs: number): void {
    this.#isComplete = false;
    this.#low = low;
    this.#high = high;
    this.#try(high, dueMs);
  }

  #try(candidate: number, dueMs: number): void {
    this.#candidate = candidate;
    this.#attempts = 0;
    this.#isUnderWay = false;
    this.#dueMs = dueMs;
  }

  #tries(): number {
    return this.#isComplete ? MAX_CONFIRMATIONS : MAX_PROBES;
  }
}
