// The loop of a data-path worker: wait until a side has something, carry it, and wait again: a little while awake, in
// case more comes at once, then blocked. Commands come between two steps.
//
// Looking again saves the wake-up, which is most of a small packet's way on a virtual machine whose processor halts. A worker that
// looked all the time would hold a processor that other threads wait for, even the one that is to send the packet: so each look first
// lets others run. The scheduler lets few of them: it gives the time of a thread that goes before ordinary ones to these only when that
// has had its larger share, and shares it by sessions or cgroups first. So while many threads wait for processors a worker does not look:
// it blocks at once, and a processor that others use is awake when a packet comes.
import { type Engine, Side } from "./engine.ts";

/** Packets that come further apart than this many times `spinMs` are not waited for awake. */
const FAR_APART = 10;
/** So often it asks how many threads are runnable, at most. */
const ASK_MS = 1;
/** How fast the mean of these follows: by this part of each answer. */
const MEAN_PART = 1 / 8;
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
  /** Threads of the machine that run or wait for a processor. Called after a step, now and then. */
  runnable(): number;
  /** With more of these on average the loop does not look again. */
  mostRunnable: number;
  /** The time for which it looks again after it has carried something. */
  spinMs: number;
}

/** Runs the loop until a command ends it. It blocks its thread. */
export function runLoop(options: LoopOptions<number>): void {
  const { engine, wait, look, commands, now, runnable, mostRunnable, spinMs } = options;
  let ready: number = Side.All;
  let tickMs = now();
  let workMs = 0;
  let lookMs = 0;
  let awakeMs = 0;
  let askMs = 0;
  let meanRunnable = 0;
  while (commands()) {
    const worked = ready !== 0;
    if (worked && engine.step(ready) !== 0) ready = look() & Side.All;
    else ready = 0;
    const time = now();
    if (worked) {
      if (time - workMs < spinMs * FAR_APART) awakeMs = spinMs;
      workMs = time;
      if (awakeMs > 0 && time >= askMs) {
        askMs = time + ASK_MS;
        meanRunnable += (runnable() - meanRunnable) * MEAN_PART;
      }
      if (meanRunnable > mostRunnable) awakeMs = 0;
    } else awakeMs -= Math.min(time - lookMs, LOOK_MS);
    lookMs = time;
    if (time >= tickMs) tickMs = time + engine.tick();
    if (ready === 0) ready = wait(awakeMs > 0 ? 0 : Math.max(1, Math.ceil(tickMs - time))) & Side.All;
  }
}

/** Runs the loop and lets the thread's event loop run between two steps, for an underlay that lives there. It is asked at each step. */
export async function runYieldingLoop({
  engine,
  wait,
  look,
  commands,
  now,
}: Omit<LoopOptions<Promise<number>>, "runnable" | "mostRunnable" | "spinMs">): Promise<void> {
  let ready: number = Side.All;
  let tickMs = now();
  while (commands()) {
    const more = engine.step(ready | Side.Underlay | Side.Sealed);
    const time = now();
    if (time >= tickMs) tickMs = time + engine.tick();
    if (more !== 0) await new Promise((resolve) => setImmediate(resolve));
    ready = (more !== 0 ? look() : await wait(Math.max(1, Math.ceil(tickMs - time)))) & Side.All;
  }
}
