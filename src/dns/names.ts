// The cluster's names, and which of them, and of its addresses, a client sees. They are looked up in the state, which is
// changed in place, so one answer is looked up without an `await` in between.
import { endpointNames, shortId } from "../cluster/host-names.ts";
import type { Endpoint, Task } from "../cluster/schema.ts";
import type { AppliedChange } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { type Cidr, cidr, contains, formatIpv4, type Ipv4 } from "../lib/ip.ts";
import { touchedBy, touchesNames } from "./name-changes.ts";
import { NameEntries, type NameEntry } from "./name-entries.ts";
import { beforeNetwork, type NamedNetwork, NamedNetworks } from "./named-networks.ts";

/** The longest name as text: two less than the 255 bytes of RFC 1035 section 2.3.4. */
const MAX_NAME_CHARS = 253;
/** With more changes at once, such as a whole snapshot, it is cheaper to forget everything than what each touches. */
const MANY_CHANGES = 1000;

interface NamesOptions {
  /** The domain under which every name is found too. */
  readonly domain: string;
  /** How long a client may keep answers about names that are no service's, and about what does not exist. */
  readonly ttlSeconds: number;
  /** Addresses whose reverse names never leave the overlay. */
  readonly pool: string;
}

const DEFAULTS: NamesOptions = { domain: "overlay", ttlSeconds: 5, pool: "10.192.0.0/10" };

interface Found {
  readonly network: NamedNetwork;
  readonly entry: NameEntry;
}

/** The client that asks a question. */
export interface Asker {
  /** Resolvers that are asked for this client instead of the node's; empty: the node's. */
  readonly servers?: readonly string[];
  readonly address: Ipv4;
  /** The gateway that was asked. */
  readonly via: Ipv4;
  readonly names: Names;
  /** The networks whose names it sees. */
  readonly networks: readonly NamedNetwork[];
}

/** An address's name. */
interface ReverseName {
  readonly network: NamedNetwork;
  /** Relative to its network. */
  readonly name: string;
  readonly ttlSeconds: number;
}

export class Names {
  readonly domain: string;
  /** The name of the domain's name server. */
  readonly nameserver: string;
  readonly ttlSeconds: number;
  readonly #state: State;
  readonly #pool: Cidr;
  readonly #entries: NameEntries;
  /** undefined: a network has changed, so they are to be made anew. */
  #madeNetworks: NamedNetworks | undefined;
  /** Called after changes, with the keys that they touched (name-changes.ts). "all": any answer may be another than before. */
  onTouched: (touched: readonly string[] | "all") => void = () => {};

  /** Throws RangeError when `options.pool` is no prefix. */
  constructor(state: State, options: Partial<NamesOptions> = {}) {
    const { domain, ttlSeconds, pool } = { ...DEFAULTS, ...options };
    this.domain = domain.toLowerCase();
    this.nameserver = `ns.${this.domain}`;
    this.ttlSeconds = ttlSeconds;
    this.#state = state;
    this.#pool = cidr(pool);
    this.#entries = new NameEntries(state, ttlSeconds);
  }

  /** The SOA's serial: the state's revision, RFC 1982 on its way round. */
  get serial(): number {
    return this.#state.revision >>> 0;
  }

  /** All networks, by name. */
  get networks(): readonly NamedNetwork[] {
    return this.#networks.all;
  }

  /** Notes changes that are in the state already. What they do not touch is not looked up again. */
  changed(changes: readonly AppliedChange[]): void {
    const touched = this.#touchedBy(changes);
    if (touched.length === 0) return;
    if (touched === "all") {
      this.#madeNetworks = undefined;
      this.#entries.forgetAll();
    } else for (const key of touched) this.#entries.forget(key);
    this.onTouched(touched);
  }

  /**
   * Takes the VTEPs of nodes that do not answer probes. What is on such nodes is left out, unless nothing else has the
   * name: as no new connection is balanced to it.
   */
  setUnreachable(vteps: readonly Ipv4[]): void {
    if (this.#entries.setUnreachable(vteps)) this.onTouched("all");
  }

  /**
   * The networks whose names `address` may see, the one whose gateway it asked first, then by name: a container's own;
   * the node itself sees all. undefined: a stranger.
   */
  networksOf(address: Ipv4, gateway: Ipv4): readonly NamedNetwork[] | undefined {
    if (address >>> 24 === 127 || this.#isOfNode(address)) return this.#networks.inOrder(this.networks, gateway);
    const own = this.#ownNetworks(formatIpv4(address));
    if (own.length > 0) return this.#networks.inOrder(own, gateway);
    // Not in the state yet, or behind a VTEP that is no node: the data path let it in on the network of its address.
    const network = this.#networks.at(address);
    return network === undefined ? undefined : [network];
  }

  /** The container's own resolvers. */
  serversOf(address: Ipv4): readonly string[] {
    const { tasks, endpoints, services } = this.#state;
    const text = formatIpv4(address);
    const task = tasks.by("address", text).at(-1);
    const ofTask = task && services.get(task.serviceId)?.workload?.naming?.dns.servers;
    const ofEndpoint = endpoints.by("address", text).at(-1)?.dnsServers;
    return [ofEndpoint, ofTask].find((servers) => servers !== undefined && servers.length > 0) ?? [];
  }

  /** The container or namespace that is attached with this address. */
  subjectOf(address: Ipv4): string | undefined {
    return this.#holderOf(formatIpv4(address))?.attachment?.subject;
  }

  /** `name` in lower case, alone, before `.<network>`, or either of them before `.<domain>`. */
  find(name: string, networks: readonly NamedNetwork[]): Found | undefined {
    const found = this.#findRelative(name, networks);
    if (found !== undefined || !this.isUnderDomain(name)) return found;
    return this.#findRelative(this.withoutDomain(name), networks);
  }

  /** Whether there are names below `name`, which is none itself. */
  isParent(name: string, networks: readonly NamedNetwork[]): boolean {
    const isQualified = this.isUnderDomain(name);
    const relative = isQualified ? this.withoutDomain(name) : name;
    return networks.some((network) => {
      const before = beforeNetwork(relative, network);
      if (before !== undefined) return this.#entries.isParent(network, before, true);
      if (network.name === relative || this.#entries.isParent(network, relative, isQualified)) return true;
      return isQualified && network.name.endsWith(`.${relative}`);
    });
  }

  /** `name`, which is under the domain, without the domain. */
  withoutDomain(name: string): string {
    return name.slice(0, -this.domain.length - 1);
  }

  isUnderDomain(name: string): boolean {
    return name.endsWith(this.domain) && name[name.length - this.domain.length - 1] === ".";
  }

  /** What the full names of a network's are under. */
  zoneOf(network: NamedNetwork): string {
    return `${network.name}.${this.domain}`;
  }

  fullName(relative: string, network: NamedNetwork): string {
    return `${relative}.${this.zoneOf(network)}`;
  }

  /** The networks that `name` is the name of, or is before the name of. */
  networksIn(name: string): NamedNetwork[] {
    const ids: string[] = [];
    for (let rest = name; ; rest = rest.slice(rest.indexOf(".") + 1)) {
      ids.push(...this.#state.networks.by("name", rest).map(({ id }) => id));
      if (!rest.includes(".")) return this.#networks.of(ids);
    }
  }

  /** The name of an address, for clients that see its network. */
  nameOf(address: Ipv4, networks: readonly NamedNetwork[]): ReverseName | undefined {
    const network = networks.find(({ subnet }) => contains(subnet, address));
    if (network === undefined) return undefined;
    const { ttlSeconds } = this;
    const { nodes, services, tasks, endpoints } = this.#state;
    const text = formatIpv4(address);
    const node = nodes.by("ingress", text).at(-1);
    if (node !== undefined) return { network, name: node.name.toLowerCase(), ttlSeconds };
    if (address === network.gateway) return { network, name: "gateway", ttlSeconds };
    const endpoint = endpoints.by("address", text).findLast((one) => this.#entries.isUp(one));
    if (endpoint?.networkId === network.id)
      return { network, name: this.#nameOfEndpoint(endpoint, network), ttlSeconds };
    const service = services.by("address", text).at(-1);
    if (service !== undefined) {
      const name = service.name.toLowerCase();
      return { network, name, ttlSeconds: service.meshVip === text ? ttlSeconds : service.dnsTtlSeconds };
    }
    const task = tasks.by("address", text).findLast(({ addresses }) => addresses[network.id] === text);
    const ofTask = task && services.get(task.serviceId);
    if (!ofTask?.networks.includes(network.id)) return undefined;
    return { network, name: `${ofTask.name.toLowerCase()}.${task!.slot}`, ttlSeconds: ofTask.dnsTtlSeconds };
  }

  /** Whether every address of `prefix` is the overlay's. */
  isOurs(prefix: Cidr): boolean {
    const within = (ours: Cidr) => prefix.bits >= ours.bits && contains(ours, prefix.base);
    return within(this.#pool) || this.networks.some(({ subnet }) => within(subnet));
  }

  isGateway(address: Ipv4): boolean {
    return this.#networks.isGateway(address);
  }

  #touchedBy(changes: readonly AppliedChange[]): readonly string[] | "all" {
    if (changes.length > MANY_CHANGES) return "all";
    const keys = new Set<string>();
    for (const change of changes) {
      const touched = touchesNames(change) ? touchedBy(change, this.#state) : [];
      if (touched === "all") return "all";
      for (const key of touched) keys.add(key);
    }
    return [...keys];
  }

  /** Looks first for names that end in a network's name: an alias such as `search.web` takes no name of the cluster. */
  #findRelative(name: string, networks: readonly NamedNetwork[]): Found | undefined {
    for (const network of networks) {
      const before = beforeNetwork(name, network);
      if (before === undefined) continue;
      const entry = this.#entries.find(network, before) ?? this.#entries.findQualified(network, before);
      if (entry !== undefined) return { network, entry };
    }
    for (const network of networks) {
      const entry = this.#entries.find(network, name);
      if (entry !== undefined) return { network, entry };
    }
    return undefined;
  }

  get #networks(): NamedNetworks {
    this.#madeNetworks ??= new NamedNetworks(this.#state.networks.values());
    return this.#madeNetworks;
  }

  /** Whether the address is a node's: every network's names are seen from there. */
  #isOfNode(address: Ipv4): boolean {
    const { nodes } = this.#state;
    const text = formatIpv4(address);
    return this.isGateway(address) || nodes.count("address", text) > 0 || nodes.count("ingress", text) > 0;
  }

  /** The networks of the container with the address, by name. It sees the names of all networks that it is attached to. */
  #ownNetworks(address: string): NamedNetwork[] {
    const holder = this.#holderOf(address);
    if (holder === undefined) return [];
    const { tasks, endpoints } = this.#state;
    const rows = [holder];
    if (holder.attachment !== null) {
      // A container has a row for each network that it was attached to.
      const { subject } = holder.attachment;
      const others = [...tasks.by("subject", subject), ...endpoints.by("subject", subject)];
      rows.push(...others.filter(({ nodeId }) => nodeId === holder.nodeId));
    }
    return this.#networks.of(
      rows.flatMap((row) => ("networkId" in row ? [row.networkId] : Object.keys(row.addresses))),
    );
  }

  #holderOf(address: string): Task | Endpoint | undefined {
    const { tasks, endpoints } = this.#state;
    return endpoints.by("address", address).at(-1) ?? tasks.by("address", address).at(-1);
  }

  /** The first of its names that is not too long with network and domain. */
  #nameOfEndpoint(endpoint: Endpoint, network: NamedNetwork): string {
    const mostChars = MAX_NAME_CHARS - `.${this.zoneOf(network)}`.length;
    const name = endpointNames(endpoint).find(({ length }) => length <= mostChars);
    return (name ?? shortId(endpoint)).toLowerCase();
  }
}
