// So many a second for each client.
import type { Ipv4 } from "../lib/ip.ts";

/** Of one second; the rest of it nobody else is let through. */
const MOST_CLIENTS = 65_536;

export class RateLimit {
  readonly #perSecond: number;
  #second = Number.NaN;
  // BOUNDED: by MOST_CLIENTS, and empty with every second; keyed by the client's address.
  readonly #countsByClient = new Map<Ipv4, number>();

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  allows(client: Ipv4, nowMs: number, amount = 1): boolean {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#countsByClient.clear();
    }
    const count = this.#countsByClient.get(client) ?? 0;
    if (count + amount > this.#perSecond || (count === 0 && this.#countsByClient.size >= MOST_CLIENTS)) return false;
    this.#countsByClient.set(client, count + amount);
    return true;
  }
}
