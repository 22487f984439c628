// One resolver that this node asks: how its address is written, and what is remembered of its health.
import { isIP } from "node:net";
import { Backoff } from "../lib/backoff.ts";
import { DNS_PORT } from "../lib/standard-ports.ts";

const DOWN_AFTER_FAILURES = 2;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

export class Upstream {
  readonly address: string;
  readonly port: number;
  #failures = 0;
  readonly #pause = new Backoff(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  #failedName: string | undefined;
  #isHeard = true;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** When it was last found to be up or down, on the monotonic clock. The failure of an older question says nothing new. */
  #judgedMs = Number.NEGATIVE_INFINITY;

  constructor(address: string, port: number) {
    this.address = address;
    this.port = port;
  }

  get name(): string {
    return `${this.address}#${this.port}`;
  }

  /** Whether it is down: until it answers, also while it is tried again. */
  get isDown(): boolean {
    return this.#failures >= DOWN_AFTER_FAILURES;
  }

  /** Whether it is asked before the resolvers that failed lately. */
  isHealthy(nowMs: number): boolean {
    return nowMs >= this.#pausedUntilMs;
  }

  /** Whether a client waits for it. A resolver whose last answer was of no use gives the next one at once too. */
  isHeard(nowMs: number): boolean {
    return this.#isHeard || this.isHealthy(nowMs);
  }

  /** Notes that it is about to be asked. A resolver that was down is tried with one question; others go elsewhere meanwhile. */
  asked(nowMs: number): void {
    if (this.isDown && this.isHealthy(nowMs)) this.#pausedUntilMs = nowMs + FIRST_PAUSE_MS;
  }

  /** Notes that it answered, if only that it cannot resolve a name. Returns whether it was down before. */
  answered(nowMs: number): boolean {
    const wasDown = this.isDown;
    this.#failures = 0;
    this.#pause.succeeded();
    this.#failedName = undefined;
    this.#isHeard = true;
    this.#pausedUntilMs = Number.NEGATIVE_INFINITY;
    this.#judgedMs = nowMs;
    return wasDown;
  }

  /**
   * Notes that a question that was asked at `sinceMs` failed. Returns whether it is down now and was not before. With `name`,
   * the failure may be that name's fault: many failures of one name count as one. `isHeard`: its answer was of no use.
   */
  failed(sinceMs: number, nowMs: number, name?: string, isHeard = false): boolean {
    if (sinceMs < this.#judgedMs || (name !== undefined && name === this.#failedName)) return false;
    this.#failedName = name;
    this.#isHeard = isHeard;
    this.#failures++;
    if (!this.isDown) return false;
    this.#pausedUntilMs = nowMs + this.#pause.failed();
    this.#judgedMs = nowMs;
    return this.#failures === DOWN_AFTER_FAILURES;
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
