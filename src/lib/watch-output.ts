// Watches what a monitoring program such as `ip monitor` prints, until it is closed.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Clock, Timer } from "./clock.ts";
import { systemEnv } from "./command.ts";
import { messageOf } from "./errors.ts";
import type { Log } from "./log.ts";

/** Changes come in bursts: those within this time make one call. */
const SETTLE_MS = 50;
const RESTART_MS = 1000;

export interface Watch {
  close(): void;
}

interface WatchOptions {
  log: Log;
  clock: Clock;
  monitors: readonly (readonly string[])[];
  /** What is watched, for the log: "links". */
  what: string;
  isOurs(line: string): boolean;
  onChange(): void;
}

/** A monitor that ends is started again, and counts as a change: it may have missed one. */
export function watchOutput({ log, clock, monitors, what, isOurs, onChange }: WatchOptions): Watch {
  const children = new Set<ChildProcess>(); // BOUNDED: by the monitors
  const timers = new Set<Timer>(); // BOUNDED: one that settles, one a monitor
  let settling = false;
  let closed = false;

  function after(ms: number, call: () => void): void {
    const timer = clock.after(ms, () => {
      timers.delete(timer);
      call();
    });
    timers.add(timer);
  }

  function changed(): void {
    if (settling || closed) return;
    settling = true;
    after(SETTLE_MS, () => {
      settling = false;
      onChange();
    });
  }

  function start(argv: readonly string[]): void {
    const [file, ...args] = argv;
    const child = spawn(file!, args, { stdio: ["ignore", "pipe", "ignore"], env: systemEnv() });
    children.add(child);
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (isOurs(line)) changed();
    });
    child.on("error", (error) => log.warn(`${what} are not watched`, { reason: messageOf(error) }));
    child.on("close", () => {
      children.delete(child);
      if (closed) return;
      after(RESTART_MS, () => {
        start(argv);
        changed();
      });
    });
  }

  for (const argv of monitors) start(argv);
  return {
    close() {
      closed = true;
      for (const timer of timers) timer.cancel();
      for (const child of children) child.kill();
    },
  };
}
