// The routing mesh without nftables: relays for each published port, one on each of the node's addresses. A task sees
// the node as its client.
import type { HeldPort } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { EVERY_ADDRESS } from "./held-ports.ts";
import type { DesiredMesh, Mesh, MeshPort } from "./mesh.ts";
import { RELAY_DROPS, type Relay, type RelayDrops } from "./relay.ts";
import { listenTcp } from "./tcp-relay.ts";
import { listenUdp } from "./udp-relay.ts";

export interface ProxyMeshOptions {
  log: Log;
  clock: Clock;
}

/** Not 0.0.0.0: an answer has to come from the address that was asked, and DNS has port 53 of the gateways. */
interface Place extends MeshPort {
  address: string;
}

export class ProxyMesh implements Mesh {
  readonly kind = "proxy";
  readonly drops = Object.fromEntries(RELAY_DROPS.map((reason) => [reason, 0])) as RelayDrops;
  readonly #log: Log;
  readonly #clock: Clock;
  // BOUNDED: by the published ports and the node's addresses; keyed by ADDRESS:PORT/PROTOCOL>VIP.
  readonly #relays = new Map<string, Relay>();
  /** What could not be had, and was said. */
  readonly #lost = new Set<string>(); // BOUNDED: as #relays, and keyed alike
  #turn: Promise<unknown> = Promise.resolve();

  constructor({ log, clock }: ProxyMeshOptions) {
    this.#log = log;
    this.#clock = clock;
  }

  apply(desired: Pick<DesiredMesh, "ports" | "addresses">): Promise<HeldPort[]> {
    return this.#inTurn(() => this.#apply(desired));
  }

  /** Nobody else can close its sockets. */
  watch(): void {}

  close(): Promise<void> {
    return this.remove();
  }

  async remove(): Promise<void> {
    await this.#inTurn(() => this.#apply({ ports: [], addresses: [] }));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {}); // who asked is told; the next has its turn all the same
    return result;
  }

  async #apply({ ports, addresses }: Pick<DesiredMesh, "ports" | "addresses">): Promise<HeldPort[]> {
    const placesByPort = new Map(ports.map((port) => [port, placesOf(port, addresses)]));
    const desired = new Set([...placesByPort.values()].flat().map(keyOf));
    for (const [key, relay] of this.#relays) {
      if (desired.has(key)) continue;
      this.#relays.delete(key);
      await relay.close();
    }
    for (const key of this.#lost) if (!desired.has(key)) this.#lost.delete(key);
    const held: HeldPort[] = [];
    for (const [{ port, protocol, address }, places] of placesByPort) {
      const lost: string[] = [];
      for (const place of places) if (!(await this.#open(place))) lost.push(place.address);
      const isLostEverywhere = address === null && lost.length > 0 && lost.length === places.length;
      for (const where of isLostEverywhere ? [EVERY_ADDRESS] : lost) held.push({ port, protocol, address: where });
    }
    return held;
  }

  /** A port that cannot be had is said once and tried again next time; the others work. */
  async #open(place: Place): Promise<boolean> {
    const { protocol, port, vip, address, proxyProtocol } = place;
    const key = keyOf(place);
    if (this.#relays.has(key)) return true;
    const fields = { port: `${port}/${protocol}`, address };
    const { drops } = this;
    const options = { log: this.#log, clock: this.#clock, drops, address, port, target: { address: vip, port } };
    try {
      const relay = await (protocol === "tcp" ? listenTcp({ ...options, proxyProtocol }) : listenUdp(options));
      this.#relays.set(key, relay);
      this.#lost.delete(key);
      this.#log.info("published port is relayed; tasks do not see the client's address", fields);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Published on an address that another node has: it answers there.
      if (code === "EADDRNOTAVAIL") return true;
      if (this.#lost.has(key)) return false;
      this.#lost.add(key);
      const reason = code === "EADDRINUSE" ? `port ${port} is in use: 'ss -lnp' shows by whom` : messageOf(error);
      this.#log.error("published port is not answered on this node", { ...fields, reason });
      return false;
    }
  }
}

function placesOf(port: MeshPort, addresses: readonly string[]): Place[] {
  return (port.address === null ? addresses : [port.address]).map((address) => ({ ...port, address }));
}

function keyOf({ port, protocol, vip, address }: Place): string {
  return `${address}:${port}/${protocol}>${vip}`;
}
