// The loop of a data-path worker: carry while there is something to carry, spin a little in case more comes, then
// block. Commands come between two steps.
import type { Engine } from "./engine.ts";

export interface LoopParts<Waited> {
  engine: Engine;
  /** Until a descriptor is ready, somebody wakes it, or `timeoutMs` passed. */
  wait(timeoutMs: number): Waited;
  /** Carries out waiting commands; false ends the loop. Called between two steps, so it must be cheap. */
  commands(): boolean;
  now(): number;
  /** Lets another thread have the processor, if one wants it. */
  yieldProcessor(): void;
  /** How long to look again before blocking, after there was something to carry. */
  spinMs: number;
}

/** Blocks its thread. Runs until a command ends it. */
export function runLoop({ engine, wait, commands, now, spinMs, yieldProcessor }: LoopParts<unknown>): void {
  let tickMs = now();
  let workMs = tickMs;
  while (commands()) {
    const carried = engine.step();
    const time = now();
    if (time >= tickMs) tickMs = time + engine.tick();
    if (carried > 0) workMs = time;
    else if (time - workMs >= spinMs) {
      wait(Math.max(1, Math.ceil(tickMs - time)));
      workMs = now();
    } else yieldProcessor();
  }
}

/** Lets its thread's event loop run between two steps, for an underlay that lives there. */
export async function runYieldingLoop(parts: LoopParts<Promise<unknown>>): Promise<void> {
  const { engine, wait, commands, now } = parts;
  let tickMs = now();
  while (commands()) {
    const carried = engine.step();
    const time = now();
    if (time >= tickMs) tickMs = time + engine.tick();
    if (carried > 0) await new Promise((resolve) => setImmediate(resolve));
    else await wait(Math.max(1, Math.ceil(tickMs - time)));
  }
}
