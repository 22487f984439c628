// Questions that the agent forwards: a limited number is under way at once. The others wait, and the clients that wait take turns.
import type { Clock, Timer } from "../lib/clock.ts";
import type { Ipv4 } from "../lib/ip.ts";
import { SourceRateLimit } from "../lib/rate-limit.ts";
import { Shares } from "./shares.ts";

export interface FairQueueLimits {
  /** Questions of the node that may be under way. */
  readonly underWay: number;
  readonly underWayPerClient: number;
  /** Questions of the node that may wait. */
  readonly waiting: number;
  readonly waitingPerClient: number;
  readonly startedPerSecondAndClient: number;
}

interface Waiting {
  readonly start: () => void;
}

export class FairQueue {
  readonly #clock: Clock;
  readonly #underWay: Shares;
  readonly #waiting: Shares;
  readonly #rate: SourceRateLimit;
  // BOUNDED: by the limit of waiting questions; keyed by the client's address, the next to have its turn first.
  readonly #queues = new Map<Ipv4, Waiting[]>();
  #nextSecond: Timer | undefined;
  readonly #counters = { waited: 0, limited: 0 };

  /** `seed` keys the hash of clients. */
  constructor(clock: Clock, limits: FairQueueLimits, seed: number) {
    this.#clock = clock;
    this.#underWay = new Shares(limits.underWay, limits.underWayPerClient);
    this.#waiting = new Shares(limits.waiting, limits.waitingPerClient);
    this.#rate = new SourceRateLimit(limits.startedPerSecondAndClient, seed);
  }

  /** `waited`: questions that had to wait for their turn; `limited`: questions that got no turn in time, or no place to wait. */
  stats(): { readonly waited: number; readonly limited: number } {
    return { ...this.#counters };
  }

  /** Calls `ask` when it is the client's turn. Returns undefined when that takes longer than `patienceMs`. */
  async run<T>(client: Ipv4, patienceMs: number, ask: () => Promise<T>): Promise<T | undefined> {
    if (!this.#mayStart(client) && !(await this.#turn(client, patienceMs))) {
      this.#counters.limited++;
      return undefined;
    }
    try {
      return await ask();
    } finally {
      this.#underWay.give(client);
      this.#startWaiting();
    }
  }

  /** Takes a place for a question of the client, which then starts at once. Returns false when none is free. */
  #mayStart(client: Ipv4): boolean {
    if (!this.#underWay.hasRoomFor(client)) return false;
    const nowMs = this.#clock.monotonic();
    if (!this.#rate.take(client, Math.floor(nowMs / 1000))) {
      this.#nextSecond ??= this.#clock.after(1000 - (nowMs % 1000), () => {
        this.#nextSecond = undefined;
        this.#startWaiting();
      });
      return false;
    }
    this.#underWay.take(client);
    return true;
  }

  /** Waits until a place is taken for the client. Returns false when there is none in time. */
  #turn(client: Ipv4, patienceMs: number): Promise<boolean> {
    if (!this.#waiting.hasRoomFor(client)) return Promise.resolve(false);
    this.#waiting.take(client);
    this.#counters.waited++;
    const queue = this.#queues.get(client) ?? [];
    this.#queues.set(client, queue);
    return new Promise((resolve) => {
      const over = (isStarted: boolean): void => {
        timer.cancel();
        this.#waiting.give(client);
        resolve(isStarted);
      };
      const waiting: Waiting = { start: () => over(true) };
      const timer = this.#clock.after(patienceMs, () => {
        queue.splice(queue.indexOf(waiting), 1);
        if (queue.length === 0) this.#queues.delete(client);
        over(false);
      });
      queue.push(waiting);
    });
  }

  /** One question of each client in turn, as long as there is a place for any. */
  #startWaiting(): void {
    let refused = 0;
    while (refused < this.#queues.size) {
      const [client, queue] = this.#queues.entries().next().value!;
      this.#queues.delete(client);
      const isStarted = this.#mayStart(client);
      if (isStarted) queue.shift()!.start();
      if (queue.length > 0) this.#queues.set(client, queue); // behind the others
      refused = isStarted ? 0 : refused + 1;
    }
  }
}
