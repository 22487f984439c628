// The loop of a data-path worker: wait until a side has something, carry it, and wait again: a little while awake, in
// case more comes at once, then blocked. Commands come between two steps.
//
// Looking again saves the wake-up, which is most of a small packet's way on a virtual machine whose processor halts. A worker that
// looked all the time would hold a processor that other threads wait for, even the one that is to send the packet: so each look first
// lets all others run that can.
import { type Engine, Side } from "./engine.ts";

/** Packets that come further apart than this many times `spinMs` are not waited for awake. */
const FAR_APART = 10;
/** A look that takes longer has let other threads run: the rest of it does not count. */
const LOOK_MS = 0.005;

interface LoopOptions<Waited> {
  engine: Pick<Engine, "step" | "tick">;
  /**
   * Waits until a side is ready, another thread wakes this one, or `timeoutMs` passed (0: it lets others run, and looks). Returns the
   * sides that are ready, as Side's bits.
   */
  wait(timeoutMs: number): Waited;
  /** The sides that are ready now. The loop asks when a step has left something, so that each side has its turn. */
  look(): number;
  /** Carries out waiting commands; false ends the loop. Called between two steps, so it must be cheap. */
  commands(): boolean;
  now(): number;
  /** The time for which it looks again after it has carried something. */
  spinMs: number;
}

/** Runs the loop until a command ends it. It blocks its thread. */
export function runLoop({ engine, wait, look, commands, now, spinMs }: LoopOptions<number>): void {
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

/** Runs the loop and lets the thread's event loop run between two steps, for an underlay that lives there. It is asked at each step. */
export async function runYieldingLoop({
  engine,
  wait,
  look,
  commands,
  now,
}: LoopOptions<Promise<number>>): Promise<void> {
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
