// Shows the nodes that the leader lives: by the lines that they are sent anyway, and when there is none for a while by a
// line that says nothing else.
import { encodeLine } from "../cluster/protocol.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import type { Sessions } from "./sessions.ts";

export class AliveLines {
  readonly #clock: Clock;
  readonly #sessions: Sessions;
  readonly #beatMs: () => number;
  /** When a line last went to all nodes. */
  #sentAt = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  /** No node is without a line for longer than `beatMs`. */
  constructor(clock: Clock, sessions: Sessions, beatMs: () => number) {
    this.#clock = clock;
    this.#sessions = sessions;
    this.#beatMs = beatMs;
  }

  /** Begins, or goes on at another pace. */
  begin(): void {
    this.#timer?.cancel();
    if (this.#leftMs <= 0) this.#send();
    this.#timer = this.#clock.after(this.#leftMs, () => this.begin());
  }

  /** All nodes were sent a line. */
  sent(): void {
    this.#sentAt = this.#clock.monotonic();
  }

  end(): void {
    this.#timer?.cancel();
  }

  get #leftMs(): number {
    return this.#sentAt + this.#beatMs() - this.#clock.monotonic();
  }

  #send(): void {
    const alive = encodeLine({ type: "alive" });
    for (const { sink } of this.#sessions.all()) sink.send(alive);
    this.sent();
  }
}
