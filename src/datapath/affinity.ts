// The task that a client was given, for services with client affinity: a client gets the same task until it has made no new flow for
// the service's time. BOUNDED: SETS * WAYS clients, where the one that is idle longest makes room in its set; keyed by VIP and client.
import type { Ipv4 } from "../lib/ip.ts";
import { mix } from "./schedulers/hash.ts";

const SETS = 4096;
const WAYS = 4;

// Words of an entry; one that was never used has 0 everywhere.
const VIP = 0;
const CLIENT = 1;
const TASK = 2;
const SEEN = 3; // seconds
const WORDS = 4;

export class AffinityTable {
  readonly #words = new Int32Array(SETS * WAYS * WORDS);

  /** The client's task, if it was given one within `timeoutSeconds`; 0: none. */
  taskOf(vip: Ipv4, client: Ipv4, seconds: number, timeoutSeconds: number): Ipv4 {
    const words = this.#words;
    const set = setOf(vip, client);
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (words[at + VIP] !== vip || words[at + CLIENT] !== client) continue;
      return seconds - words[at + SEEN]! <= timeoutSeconds ? words[at + TASK]! : 0;
    }
    return 0;
  }

  remember(vip: Ipv4, client: Ipv4, task: Ipv4, seconds: number): void {
    const words = this.#words;
    const set = setOf(vip, client);
    let place = set;
    for (let at = set; at < set + WAYS * WORDS; at += WORDS) {
      if (words[at + VIP] === vip && words[at + CLIENT] === client) {
        place = at;
        break;
      }
      if (words[at + SEEN]! < words[place + SEEN]!) place = at;
    }
    words[place + VIP] = vip;
    words[place + CLIENT] = client;
    words[place + TASK] = task;
    words[place + SEEN] = seconds;
  }
}

function setOf(vip: Ipv4, client: Ipv4): number {
  return (mix(vip, client) & (SETS - 1)) * WAYS * WORDS;
}
