// Watches links, addresses, routes, rules and filters for changes by any process.
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";
import { isVethName, TABLE } from "./desired.ts";

const MONITORS = [
  ["ip", "monitor", "link", "address", "route", "rule", "neigh"],
  ["tc", "monitor"],
] as const;

interface WatchLinksOptions {
  log: Log;
  clock: Clock;
  /** The TUN's name. */
  device: string;
  onChange(): void;
}

/** Whether the line is about the TUN, a host end or our routing table. The host has other links, and neighbours that come and go. */
export function isOurs(line: string, device: string): boolean {
  return line.split(/[\s@:]+/).some((word) => word === device || word === TABLE || isVethName(word));
}

export function watchLinks({ device, ...rest }: WatchLinksOptions): Watch {
  return watchOutput({ ...rest, monitors: MONITORS, what: "links", isOurs: (line) => isOurs(line, device) });
}
