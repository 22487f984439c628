// The agent's parts in the order in which they were started: they stop in the opposite one.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

/** Something that goes on until it is stopped. */
export interface Part {
  stop(): Promise<void> | void;
}

export class Parts {
  readonly #log: Log;
  readonly #started: Part[] = []; // BOUNDED: by the agent's parts

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes over a part that has started, or is about to. */
  add<P extends Part>(part: P): P {
    this.#started.push(part);
    return part;
  }

  /** Stops all, the last started first. One that fails does not keep the others from it. */
  async stop(): Promise<void> {
    for (const part of this.#started.splice(0).reverse()) {
      try {
        await part.stop();
      } catch (error) {
        this.#log.error("a part did not stop cleanly", { reason: messageOf(error) });
      }
    }
  }
}
