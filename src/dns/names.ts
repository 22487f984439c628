// The cluster's names: which of them, and of its addresses, an asker sees. compile-names.ts makes them from a snapshot.
import { type Cidr, cidr, contains, type Ipv4 } from "../lib/ip.ts";

export interface NamesOptions {
  /** Under which every name is found too. */
  readonly domain: string;
  /** Of names that are no service's, and of what does not exist. */
  readonly ttlSeconds: number;
  /** Addresses whose reverse names never leave the overlay. */
  readonly pool: string;
}

/** One address behind a name, with a name of its own: what an SRV record points to. */
export interface Target {
  /** Relative to its network. */
  readonly name: string;
  readonly address: Ipv4;
  /** Of its service. */
  readonly ports: Ports;
}

/** A service's own ports, as `9200/tcp`. */
export type Ports = ReadonlySet<string>;

/** What a name stands for on one network. */
export interface NameEntry {
  readonly targets: readonly Target[];
  readonly addresses: readonly Ipv4[];
  readonly ttlSeconds: number;
  /** Of all the services that it stands for. */
  readonly ports: Ports;
  /** The service's labels, as `KEY=VALUE`. */
  readonly labels: readonly string[];
}

/** The names on one network, in lower case. */
export interface NetworkNames {
  readonly id: string;
  readonly name: string;
  readonly gateway: Ipv4;
  readonly subnet: Cidr;
  /** Found alone and before `.<network>`. */
  readonly entries: ReadonlyMap<string, NameEntry>;
  /** Found only before `.<network>`: the gateway, nodes, mesh VIPs. */
  readonly qualified: ReadonlyMap<string, NameEntry>;
  /** What is no name itself, with names below it: `1` of `search.1`. */
  readonly parents: ReadonlySet<string>;
  /** Parents that exist only before `.<network>` or `.<domain>`, because alone they belong to the outside: `example` of `db.example`. */
  readonly qualifiedParents: ReadonlySet<string>;
}

export interface Found {
  readonly network: NetworkNames;
  readonly entry: NameEntry;
}

/** Who asks. */
export interface Asker {
  /** Resolvers that are asked for this client instead of the node's; empty: the node's. */
  readonly servers?: readonly string[];
  readonly address: Ipv4;
  /** The gateway asked. */
  readonly via: Ipv4;
  readonly names: Names;
  /** Whose names it sees. */
  readonly networks: readonly NetworkNames[];
}

/** An address's name. */
export interface ReverseName {
  readonly network: NetworkNames;
  readonly name: string;
  readonly ttlSeconds: number;
}

/** Immutable; a new state makes a new one. */
export class Names {
  readonly domain: string;
  /** Of the domain. */
  readonly nameserver: string;
  readonly ttlSeconds: number;
  /** The SOA's serial. */
  readonly serial: number;
  /** By name. */
  readonly networks: readonly NetworkNames[];
  readonly #pool: Cidr;
  // BOUNDED: by the state's networks, tasks, endpoints and nodes; keyed by address.
  readonly #networksByAddress: ReadonlyMap<Ipv4, readonly NetworkNames[]>;
  // BOUNDED: by the state's addresses; keyed by address.
  readonly #nameByAddress: ReadonlyMap<Ipv4, ReverseName>;
  // BOUNDED: by the state's tasks and endpoints; keyed by address.
  readonly #serversByAddress: ReadonlyMap<Ipv4, readonly string[]>;
  // BOUNDED: by the networks; keyed by the gateway asked.
  readonly #allByGateway = new Map<Ipv4, readonly NetworkNames[]>();

  constructor(
    options: NamesOptions,
    serial: number,
    networks: readonly NetworkNames[],
    networksByAddress: ReadonlyMap<Ipv4, readonly NetworkNames[]>,
    nameByAddress: ReadonlyMap<Ipv4, ReverseName>,
    serversByAddress: ReadonlyMap<Ipv4, readonly string[]> = new Map(),
  ) {
    this.domain = options.domain.toLowerCase();
    this.nameserver = `ns.${this.domain}`;
    this.ttlSeconds = options.ttlSeconds;
    this.serial = serial;
    this.networks = networks;
    this.#pool = cidr(options.pool);
    this.#networksByAddress = networksByAddress;
    this.#nameByAddress = nameByAddress;
    this.#serversByAddress = serversByAddress;
    for (const { gateway } of networks) this.#allByGateway.set(gateway, inOrder(networks, gateway));
  }

  /**
   * The networks whose names `address` may see, the one whose gateway it asked first, then by name: an endpoint's own;
   * the node itself sees all. undefined: a stranger.
   */
  networksOf(address: Ipv4, gateway: Ipv4): readonly NetworkNames[] | undefined {
    if (address >>> 24 === 127) return this.#all(gateway);
    const own = this.#networksByAddress.get(address);
    if (own === this.networks) return this.#all(gateway);
    if (own !== undefined) return own.length > 1 ? inOrder(own, gateway) : own;
    // Not in the snapshot yet, or beyond a VTEP that is no node: the data path let it in on the network it is of.
    const network = this.networks.find(({ subnet }) => contains(subnet, address));
    return network === undefined ? undefined : [network];
  }

  /** The container's own resolvers. */
  serversOf(address: Ipv4): readonly string[] {
    return this.#serversByAddress.get(address) ?? [];
  }

  #all(gateway: Ipv4): readonly NetworkNames[] {
    return this.#allByGateway.get(gateway) ?? this.networks;
  }

  /** `name` in lower case, alone, before `.<network>`, or either of them before `.<domain>`. */
  find(name: string, networks: readonly NetworkNames[]): Found | undefined {
    const found = findRelative(name, networks);
    if (found !== undefined || !this.isUnderDomain(name)) return found;
    return findRelative(this.#withoutDomain(name), networks);
  }

  /** Whether there are names below `name`, which is none itself. */
  isParent(name: string, networks: readonly NetworkNames[]): boolean {
    const isQualified = this.isUnderDomain(name);
    const relative = isQualified ? this.#withoutDomain(name) : name;
    return networks.some((network) => {
      const before = beforeNetwork(relative, network);
      if (before !== undefined) return isParentOn(network, before, true);
      if (network.name === relative || isParentOn(network, relative, isQualified)) return true;
      return isQualified && network.name.endsWith(`.${relative}`);
    });
  }

  #withoutDomain(name: string): string {
    return name.slice(0, -this.domain.length - 1);
  }

  isUnderDomain(name: string): boolean {
    return name.endsWith(this.domain) && name[name.length - this.domain.length - 1] === ".";
  }

  /** What the full names of a network's are under. */
  zoneOf(network: NetworkNames): string {
    return `${network.name}.${this.domain}`;
  }

  fullName(relative: string, network: NetworkNames): string {
    return `${relative}.${this.zoneOf(network)}`;
  }

  /** The name of an address, for those who may see it. */
  nameOf(address: Ipv4, networks: readonly NetworkNames[]): ReverseName | undefined {
    const found = this.#nameByAddress.get(address);
    return found !== undefined && networks.includes(found.network) ? found : undefined;
  }

  /** Whether every address of `prefix` is the overlay's. */
  isOurs(prefix: Cidr): boolean {
    const within = (ours: Cidr) => prefix.bits >= ours.bits && contains(ours, prefix.base);
    return within(this.#pool) || this.networks.some(({ subnet }) => within(subnet));
  }

  isGateway(address: Ipv4): boolean {
    return this.#allByGateway.has(address);
  }
}

function inOrder(networks: readonly NetworkNames[], gateway: Ipv4): readonly NetworkNames[] {
  const asked = networks.find((network) => network.gateway === gateway);
  return asked === undefined ? networks : [asked, ...networks.filter((network) => network !== asked)];
}

/** The part of `name` before `.<network>`; undefined: `name` does not end so. */
export function beforeNetwork(name: string, network: NetworkNames): string | undefined {
  const dot = name.length - network.name.length - 1;
  return dot > 0 && name[dot] === "." && name.endsWith(network.name) ? name.slice(0, dot) : undefined;
}

function isParentOn(network: NetworkNames, relative: string, isQualified: boolean): boolean {
  return network.parents.has(relative) || (isQualified && network.qualifiedParents.has(relative));
}

/** Looks first for names that end in a network's name: an alias such as `search.web` takes no name of the cluster. */
function findRelative(name: string, networks: readonly NetworkNames[]): Found | undefined {
  for (const network of networks) {
    const before = beforeNetwork(name, network);
    const entry = before === undefined ? undefined : (network.entries.get(before) ?? network.qualified.get(before));
    if (entry !== undefined) return { network, entry };
  }
  for (const network of networks) {
    const entry = network.entries.get(name);
    if (entry !== undefined) return { network, entry };
  }
  return undefined;
}
