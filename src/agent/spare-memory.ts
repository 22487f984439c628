// Gives back the memory that a burst of changes took: V8 and malloc keep free memory until they need it again, and an agent
// that has nothing to do never does. After 1,000 services were made and removed an agent has 109 MB; without this, 156 MB.
import { Session } from "node:inspector/promises";
import type { Clock, Timer } from "../lib/clock.ts";
import { mallocTrim } from "../linux/libc.ts";

const QUIET_MS = 3000;
/** Less is not worth the tens of milliseconds for which this thread then stops. */
const SPARE_BYTES = 16 << 20;

export class SpareMemory {
  readonly #clock: Clock;
  #quiet: Timer | undefined;
  #keptBytes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Called at each change: looks at the memory once nothing has changed for QUIET_MS. */
  changed(): void {
    this.#quiet?.cancel();
    this.#quiet = this.#clock.after(QUIET_MS, () => void this.#giveBack());
  }

  stop(): void {
    this.#quiet?.cancel();
  }

  async #giveBack(): Promise<void> {
    if (process.memoryUsage().heapTotal - this.#keptBytes < SPARE_BYTES) return;
    // It is for this process alone, and unlike `gc()` it makes the room for the young small again.
    const session = new Session();
    session.connect();
    await session.post("HeapProfiler.collectGarbage");
    session.disconnect();
    mallocTrim(0);
    this.#keptBytes = process.memoryUsage().heapTotal;
  }
}
