// Tells when links, addresses, routes, rules or filters change, whoever changed them.
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Clock, Timer } from "../lib/clock.ts";
import { systemEnv } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { isVethName, TABLE } from "./desired.ts";

/** Changes come in bursts: one call for what comes within this time. */
const SETTLE_MS = 50;
const RESTART_MS = 1000;

const MONITORS = [
  ["ip", "monitor", "link", "address", "route", "rule", "neigh"],
  ["tc", "monitor"],
] as const;

export interface Watch {
  close(): void;
}

export interface WatchOptions {
  log: Log;
  clock: Clock;
  /** The TUN's name. */
  device: string;
  onChange(): void;
}

/** The host's other links, and all the neighbours that it sees come and go, are none of our business. */
export function isOurs(line: string, device: string): boolean {
  return line.split(/[\s@:]+/).some((word) => word === device || word === TABLE || isVethName(word));
}

/** A monitor that ends is started again, and counts as a change: it may have missed one. */
export function watchLinks({ log, clock, device, onChange }: WatchOptions): Watch {
  const children = new Set<ChildProcess>(); // BOUNDED: by MONITORS
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
      if (isOurs(line, device)) changed();
    });
    child.on("error", (error) => log.warn("links are not watched", { reason: messageOf(error) }));
    child.on("close", () => {
      children.delete(child);
      if (closed) return;
      after(RESTART_MS, () => {
        start(argv);
        changed();
      });
    });
  }

  for (const argv of MONITORS) start(argv);
  return {
    close() {
      closed = true;
      for (const timer of timers) timer.cancel();
      for (const child of children) child.kill();
    },
  };
}
