// Responses from upstream, kept for the time that their TTLs say and, for when no upstream answers, a day longer (RFC 8767).
// That no upstream answered is kept too, for seconds (RFC 9520).
import { aged, type Response } from "./response.ts";

const MAX_ENTRIES = 10_000;
const MAX_BYTES = 16 * 1024 * 1024;
const MAX_TTL_SECONDS = 86_400;
const STALE_MS = 86_400_000;
/** The TTL of a stale answer's records, RFC 8767 section 4. */
const STALE_TTL_SECONDS = 30;
/** RFC 9520 section 3.2: at least a second, longer with each failure, at most five minutes. */
const FIRST_FAILURE_MS = 1_000;
const LONGEST_FAILURE_MS = 5_000;
/** Bytes of an entry besides its message: key, fields, TTL offsets. */
const ENTRY_OVERHEAD_BYTES = 512;

interface Entry {
  /** The last response; undefined: there were only failures. */
  readonly response: Response | undefined;
  readonly storedMs: number;
  readonly freshUntilMs: number;
  readonly failedUntilMs: number;
  /** The time that the last failure was kept; 0: there was none since the response. */
  readonly failureMs: number;
}

const EMPTY: Entry = {
  response: undefined,
  storedMs: Number.NEGATIVE_INFINITY,
  freshUntilMs: Number.NEGATIVE_INFINITY,
  failedUntilMs: Number.NEGATIVE_INFINITY,
  failureMs: 0,
};

export interface CacheLimits {
  readonly entries: number;
  readonly bytes: number;
}

export class ResponseCache {
  readonly #limits: CacheLimits;
  // BOUNDED: by #limits, where the least recently used goes first; keyed by question and DNSSEC wishes.
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(limits: CacheLimits = { entries: MAX_ENTRIES, bytes: MAX_BYTES }) {
    this.#limits = limits;
  }

  put(key: string, response: Response, nowMs: number): void {
    const ttlMs = Math.min(response.ttlSeconds, MAX_TTL_SECONDS) * 1000;
    if (ttlMs === 0) this.#remove(key);
    else this.#set(key, { ...EMPTY, response, storedMs: nowMs, freshUntilMs: nowMs + ttlMs });
  }

  /** Notes that no upstream had an answer. A response that is kept stays for stale(). */
  putFailure(key: string, nowMs: number): void {
    const entry = this.#entries.get(key) ?? EMPTY;
    const failureMs = Math.min(LONGEST_FAILURE_MS, Math.max(FIRST_FAILURE_MS, 2 * entry.failureMs));
    this.#set(key, { ...entry, failedUntilMs: nowMs + failureMs, failureMs });
  }

  /** The fresh message, its TTLs counted down; undefined: there is none. */
  fresh(key: string, nowMs: number): Buffer | undefined {
    const entry = this.#entries.get(key);
    if (entry?.response === undefined || nowMs >= entry.freshUntilMs) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return aged(entry.response, Math.floor((nowMs - entry.storedMs) / 1000), MAX_TTL_SECONDS);
  }

  /** Whether no upstream had an answer just now, so that it is of no use to ask again. */
  hasFailed(key: string, nowMs: number): boolean {
    const entry = this.#entries.get(key);
    return entry !== undefined && nowMs < entry.failedUntilMs;
  }

  /** The message, although its time may be over, for a client that would otherwise get none. */
  stale(key: string, nowMs: number): Buffer | undefined {
    const entry = this.#entries.get(key);
    if (entry?.response === undefined || nowMs >= entry.freshUntilMs + STALE_MS) return undefined;
    return aged(entry.response, 0, STALE_TTL_SECONDS);
  }

  #set(key: string, entry: Entry): void {
    this.#remove(key);
    this.#entries.set(key, entry);
    this.#bytes += costOf(entry);
    while (this.#entries.size > this.#limits.entries || this.#bytes > this.#limits.bytes) {
      this.#remove(this.#entries.keys().next().value!);
    }
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= costOf(entry);
  }
}

function costOf({ response }: Entry): number {
  return (response?.message.length ?? 0) + ENTRY_OVERHEAD_BYTES;
}
