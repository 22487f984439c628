// Which endpoint of etcd a call asks, and for how long. Of several the first that can be reached is asked; one that did not
// answer is asked last in the next call.
import { systemClock } from "../lib/clock.ts";
import type { EtcdError } from "./etcd-error.ts";

/** PEM texts. Etcd trusts every certificate of its CA, so this CA is the store's own. */
export interface EtcdTls {
  ca: string;
  certificate: string;
  key: string;
}

export interface CallOptions {
  /** Ends the call; whether etcd carries it out is not known then. */
  signal?: AbortSignal | undefined;
  /** How long the whole call may take; left out: CALL_MS. */
  timeoutMs?: number;
}

const CALL_MS = 5000;
/** How long each of several endpoints may take to be connected with. */
const CONNECT_MS = 1000;

export class EtcdEndpoints {
  #endpoints: readonly string[];

  /** HOST:PORT of each. */
  constructor(endpoints: readonly string[]) {
    this.#endpoints = endpoints;
  }

  /** The answer of the first that can be reached. `exchange` sends one request there, and throws EtcdError. */
  async ask<Answer>(
    exchange: (endpoint: string, times: CallTimes) => Promise<Answer>,
    { signal, timeoutMs = CALL_MS }: CallOptions = {},
  ): Promise<Answer> {
    const until = systemClock.monotonic() + timeoutMs;
    let failure: unknown;
    for (const endpoint of this.#endpoints) {
      const leftMs = Math.max(1, until - systemClock.monotonic());
      const connectMs = this.#endpoints.length === 1 ? leftMs : Math.min(CONNECT_MS, leftMs);
      const times = new CallTimes({ signal, leftMs, connectMs });
      try {
        return await exchange(endpoint, times);
      } catch (error) {
        failure = error;
        const { kind } = error as EtcdError;
        if (kind === "unreachable" || kind === "unanswered") this.#askLast(endpoint);
        if (kind !== "unreachable" || signal?.aborted || systemClock.monotonic() >= until) break;
      } finally {
        times.end();
      }
    }
    throw failure;
  }

  #askLast(endpoint: string): void {
    this.#endpoints = [...this.#endpoints.filter((other) => other !== endpoint), endpoint];
  }
}

interface CallTimesOptions {
  signal: AbortSignal | undefined;
  /** How long the request and its answer may take. */
  leftMs: number;
  /** How long it may take until there is a connection. */
  connectMs: number;
}

/** When one request to one endpoint is given up. */
export class CallTimes {
  readonly #signal: AbortSignal | undefined;
  readonly #deadline: NodeJS.Timeout;
  readonly #connecting: NodeJS.Timeout;
  #isConnected = false;
  #reason: Error | undefined;
  #giveUp: ((reason: Error) => void) | undefined;

  constructor({ signal, leftMs, connectMs }: CallTimesOptions) {
    this.#signal = signal;
    const late = (ms: number) =>
      setTimeout(() => this.#over(new Error(`no answer within ${Math.round(ms) / 1000} s`)), ms);
    this.#deadline = late(leftMs);
    this.#connecting = late(connectMs);
    if (signal?.aborted) this.#abort();
    signal?.addEventListener("abort", this.#abort);
  }

  /** Whether the request may have gone out. */
  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** There is a connection, on which the request goes out. */
  connected(): void {
    this.#isConnected = true;
    clearTimeout(this.#connecting);
  }

  /** `giveUp` is called when the request is to be given up, at once if it is already. */
  onOver(giveUp: (reason: Error) => void): void {
    this.#giveUp = giveUp;
    if (this.#reason !== undefined) giveUp(this.#reason);
  }

  /** The request has its answer, or has failed. */
  end(): void {
    clearTimeout(this.#deadline);
    clearTimeout(this.#connecting);
    this.#signal?.removeEventListener("abort", this.#abort);
  }

  readonly #abort = (): void => this.#over(new Error("the call was given up"));

  #over(reason: Error): void {
    this.#reason ??= reason;
    this.#giveUp?.(this.#reason);
  }
}
