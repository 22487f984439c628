// Beats over HTTPS: one request whose body goes on as long as the session does, a line each. A beat costs a manager a fraction
// of a request. Nothing answers it: when the request breaks, reports say what beats said.
import type { Agent } from "node:http";
import { PassThrough } from "node:stream";
import { upload } from "../lib/http.ts";

const CONNECT_TIMEOUT_MS = 10_000;
/** A manager that takes no more beats than that is asked by a report, which has a deadline. */
const MAX_UNSENT_BYTES = 16 * 1024;

/** A session's way for what most reports would say: that the node lives, and which revision it has in force. */
export interface Beats {
  /** Whether it is on its way; false: a report has to say it. */
  tell(applied: number): boolean;
  end(): void;
}

interface BeatStreamOptions {
  /** `agent` is another one after each renewal of the certificate. */
  connections: { readonly agent: Agent };
  /** HOST:PORT of the manager. */
  address: string;
  path: string;
  lost: () => void;
}

export class BeatStream implements Beats {
  readonly #options: BeatStreamOptions;
  #request: { agent: Agent; lines: PassThrough } | undefined;
  #isOver = false;

  constructor(options: BeatStreamOptions) {
    this.#options = options;
  }

  tell(applied: number): boolean {
    if (this.#isOver) return false;
    const { agent } = this.#options.connections;
    // A manager counts on it that a node soon shows its new certificate.
    if (this.#request?.agent !== agent) this.#begin(agent);
    const { lines } = this.#request!;
    if (lines.writableLength > MAX_UNSENT_BYTES) return false;
    lines.write(`${applied}\n`);
    return true;
  }

  end(): void {
    this.#isOver = true;
    this.#request?.lines.destroy();
  }

  #begin(agent: Agent): void {
    const { address, path, lost } = this.#options;
    this.#request?.lines.destroy();
    const lines = new PassThrough();
    this.#request = { agent, lines };
    const over = (): void => {
      if (this.#isOver || this.#request?.lines !== lines) return;
      this.#isOver = true;
      lost();
    };
    upload({ address, agent }, { path, bytes: lines, timeoutMs: CONNECT_TIMEOUT_MS }).then(over, over);
  }
}
