// Which published ports processes of this node had first.
import { readFile } from "node:fs/promises";
import type { HeldPort, Protocol } from "../cluster/schema.ts";
import { type Cidr, contains, ipv4 } from "../lib/ip.ts";
import { type ListedSocket, socketsIn, TCP_LISTEN, UDP_UNCONNECTED } from "../lib/proc-net.ts";
import type { MeshPort } from "./mesh.ts";

export const EVERY_ADDRESS = "0.0.0.0";

export type Listeners = Record<Protocol, readonly ListedSocket[]>;

/** Remembers which ports were free when they were published: a process that comes later does not take them away. */
export class HeldPorts {
  readonly #readListeners: () => Promise<Listeners>;
  // BOUNDED: by the published ports; keyed by ADDRESS:PORT/PROTOCOL.
  #ours: ReadonlySet<string> = new Set();

  constructor(readListeners: () => Promise<Listeners> = listenersHere) {
    this.#readListeners = readListeners;
  }

  /** Of `ports`, those that are to be left alone. Addresses of the pool are the gateways', and never published on. */
  async among(ports: readonly MeshPort[], pool: Cidr): Promise<HeldPort[]> {
    const doubtful = ports.filter((port) => !this.#ours.has(keyOf(port)));
    if (doubtful.length === 0) {
      this.#ours = new Set(ports.map(keyOf));
      return [];
    }
    const listeners = await this.#readListeners();
    const heldBy = new Map(doubtful.map((port) => [keyOf(port), holdersOf(port, listeners[port.protocol], pool)]));
    this.#ours = new Set(ports.map(keyOf).filter((key) => (heldBy.get(key) ?? []).length === 0));
    return [...heldBy.values()].flat();
  }
}

function holdersOf({ port, protocol, address }: MeshPort, sockets: readonly ListedSocket[], pool: Cidr): HeldPort[] {
  const addresses = new Set<string>();
  for (const socket of sockets) {
    if (socket.port !== port || socket.address === undefined || contains(pool, ipv4(socket.address))) continue;
    if (address === null || socket.address === address || socket.address === EVERY_ADDRESS)
      addresses.add(socket.address);
  }
  const held = addresses.has(EVERY_ADDRESS) ? [EVERY_ADDRESS] : [...addresses].sort();
  return held.map((where) => ({ port, protocol, address: where }));
}

function keyOf({ port, protocol, address }: MeshPort): string {
  return `${address}:${port}/${protocol}`;
}

/** Of this process's network namespace. */
async function listenersHere(): Promise<Listeners> {
  const read = async (name: string, state: string): Promise<ListedSocket[]> => {
    // A kernel without IPv6 has no such file.
    const table = await readFile(`/proc/self/net/${name}`, "utf8").catch(() => "");
    return socketsIn(table, state);
  };
  const [tcp, tcp6, udp, udp6] = await Promise.all([
    read("tcp", TCP_LISTEN),
    read("tcp6", TCP_LISTEN),
    read("udp", UDP_UNCONNECTED),
    read("udp6", UDP_UNCONNECTED),
  ]);
  return { tcp: [...tcp, ...tcp6], udp: [...udp, ...udp6] };
}
