// The routing mesh without nftables: a relay for each published port. A task sees the node as its client.
import type { HeldPort } from "../cluster/schema.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { EVERY_ADDRESS } from "./held-ports.ts";
import type { DesiredMesh, Mesh, MeshPort } from "./mesh.ts";
import { listenTcp } from "./tcp-relay.ts";
import { listenUdp } from "./udp-relay.ts";

export interface Relay {
  /** Where it listens; of use when the port asked for was 0. */
  readonly port: number;
  close(): Promise<void>;
}

export interface ProxyMeshOptions {
  log: Log;
  clock: Clock;
}

export class ProxyMesh implements Mesh {
  readonly kind = "proxy";
  readonly #log: Log;
  readonly #clock: Clock;
  // BOUNDED: by the published ports; keyed by [ADDRESS:]PORT/PROTOCOL>VIP.
  readonly #relays = new Map<string, Relay>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor({ log, clock }: ProxyMeshOptions) {
    this.#log = log;
    this.#clock = clock;
  }

  apply({ ports }: DesiredMesh): Promise<HeldPort[]> {
    return this.#inTurn(() => this.#apply(ports));
  }

  /** Nobody else can close its sockets. */
  watch(): void {}

  close(): Promise<void> {
    return this.remove();
  }

  async remove(): Promise<void> {
    await this.#inTurn(() => this.#apply([]));
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {}); // who asked is told; the next has its turn all the same
    return result;
  }

  async #apply(ports: readonly MeshPort[]): Promise<HeldPort[]> {
    const desired = new Map(ports.map((port) => [keyOf(port), port]));
    for (const [key, relay] of this.#relays) {
      if (desired.has(key)) continue;
      this.#relays.delete(key);
      await relay.close();
    }
    const held: HeldPort[] = [];
    for (const [key, port] of desired) {
      if (this.#relays.has(key) || (await this.#open(key, port))) continue;
      held.push({ port: port.port, protocol: port.protocol, address: port.address ?? EVERY_ADDRESS });
    }
    return held;
  }

  /** A port that cannot be had is said and tried again next time; the others work. */
  async #open(key: string, { protocol, port, vip, address, proxyProtocol }: MeshPort): Promise<boolean> {
    const fields = { port: `${port}/${protocol}`, address: vip };
    const options = { log: this.#log, clock: this.#clock, address, port, target: { address: vip, port } };
    try {
      const relay = await (protocol === "tcp" ? listenTcp({ ...options, proxyProtocol }) : listenUdp(options));
      this.#relays.set(key, relay);
      this.#log.info("published port is relayed; tasks do not see the client's address", fields);
      return true;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Published on an address that another node has: it answers there.
      if (code === "EADDRNOTAVAIL") return true;
      const reason = code === "EADDRINUSE" ? `port ${port} is in use: 'ss -lnp' shows by whom` : messageOf(error);
      this.#log.error("published port is not answered on this node", { ...fields, reason });
      return false;
    }
  }
}

function keyOf({ port, protocol, vip, address }: MeshPort): string {
  return `${address}:${port}/${protocol}>${vip}`;
}
