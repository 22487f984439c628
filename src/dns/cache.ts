// Responses from upstream, kept as long as their TTLs say and, for when no upstream answers, a day longer (RFC 8767).
import { aged, type Response } from "./response.ts";

const MAX_ENTRIES = 10_000;
const MAX_BYTES = 16 * 1024 * 1024;
const MAX_TTL_SECONDS = 86_400;
const STALE_MS = 86_400_000;
/** What a stale answer's records say, RFC 8767 section 4. */
const STALE_TTL_SECONDS = 30;
/** Beside the message: key, entry, TTL offsets. */
const ENTRY_OVERHEAD_BYTES = 512;

interface Entry {
  readonly response: Response;
  readonly storedMs: number;
  readonly freshUntilMs: number;
}

export class ResponseCache {
  // BOUNDED: by MAX_ENTRIES and MAX_BYTES, least recently used out first; keyed by question and DNSSEC wishes.
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  put(key: string, response: Response, nowMs: number): void {
    const ttlMs = Math.min(response.ttlSeconds, MAX_TTL_SECONDS) * 1000;
    this.#remove(key);
    if (ttlMs === 0) return;
    this.#entries.set(key, { response, storedMs: nowMs, freshUntilMs: nowMs + ttlMs });
    this.#bytes += costOf(response);
    while (this.#entries.size > MAX_ENTRIES || this.#bytes > MAX_BYTES) {
      this.#remove(this.#entries.keys().next().value!);
    }
  }

  /** The message with its TTLs counted down; undefined when there is none that is fresh. */
  fresh(key: string, nowMs: number): Buffer | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs >= entry.freshUntilMs) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return aged(entry.response, Math.floor((nowMs - entry.storedMs) / 1000), MAX_TTL_SECONDS);
  }

  /** The message although its time is over, for a client that would otherwise get none. */
  stale(key: string, nowMs: number): Buffer | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs >= entry.freshUntilMs + STALE_MS) return undefined;
    return aged(entry.response, 0, STALE_TTL_SECONDS);
  }

  #remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= costOf(entry.response);
  }
}

function costOf(response: Response): number {
  return response.message.length + ENTRY_OVERHEAD_BYTES;
}
