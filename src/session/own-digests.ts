// Digests of what this node has, for the leader that it comes to: that leaves out of the snapshot what is the same.
import { setImmediate as nextEvents } from "node:timers/promises";
import { type BucketDigests, RowBuckets } from "../cluster/row-buckets.ts";
import type { State } from "../cluster/tables.ts";
import { systemClock } from "../lib/clock.ts";

/** How long rows are looked at before other work of the thread has its turn. */
const PIECE_MS = 5;

/** Looks at each row. The state must not change meanwhile. */
export async function digestsOf(state: State): Promise<BucketDigests> {
  const pieces = RowBuckets.inPieces(state);
  let begun = systemClock.monotonic();
  for (;;) {
    const { done, value } = pieces.next();
    if (done === true) return value.digests();
    if (systemClock.monotonic() - begun < PIECE_MS) continue;
    await nextEvents();
    begun = systemClock.monotonic();
  }
}
