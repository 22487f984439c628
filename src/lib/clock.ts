// Time as a parameter, so that a test can run a day in a second.

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Wall-clock milliseconds since 1970. */
  now(): number;
  /** Monotonic milliseconds; only differences mean something. */
  monotonic(): number;
  /** Calls once after `ms`. A pending timer does not keep the process alive. */
  after(ms: number, call: () => void): Timer;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    timer.unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** Milliseconds from the machine's start to this process's monotonic zero. */
const processStartMs = processStart();

/** The process's start. It reads both clocks several times and keeps the quickest reading: the kernel may pause the process between the two. */
function processStart(): number {
  let best = { tookMs: Number.POSITIVE_INFINITY, startMs: 0 };
  for (let i = 0; i < 10; i++) {
    const before = performance.now();
    const machineMs = Number(process.hrtime.bigint()) / 1e6;
    const tookMs = performance.now() - before;
    if (tookMs < best.tookMs) best = { tookMs, startMs: machineMs - before };
  }
  return best.startMs;
}

/** Monotonic milliseconds since the machine started: they go on when the process does not. */
export function machineMonotonic(): number {
  return processStartMs + performance.now();
}

/** Resolves after `ms` of the clock's time, or at once when `signal` aborts or has done so before. */
export function delay(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = () => {
      timer.cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const timer = clock.after(ms, finish);
    signal?.addEventListener("abort", finish);
  });
}

/** Resolves when `signal` aborts, at once if it has. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
