// One resolver above us: how it is written, and what is remembered of its health.
import { isIP } from "node:net";

const DNS_PORT = 53;
const DOWN_AFTER_FAILURES = 2;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export class Upstream {
  readonly address: string;
  readonly port: number;
  #failures = 0;
  #failedName: string | undefined;
  #isHeard = true;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** When it was last found to be up or down. The failure of a question from before that says nothing new. */
  #judgedMs = Number.NEGATIVE_INFINITY;

  constructor(address: string, port: number) {
    this.address = address;
    this.port = port;
  }

  get name(): string {
    return `${this.address}#${this.port}`;
  }

  /** Until it answers, also while it is tried again. */
  get isDown(): boolean {
    return this.#failures >= DOWN_AFTER_FAILURES;
  }

  /** Whether to ask it before those that failed lately. */
  isHealthy(nowMs: number): boolean {
    return nowMs >= this.#pausedUntilMs;
  }

  /** Whether to wait for it: one that said something of no use the last time says it at once. */
  isHeard(nowMs: number): boolean {
    return this.#isHeard || this.isHealthy(nowMs);
  }

  /** It is about to be asked. One that was down is tried with one question; others go elsewhere meanwhile. */
  asked(nowMs: number): void {
    if (this.isDown && this.isHealthy(nowMs)) this.#pausedUntilMs = nowMs + FIRST_PAUSE_MS;
  }

  /** It said something, if only that it cannot resolve a name. Whether it was down before. */
  answered(nowMs: number): boolean {
    const wasDown = this.isDown;
    this.#failures = 0;
    this.#failedName = undefined;
    this.#isHeard = true;
    this.#pausedUntilMs = Number.NEGATIVE_INFINITY;
    this.#judgedMs = nowMs;
    return wasDown;
  }

  /**
   * Of a question that was asked at `sinceMs`. Whether it is down now and was not before. With `name`, what failed may be
   * that name's fault: many failures of one name count as one. `isHeard`: it said something, of no use.
   */
  failed(sinceMs: number, nowMs: number, name?: string, isHeard = false): boolean {
    if (sinceMs < this.#judgedMs || (name !== undefined && name === this.#failedName)) return false;
    this.#failedName = name;
    this.#isHeard = isHeard;
    this.#failures++;
    const beyond = this.#failures - DOWN_AFTER_FAILURES;
    if (beyond < 0) return false;
    this.#pausedUntilMs = nowMs + Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(beyond, 10));
    this.#judgedMs = nowMs;
    return beyond === 0;
  }
}

/** Reads `ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`, an IPv6 address with its zone or without; undefined: none of them. */
export function parseUpstream(text: string): Upstream | undefined {
  if (isIP(text) !== 0) return new Upstream(text, DNS_PORT);
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2] ?? "";
  const port = Number(match?.[3]);
  if (isIP(address) !== (match?.[1] === undefined ? 4 : 6) || port < 1 || port > 65535) return undefined;
  return new Upstream(address, port);
}
