// The addresses on which the DNS server answers: each is opened, and tried again while it cannot be had.
import { Backoff } from "../lib/backoff.ts";
import type { Clock, Timer } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { type Ipv4, ipv4 } from "../lib/ip.ts";
import type { Log } from "../lib/log.ts";
import { DNS_PORT } from "../lib/standard-ports.ts";
import { Listener, type OpenUdp } from "./listener.ts";

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;

interface ListenersOptions {
  /** 0: any that is free, for tests. Default DNS_PORT. */
  readonly port?: number;
  readonly clock: Clock;
  readonly log: Log;
  /** See ListenerOptions. */
  readonly openUdp?: OpenUdp | undefined;
  /** `via` is the address that was asked. */
  receiveUdp(message: Buffer, source: Ipv4, via: Ipv4, reply: (response: Buffer) => void): void;
  /** Returns false when the message is not DNS: then the connection ends. */
  receiveTcp(message: Buffer, source: Ipv4, via: Ipv4, reply: (response: Buffer) => void): boolean;
  /** Called when a connection is turned away, or ended to make room for another client's first one. */
  onLimited(): void;
}

interface Place {
  listener: Listener | undefined;
  retry: Timer | undefined;
  readonly backoff: Backoff;
}

export class Listeners {
  readonly #options: ListenersOptions;
  // BOUNDED: by the addresses last given; keyed by address.
  readonly #places = new Map<string, Place>();

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /** The addresses and ports that are open now. */
  endpoints(): { address: string; port: number }[] {
    const open = [...this.#places.values()].flatMap(({ listener }) => listener ?? []);
    return open.map(({ address, port }) => ({ address, port }));
  }

  /**
   * Listens on these addresses and no others. Resolves when each was tried once; an address that could not be had is tried
   * again until it can, or is not among those last given.
   */
  async listen(addresses: readonly string[]): Promise<void> {
    for (const [address, place] of this.#places) {
      if (addresses.includes(address)) continue;
      this.#places.delete(address);
      place.retry?.cancel();
      place.listener?.close();
    }
    const added = addresses.filter((address) => !this.#places.has(address));
    for (const address of added) {
      const backoff = new Backoff(FIRST_RETRY_MS, LONGEST_RETRY_MS);
      this.#places.set(address, { listener: undefined, retry: undefined, backoff });
    }
    await Promise.all(added.map((address) => this.#open(address, this.#places.get(address)!)));
  }

  async #open(address: string, place: Place): Promise<void> {
    const { port = DNS_PORT, clock, log, openUdp, receiveUdp, receiveTcp, onLimited } = this.#options;
    const via = ipv4(address);
    try {
      const listener = await Listener.open({
        ...{ address, port, clock, openUdp, onLimited },
        receiveUdp: (message, source, reply) => receiveUdp(message, source, via, reply),
        receiveTcp: (source, message, reply) => receiveTcp(message, source, via, reply),
        onError: (error) => {
          place.listener = undefined;
          this.#retry(address, place, error);
        },
      });
      if (this.#places.get(address) !== place) {
        listener.close(); // not wanted any more
        return;
      }
      place.listener = listener;
      if (place.backoff.failures > 0) log.info("DNS answers again", { address });
      place.backoff.succeeded();
    } catch (error) {
      this.#retry(address, place, error);
    }
  }

  #retry(address: string, place: Place, error: unknown): void {
    if (this.#places.get(address) !== place) return;
    const { port = DNS_PORT, clock, log } = this.#options;
    if (place.backoff.failures === 0) {
      log.error(`DNS cannot answer on ${address}: ${messageOf(error)}; ${remedy(error, port)}; it is tried again`, {
        address,
        port: String(port),
        err: error,
      });
    }
    place.retry = clock.after(place.backoff.failed(), () => void this.#open(address, place));
  }
}

function remedy(error: unknown, port: number): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") return `another server holds port ${port}, see \`ss -lntup 'sport = :${port}'\``;
  if (code === "EADDRNOTAVAIL") return "the address is not on a link yet, see `ip address`";
  if (code === "EACCES") return "ports below 1024 need root or CAP_NET_BIND_SERVICE";
  return "see `ip address` and `ss -lntup`";
}
