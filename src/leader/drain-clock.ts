// How long tasks have drained, by this leader's monotonic clock: operators set wall clocks forward and back, and those of
// two managers differ. A new leader begins to count again for each task.

import type { Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { Clock } from "../lib/clock.ts";

export class DrainClock {
  readonly #clock: Clock;
  // BOUNDED: by the tasks that drain, see `keep`; keyed by task id.
  readonly #begun = new Map<string, { revision: number; at: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Milliseconds since this leader first saw the task drain; 0 at the first call. */
  elapsedMs({ id, drain }: Task): number {
    const now = this.#clock.monotonic();
    const known = this.#begun.get(id);
    if (known !== undefined && known.revision === drain?.revision) return now - known.at;
    this.#begun.set(id, { revision: drain?.revision ?? 0, at: now });
    return 0;
  }

  /** Forgets tasks that do not drain any more. */
  keep({ tasks }: State): void {
    for (const id of this.#begun.keys()) if (tasks.get(id)?.desired !== "draining") this.#begun.delete(id);
  }
}
