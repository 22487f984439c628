// The state's networks as names see them.
import type { Network } from "../cluster/schema.ts";
import { type Cidr, cidr, contains, type Ipv4, ipv4 } from "../lib/ip.ts";

export interface NamedNetwork {
  readonly id: string;
  /** In lower case. */
  readonly name: string;
  readonly gateway: Ipv4;
  readonly subnet: Cidr;
}

/** The part of `name` before `.<network>`; undefined: `name` does not end so. */
export function beforeNetwork(name: string, network: NamedNetwork): string | undefined {
  const dot = name.length - network.name.length - 1;
  return dot > 0 && name[dot] === "." && name.endsWith(network.name) ? name.slice(0, dot) : undefined;
}

/** All networks. Immutable: a change of one makes a new list, which loops over all of them. */
export class NamedNetworks {
  /** By name. */
  readonly all: readonly NamedNetwork[];
  // BOUNDED: by the state's networks; keyed by id.
  readonly #byId: ReadonlyMap<string, NamedNetwork>;
  // BOUNDED: by the state's networks; keyed by gateway.
  readonly #byGateway: ReadonlyMap<Ipv4, NamedNetwork>;

  constructor(rows: Iterable<Network>) {
    const all = Array.from(rows, ({ id, name, gateway, subnet }) => ({
      ...{ id, name: name.toLowerCase() },
      ...{ gateway: ipv4(gateway), subnet: cidr(subnet) },
    }));
    this.all = all.sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#byId = new Map(all.map((network) => [network.id, network]));
    this.#byGateway = new Map(all.map((network) => [network.gateway, network]));
  }

  isGateway(address: Ipv4): boolean {
    return this.#byGateway.has(address);
  }

  /** The network that the address is of. */
  at(address: Ipv4): NamedNetwork | undefined {
    return this.all.find(({ subnet }) => contains(subnet, address));
  }

  /** The networks of these ids, by name. */
  of(ids: Iterable<string>): NamedNetwork[] {
    const networks = Array.from(new Set(ids), (id) => this.#byId.get(id) ?? []).flat();
    return networks.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** The same networks, the one with this gateway first. */
  inOrder(networks: readonly NamedNetwork[], gateway: Ipv4): readonly NamedNetwork[] {
    const first = this.#byGateway.get(gateway);
    if (networks.length < 2 || first === undefined || !networks.includes(first)) return networks;
    return [first, ...networks.filter((network) => network !== first)];
  }
}
