// The IPv4 addresses that the kernel takes for this node's own, from its table `local`: those of links, with a carrier or without,
// and those of `lo`. They are followed as they come and go.
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "../lib/clock.ts";
import { run } from "../lib/command.ts";
import { messageOf } from "../lib/errors.ts";
import { type LinkAddress, linkAddresses } from "../lib/link-addresses.ts";
import type { Log } from "../lib/log.ts";
import { Turns } from "../lib/turns.ts";
import { type Watch, watchOutput } from "../lib/watch-output.ts";

/** A line of `ip monitor route` about an address that comes or goes. */
const IS_LOCAL_ROUTE = /\blocal\b.*\btable local\b/;

interface LocalAddressesOptions {
  log: Log;
  clock: Clock;
  /** The TUN's name. Its own addresses, the gateways and the node's address on the overlay, are left out. */
  device: string;
}

interface RouteJson {
  /** An address, or a prefix such as 127.0.0.0/8 in which all addresses are local. */
  dst: string;
  dev?: string;
}

export interface LocalAddress {
  address: string;
  /** Whether it is on `lo`, and so no link's own. */
  onLoopback: boolean;
}

export class LocalAddresses {
  readonly #options: LocalAddressesOptions;
  #all: readonly LocalAddress[];
  #watch: Watch | undefined;

  /** Begins with the addresses of the links that run. Later watch() reads the kernel's table, which takes a process. */
  constructor(options: LocalAddressesOptions) {
    this.#options = options;
    this.#all = ownOf(linkAddresses(), options.device);
  }

  /** The addresses as last read, each once, in order. */
  get all(): readonly LocalAddress[] {
    return this.#all;
  }

  /** Follows the kernel's table from now on, and calls `onChange` whenever the addresses have changed. */
  watch(onChange: () => void): void {
    const { log, clock } = this.#options;
    const reads = new Turns();
    const look = (): void => {
      void reads.run(async () => {
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

  /** Takes the addresses that were found. Returns whether they differ from those before. */
  async #read(): Promise<boolean> {
    const listing = await run(["ip", "-4", "-json", "route", "show", "table", "local", "type", "local"]);
    const before = this.#all;
    this.#all = localAddressesIn(listing, this.#options.device);
    return !isDeepStrictEqual(before, this.#all);
  }
}

/** The addresses in a listing of `ip -json route`. A prefix that is local as a whole, such as 127.0.0.0/8, is no address. */
export function localAddressesIn(listing: string, device: string): LocalAddress[] {
  const routes = (JSON.parse(listing || "[]") as RouteJson[]).filter(({ dst }) => !dst.includes("/"));
  return ownOf(
    routes.map(({ dst, dev = "" }) => ({ address: dst, link: dev })),
    device,
  );
}

/** Leaves out 127/8, which no client outside can reach, and the addresses of the overlay's device. */
function ownOf(found: readonly LinkAddress[], device: string): LocalAddress[] {
  const own = found.filter(({ address, link }) => link !== device && !address.startsWith("127."));
  const addresses = [...new Set(own.map(({ address }) => address))].toSorted();
  const isOnLink = (address: string): boolean => own.some((one) => one.address === address && one.link !== "lo");
  return addresses.map((address) => ({ address, onLoopback: !isOnLink(address) }));
}
