// How long this thread has waited for a processor: the scheduler's own account, proc(5).
import { readFileSync } from "node:fs";

const NANOSECONDS = 1e6;

/** Milliseconds since the thread started; 0 where the kernel keeps no account. */
export function queuedMs(): number {
  try {
    // Time on a processor, time in the queue, time slices.
    return Number(readFileSync("/proc/thread-self/schedstat", "latin1").split(" ")[1]) / NANOSECONDS;
  } catch {
    return 0;
  }
}
