// What must be stopped, in the order in which it was started.
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";

export class Stops {
  readonly #log: Log;
  readonly #stops: (() => Promise<void> | void)[] = []; // BOUNDED: by the agent's parts

  constructor(log: Log) {
    this.#log = log;
  }

  push(stop: () => Promise<void> | void): void {
    this.#stops.push(stop);
  }

  /** Stops all, the last started first. One that fails does not keep the others from it. */
  async run(): Promise<void> {
    for (const stop of this.#stops.splice(0).reverse()) {
      try {
        await stop();
      } catch (error) {
        this.#log.error("a part did not stop cleanly", { reason: messageOf(error) });
      }
    }
  }
}
