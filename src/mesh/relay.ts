// What the relays of TCP and UDP have in common: where they listen and lead, and what they did not carry.
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";

export interface Relay {
  /** Where it listens; of use when the port asked for was 0. */
  readonly port: number;
  close(): Promise<void>;
}

export interface RelayOptions {
  log: Log;
  clock: Clock;
  /** What it counts up. */
  drops: RelayDrops;
  /** Of this node. */
  address: string;
  /** 0: any. */
  port: number;
  target: { address: string; port: number };
}

/** By reason: no room for another client, nobody took it, it broke, could not be sent, came from or goes to nobody. */
export const RELAY_DROPS = ["relay-full", "relay-no-task", "relay-broken", "relay-unsent", "relay-stray"] as const;
export type RelayDrops = Record<(typeof RELAY_DROPS)[number], number>;

const FULL_SAID_MS = 60_000;

/** Counts clients for which there was no room, and says so once a minute. `what` is PORT/PROTOCOL. */
export function countFull({ log, clock, drops }: RelayOptions, what: string, most: number): () => void {
  let saidAt = Number.NEGATIVE_INFINITY;
  return () => {
    drops["relay-full"]++;
    if (clock.monotonic() - saidAt < FULL_SAID_MS) return;
    saidAt = clock.monotonic();
    log.warn("a relayed port has as many clients as it can: install nftables", { port: what, count: most });
  };
}
