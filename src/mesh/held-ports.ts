// Which published ports processes of this node had first.
import type { HeldPort, Protocol } from "../cluster/schema.ts";
import { run } from "../lib/command.ts";
import { type Cidr, contains, EVERY_ADDRESS, ipv4, parseIpv4 } from "../lib/ip.ts";
import type { MeshPort } from "./mesh.ts";

/** A socket that takes what any sender sends by IPv4. */
export interface ListeningSocket {
  protocol: Protocol;
  address: string;
  port: number;
}

/** Remembers which ports were free when they were published: a process that comes later does not take them away. */
export class HeldPorts {
  readonly #listeners: () => Promise<readonly ListeningSocket[]>;
  // BOUNDED: by the published ports; keyed by ADDRESS:PORT/PROTOCOL.
  #ours: ReadonlySet<string> = new Set();

  constructor(listeners: () => Promise<readonly ListeningSocket[]> = listenersHere) {
    this.#listeners = listeners;
  }

  /** The ones of `ports` that are to be left to processes. Addresses of the pool are the gateways': no port is published on them. */
  async among(ports: readonly MeshPort[], pool: Cidr): Promise<HeldPort[]> {
    const doubtful = ports.filter((port) => !this.#ours.has(keyOf(port)));
    if (doubtful.length === 0) {
      this.#ours = new Set(ports.map(keyOf));
      return [];
    }
    const listeners = await this.#listeners();
    const heldBy = new Map(doubtful.map((port) => [keyOf(port), holdersOf(port, listeners, pool)]));
    this.#ours = new Set(ports.map(keyOf).filter((key) => (heldBy.get(key) ?? []).length === 0));
    return [...heldBy.values()].flat();
  }
}

function holdersOf(
  { port, protocol, address }: MeshPort,
  listeners: readonly ListeningSocket[],
  pool: Cidr,
): HeldPort[] {
  const addresses = new Set<string>();
  for (const other of listeners) {
    if (other.port !== port || other.protocol !== protocol || contains(pool, ipv4(other.address))) continue;
    if (address === null || other.address === address || other.address === EVERY_ADDRESS) addresses.add(other.address);
  }
  const held = addresses.has(EVERY_ADDRESS) ? [EVERY_ADDRESS] : [...addresses].sort();
  return held.map((where) => ({ port, protocol, address: where }));
}

function keyOf({ port, protocol, address }: MeshPort): string {
  return `${address}:${port}/${protocol}`;
}

/** The sockets of this process's network namespace. Only ss(8) tells what /proc does not: whether `[::]` takes IPv4 too. */
async function listenersHere(): Promise<readonly ListeningSocket[]> {
  return listenersIn(await run(["ss", "-Hlntu"]));
}

/** Lines of `ss -Hlntu`: netid, state, two queues, local ADDRESS:PORT and more. `*` is `[::]` without IPV6_V6ONLY. */
export function listenersIn(listing: string): ListeningSocket[] {
  return listing.split("\n").flatMap((line) => {
    const [, protocol, local = "", port] = /^(tcp|udp)\s+\S+\s+\d+\s+\d+\s+(\S+):(\d+)\s/.exec(line) ?? [];
    const bare = local.replace(/%.*/, "").replace(/^\[::ffff:(.*)\]$/, "$1");
    const address = bare === "*" ? EVERY_ADDRESS : bare;
    if (protocol === undefined || parseIpv4(address) === undefined) return [];
    return [{ protocol: protocol as Protocol, address, port: Number(port) }];
  });
}
