// The addresses of the managers that the configuration names: a host name may be that of an address translator, which has
// no row in the cluster.
import { lookup } from "node:dns/promises";
import type { Clock, Timer } from "../lib/clock.ts";
import { parseIpv4 } from "../lib/ip.ts";
import type { SessionAddress } from "./compile-denied.ts";

/** How often names are resolved again, because they may come to mean other addresses. */
const REFRESH_MS = 30_000;

interface ManagerAddressesOptions {
  /** HOST:PORT of each. */
  managers: readonly string[];
  clock: Clock;
  /** Returns all IPv4 addresses of a name. */
  resolve?: (name: string) => Promise<string[]>;
}

export class ManagerAddresses {
  readonly #options: Required<ManagerAddressesOptions>;
  // BOUNDED: by the managers configured; keyed by host. The last addresses of a name stay while it cannot be resolved.
  readonly #addressesByHost = new Map<string, string[]>();
  #timer: Timer | undefined;
  #isStopped = false;
  #changed = (): void => {};

  constructor(options: ManagerAddressesOptions) {
    this.#options = { resolve: resolveIpv4, ...options };
    void this.#refresh();
  }

  /** Calls `changed` when a name has come to mean other addresses than it meant last. */
  watch(changed: () => void): void {
    this.#changed = changed;
  }

  addresses(): SessionAddress[] {
    return this.#options.managers.flatMap((manager) => {
      const { host, port } = split(manager);
      const addresses = parseIpv4(host) === undefined ? (this.#addressesByHost.get(host) ?? []) : [host];
      return addresses.map((address) => ({ address, port }));
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  async #refresh(): Promise<void> {
    const hosts = this.#options.managers.map((manager) => split(manager).host);
    const names = hosts.filter((host) => parseIpv4(host) === undefined);
    if (names.length === 0) return;
    const before = JSON.stringify(this.addresses());
    await Promise.all(names.map((name) => this.#resolve(name)));
    if (this.#isStopped) return;
    if (JSON.stringify(this.addresses()) !== before) this.#changed();
    this.#timer = this.#options.clock.after(REFRESH_MS, () => void this.#refresh());
  }

  async #resolve(name: string): Promise<void> {
    try {
      this.#addressesByHost.set(name, (await this.#options.resolve(name)).toSorted());
    } catch {
      // The session logs what is wrong with a manager's name.
    }
  }
}

async function resolveIpv4(name: string): Promise<string[]> {
  return (await lookup(name, { all: true, family: 4 })).map(({ address }) => address);
}

function split(manager: string): { host: string; port: number } {
  const colon = manager.lastIndexOf(":");
  return { host: manager.slice(0, colon), port: Number(manager.slice(colon + 1)) };
}
