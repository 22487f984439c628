// The node's own resolvers, from resolv.conf(5). It is written in place, replaced, or a link that is moved: to read it
// every so often is the one way that sees all of that.
import { readFileSync } from "node:fs";
import { nameserversOf } from "../dns/upstream.ts";
import type { Clock, Timer } from "../lib/clock.ts";

const PATH = "/etc/resolv.conf";
const EVERY_MS = 2000;

export class ResolvConf {
  readonly #clock: Clock;
  readonly #path: string;
  #resolvers: readonly string[];
  #timer: Timer | undefined;

  constructor(clock: Clock, path = PATH) {
    this.#clock = clock;
    this.#path = path;
    // Without the file the local host would be asked, where nobody but us would answer.
    this.#resolvers = this.#read() ?? [];
  }

  get resolvers(): readonly string[] {
    return this.#resolvers;
  }

  /** Calls with the new ones whenever they are others than before. A file that is gone changes nothing. */
  watch(onChange: (resolvers: readonly string[]) => void): void {
    this.#timer = this.#clock.after(EVERY_MS, () => {
      const found = this.#read() ?? this.#resolvers;
      if (found.join() !== this.#resolvers.join()) {
        this.#resolvers = found;
        onChange(found);
      }
      this.watch(onChange);
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #read(): string[] | undefined {
    try {
      return nameserversOf(readFileSync(this.#path, "utf8"));
    } catch {
      return undefined;
    }
  }
}
