// The routing mesh without nftables: a relay for each published port. A task sees the node as its client.
import type { Clock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
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
  // BOUNDED: by the published ports; keyed by PORT/PROTOCOL>VIP.
  readonly #relays = new Map<string, Relay>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor({ log, clock }: ProxyMeshOptions) {
    this.#log = log;
    this.#clock = clock;
  }

  apply({ ports }: DesiredMesh): Promise<void> {
    const result = this.#turn.then(() => this.#apply(ports));
    this.#turn = result;
    return result;
  }

  remove(): Promise<void> {
    const result = this.#turn.then(() => this.#apply([]));
    this.#turn = result;
    return result;
  }

  async #apply(ports: readonly MeshPort[]): Promise<void> {
    const desired = new Map(ports.map((port) => [`${port.port}/${port.protocol}>${port.meshVip}`, port]));
    for (const [key, relay] of this.#relays) {
      if (desired.has(key)) continue;
      this.#relays.delete(key);
      await relay.close();
    }
    for (const [key, port] of desired) if (!this.#relays.has(key)) await this.#open(key, port);
  }

  /** A port that cannot be had is said and tried again next time; the others work. */
  async #open(key: string, { protocol, port, meshVip }: MeshPort): Promise<void> {
    const fields = { port: `${port}/${protocol}`, address: meshVip };
    const options = { log: this.#log, clock: this.#clock, port, target: { address: meshVip, port } };
    try {
      this.#relays.set(key, await (protocol === "tcp" ? listenTcp(options) : listenUdp(options)));
      this.#log.info("published port is relayed; tasks do not see the client's address", fields);
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
      const reason = taken ? `port ${port} is in use: 'ss -lnp' shows by whom` : messageOf(error);
      this.#log.error("published port is not answered on this node", { ...fields, reason });
    }
  }
}
