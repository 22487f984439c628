// The IPv4 addresses that the kernel takes for this node's own, as its table `local` has them: of links, of `lo`, whether a cable
// is plugged in or not, from the moment that they are there to the moment that they go.
import { networkInterfaces } from "node:os";
import type { Clock } from "../lib/clock.ts";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";

/** A line of `ip monitor route` about an address that comes or goes. */
const IS_LOCAL_ROUTE = /\blocal\b.*\btable local\b/;

export interface LocalAddressesOptions {
  log: Log;
  clock: Clock;
  /** The TUN's name. The gateways and the node's address on the overlay, which are its, are left out. */
  device: string;
}

interface RouteJson {
  /** An address, or a prefix all of whose addresses are local, such as 127.0.0.0/8. */
  dst: string;
  dev?: string;
}

export class LocalAddresses {
  readonly #options: LocalAddressesOptions;
  #addresses: readonly string[];
  #watch: Watch | undefined;

  /** Begins with those of the links that run: watch() reads the kernel's table, which takes a process. */
  constructor(options: LocalAddressesOptions) {
    this.#options = options;
    const links = Object.entries(networkInterfaces()).filter(([name]) => name !== options.device);
    const all = links.flatMap(([, addresses = []]) => addresses.filter(({ family }) => family === "IPv4"));
    this.#addresses = unique(all.map(({ address }) => address));
  }

  /** As last read, each once. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** From now on they are the kernel's, and `onChange` is called whenever they have changed. */
  watch(onChange: () => void): void {
    const { log, clock } = this.#options;
    let reading: Promise<void> = Promise.resolve();
    const look = (): void => {
      reading = reading.then(async () => {
        try {
          if (await this.#read()) onChange();
        } catch (error) {
          log.error("the node's own addresses cannot be read", { reason: messageOf(error) });
        }
      });
    };
    this.#watch = watchOutput({
      ...{ log, clock, onChange: look },
      monitors: [["ip", "-4", "monitor", "route"]],
      what: "the node's own addresses",
      isOurs: (line) => IS_LOCAL_ROUTE.test(line),
    });
    look();
  }

  close(): void {
    this.#watch?.close();
  }

  /** Whether they are others than before. */
  async #read(): Promise<boolean> {
    const listing = await run(["ip", "-4", "-json", "route", "show", "table", "local", "type", "local"]);
    const addresses = localAddressesIn(listing, this.#options.device);
    const isNew = addresses.join() !== this.#addresses.join();
    this.#addresses = addresses;
    return isNew;
  }
}

/** Those of a listing of `ip -json route`. Loopback's 127/8 and other whole prefixes are no addresses that a client could know. */
export function localAddressesIn(listing: string, device: string): string[] {
  const routes = JSON.parse(listing || "[]") as RouteJson[];
  return unique(routes.filter(({ dst, dev }) => dev !== device && !dst.includes("/")).map(({ dst }) => dst));
}

function unique(addresses: readonly string[]): string[] {
  return [...new Set(addresses.filter((address) => !address.startsWith("127.")))].toSorted();
}
