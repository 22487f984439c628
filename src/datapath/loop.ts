// The loop of a data-path worker: wait until a side has something, carry it, and wait again: a little while awake, in
// case more comes at once, then blocked. Commands come between two steps.
//
// To look again saves the wake-up, which on a virtual machine whose processor halts is most of a small packet's way. A
// worker that only looked would hold a processor that others wait for, the very process that it waits for among them:
// so every look first lets all others run that can.
import { type Engine, Side } from "./engine.ts";

/** Packets that came further apart than so many times the look are not waited for awake. */
const FAR_APART = 10;
/** A look that takes longer was others' time. */
const LOOK_MS = 0.005;

export interface LoopParts<Waited> {
  engine: Pick<Engine, "step" | "tick">;
  /**
   * Until a side is ready, somebody wakes it, or `timeoutMs` passed (0: lets others run, and looks). Which are ready, as
   * Side's bits.
   */
  wait(timeoutMs: number): Waited;
  /** Which sides are ready now. The loop asks when a step has left something, so that each side has its turn. */
  look(): number;
  /** Carries out waiting commands; false ends the loop. Called between two steps, so it must be cheap. */
  commands(): boolean;
  now(): number;
  /** How long it looks again after it has carried something. */
  spinMs: number;
}

/** Blocks its thread. Runs until a command ends it. */
export function runLoop({ engine, wait, look, commands, now, spinMs }: LoopParts<number>): void {
  let ready: number = Side.Both;
  let tickMs = now();
  let workMs = 0;
  let lookMs = 0;
  let awakeMs = 0;
  while (commands()) {
    const worked = ready !== 0;
    if (worked && engine.step(ready) !== 0) ready = look() & Side.Both;
    else ready = 0;
    const time = now();
    if (worked) {
      if (time - workMs < spinMs * FAR_APART) awakeMs = spinMs;
      workMs = time;
    } else awakeMs -= Math.min(time - lookMs, LOOK_MS);
    lookMs = time;
    if (time >= tickMs) tickMs = time + engine.tick();
    if (ready === 0) ready = wait(awakeMs > 0 ? 0 : Math.max(1, Math.ceil(tickMs - time))) & Side.Both;
  }
}

/** Lets its thread's event loop run between two steps, for an underlay that lives there and so is looked at each time. */
export async function runYieldingLoop({
  engine,
  wait,
  look,
  commands,
  now,
}: LoopParts<Promise<number>>): Promise<void> {
  let ready: number = Side.Both;
  let tickMs = now();
  while (commands()) {
    const more = engine.step(ready | Side.Underlay);
    const time = now();
    if (time >= tickMs) tickMs = time + engine.tick();
    if (more !== 0) await new Promise((resolve) => setImmediate(resolve));
    ready = (more !== 0 ? look() : await wait(Math.max(1, Math.ceil(tickMs - time)))) & Side.Both;
  }
}
