// The processor time of the thread that asks, which other processes and other threads do not change.
import koffi from "koffi";

const CLOCK_THREAD_CPUTIME_ID = 3;
const clockGettime = koffi.load(null).func("int clock_gettime(int clock, _Out_ int64_t *seconds_and_nanoseconds)");
const time = new BigInt64Array(2);

/** Milliseconds, clock_gettime(2). */
export function threadMilliseconds(): number {
  if (clockGettime(CLOCK_THREAD_CPUTIME_ID, time) !== 0) throw new Error("there is no clock of the thread's time");
  return Number(time[0]) * 1000 + Number(time[1]) / 1e6;
}

/** Lets all promises that can settle do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
