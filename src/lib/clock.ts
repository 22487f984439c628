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
const processStartMs = Number(process.hrtime.bigint() / 1_000_000n) - performance.now();

/** Monotonic milliseconds since the machine started: they go on when the process does not. */
export function machineMonotonic(): number {
  return processStartMs + performance.now();
}

/** Resolves after `ms` of the clock's time. */
export function delay(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}
