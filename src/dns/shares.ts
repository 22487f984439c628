// Places that clients share. A client may hold at most as many places as are free. So one greedy client takes at most half of
// them, and n greedy clients take 1/(n + 1) each, and leave as much for the next client.
import type { Ipv4 } from "../lib/ip.ts";

export class Shares {
  readonly #places: number;
  readonly #perClient: number;
  #taken = 0;
  // BOUNDED: by the places; keyed by the client's address.
  readonly #takenByClient = new Map<Ipv4, number>();

  /** `perClient`: the most that one client may hold, however many are free. */
  constructor(places: number, perClient: number) {
    this.#places = places;
    this.#perClient = perClient;
  }

  get isFull(): boolean {
    return this.#taken >= this.#places;
  }

  of(client: Ipv4): number {
    return this.#takenByClient.get(client) ?? 0;
  }

  hasRoomFor(client: Ipv4): boolean {
    return this.of(client) < Math.min(this.#perClient, this.#places - this.#taken);
  }

  /** Takes a place, whether there is room or not. */
  take(client: Ipv4): void {
    this.#taken++;
    this.#takenByClient.set(client, this.of(client) + 1);
  }

  /** Gives back a place that the client took. */
  give(client: Ipv4): void {
    this.#taken--;
    const left = this.of(client) - 1;
    if (left === 0) this.#takenByClient.delete(client);
    else this.#takenByClient.set(client, left);
  }

  /** The client that holds the most. */
  largest(): { client: Ipv4; places: number } | undefined {
    let largest: { client: Ipv4; places: number } | undefined;
    for (const [client, places] of this.#takenByClient) {
      if (places > (largest?.places ?? 0)) largest = { client, places };
    }
    return largest;
  }
}
