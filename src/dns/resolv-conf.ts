// The node's own resolvers, search domains and options, from resolv.conf(5). Programs write the file in place, replace it, or
// move a link: reading it at intervals is the one way that sees all of that.
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import type { Clock, Timer } from "../lib/clock.ts";
import { parseResolvConf, type Resolver } from "../lib/resolv-conf.ts";

const PATH = "/etc/resolv.conf";
const EVERY_MS = 2000;

export class ResolvConf {
  readonly #clock: Clock;
  readonly #path: string;
  #content: Resolver;
  #timer: Timer | undefined;

  constructor(clock: Clock, path = PATH) {
    this.#clock = clock;
    this.#path = path;
    // Without the file resolv.conf(5) means the local host, where no server but this one answers.
    this.#content = this.#read() ?? { nameservers: [], search: [], options: [] };
  }

  get resolvers(): readonly string[] {
    return this.#content.nameservers;
  }

  /** The file's content now; while there is no file, its last content. */
  get content(): Resolver {
    this.#content = { ...(this.#read() ?? this.#content), nameservers: this.#content.nameservers };
    return this.#content;
  }

  /** Calls with the file's resolvers whenever they are others than before. A file that is gone changes nothing. */
  watch(onChange: (resolvers: readonly string[]) => void): void {
    this.#timer = this.#clock.after(EVERY_MS, () => {
      const before = this.#content.nameservers;
      this.#content = this.#read() ?? this.#content;
      const found = this.#content.nameservers;
      if (found.join() !== before.join()) onChange(found);
      this.watch(onChange);
    });
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #read(): Resolver | undefined {
    try {
      const content = parseResolvConf(readFileSync(this.#path, "utf8"));
      return { ...content, nameservers: content.nameservers.filter((server) => isIP(server) !== 0) };
    } catch {
      return undefined;
    }
  }
}
