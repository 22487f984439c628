// The loop of a data-path worker: wait until a side has something, carry it, and wait again: a little while awake, in
// case more comes at once, then blocked. Commands come between two steps.
import { type Engine, Side } from "./engine.ts";
import type { Spin } from "./spin.ts";

export interface LoopParts<Waited> {
  engine: Engine;
  /** Until a side is ready, somebody wakes it, or `timeoutMs` passed (0: only looks). Which are ready, as Side's bits. */
  wait(timeoutMs: number): Waited;
  /** Carries out waiting commands; false ends the loop. Called between two steps, so it must be cheap. */
  commands(): boolean;
  now(): number;
  spin: Spin;
}

/** Blocks its thread. Runs until a command ends it. */
export function runLoop({ engine, wait, commands, now, spin }: LoopParts<number>): void {
  let ready: number = Side.Both;
  let tickMs = now();
  let workMs = tickMs;
  while (commands()) {
    const worked = ready !== 0;
    if (worked) ready = engine.step(ready);
    const time = now();
    if (worked) workMs = time;
    if (time >= tickMs) {
      spin.sample(time);
      tickMs = time + engine.tick();
    }
    if (ready === 0) ready = wait(time - workMs < spin.ms ? 0 : Math.max(1, Math.ceil(tickMs - time))) & Side.Both;
  }
}

/** Lets its thread's event loop run between two steps, for an underlay that lives there. */
export async function runYieldingLoop({ engine, wait, commands, now }: LoopParts<Promise<number>>): Promise<void> {
  let tickMs = now();
  while (commands()) {
    const more = engine.step(Side.Both);
    const time = now();
    if (time >= tickMs) tickMs = time + engine.tick();
    if (more !== 0) await new Promise((resolve) => setImmediate(resolve));
    else await wait(Math.max(1, Math.ceil(tickMs - time)));
  }
}
