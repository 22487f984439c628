// Compiles a snapshot of the cluster's state into its names.
import type { Attachment, Endpoint, Network, Service, State, Task } from "../cluster/schema.ts";
import { cidr, contains, type Ipv4, ipv4 } from "../lib/ip.ts";
import {
  type NameEntry,
  Names,
  type NamesOptions,
  type NetworkNames,
  type Ports,
  type ReverseName,
  type Target,
} from "./names.ts";

const NO_PORTS: Ports = new Set();
/** The longest name as text: two less than the 255 bytes of RFC 1035 section 2.3.4. */
const MAX_NAME_CHARS = 253;
const DEFAULTS: NamesOptions = { domain: "overlay", ttlSeconds: 5, pool: "10.192.0.0/10" };

/**
 * The names of `state`. What is on nodes of an `unreachable` address is left out, unless nothing else has the name: as no
 * new connection is balanced to it. Throws RangeError when `options.pool` is no prefix.
 */
export function compileNames(
  state: State,
  options: Partial<NamesOptions> = {},
  unreachable: ReadonlySet<Ipv4> = new Set(),
): Names {
  const chosen = { ...DEFAULTS, ...options };
  const building = new Building(state, chosen, unreachable);
  building.addAskers();
  for (const service of state.services.values()) building.addService(service);
  for (const service of state.services.values()) building.addServiceAliases(service);
  for (const endpoint of state.endpoints.values()) building.addEndpoint(endpoint);
  for (const task of state.tasks.values()) building.addTaskAliases(task);
  building.shareHosts();
  for (const network of state.networks.values()) {
    building.addQualified(network.id, "gateway", network.gateway);
    building.addNodeAddress(network.gateway);
  }
  for (const node of state.nodes.values()) {
    building.addQualified(building.networkAt(node.ingressAddress), node.name, node.ingressAddress);
    building.addNodeAddress(node.address);
    building.addNodeAddress(node.ingressAddress);
  }
  return building.finish(chosen);
}

/** Names for the reverse lookup, the best first: its own, Docker's, its id's. The first that is not too long with network and domain is taken. */
function namesOf(endpoint: Endpoint): string[] {
  const { name, attachment } = endpoint;
  const names = [...(name === null ? [] : [name]), ...namesOfAttachment(attachment)];
  return names.length === 0 ? [shortId(endpoint)] : names;
}

function shortId({ id }: Endpoint): string {
  return id.slice(0, 12);
}

function namesOfAttachment(attachment: Attachment | null): string[] {
  return attachment === null ? [] : [...attachment.aliases, ...attachment.hostNames];
}

/** One that has a name which others may have too. */
interface Host {
  readonly nodeId: string | null;
  readonly address: string;
}

interface NetworkBuilding extends NetworkNames {
  readonly entries: Map<string, NameEntry>;
  readonly qualified: Map<string, NameEntry>;
  readonly parents: Set<string>;
  readonly qualifiedParents: Set<string>;
  readonly hostsByName: Map<string, Host[]>;
  /** Names of `entries` that several may have. */
  readonly shared: Set<string>;
}

/** What is said of a name besides its addresses. */
type Facts = Omit<NameEntry, "targets" | "addresses">;

/** Names under construction; lives for one compileNames(). */
class Building {
  readonly #state: State;
  /** Of what is no service's. */
  readonly #plain: Facts;
  readonly #networks: readonly NetworkBuilding[];
  readonly #networksById: ReadonlyMap<string, NetworkBuilding>;
  readonly #networksByAddress = new Map<Ipv4, readonly NetworkNames[]>();
  readonly #nameByAddress = new Map<Ipv4, ReverseName>();
  readonly #serversByAddress = new Map<Ipv4, readonly string[]>();
  readonly #tasksByService: ReadonlyMap<string, Task[]>;
  readonly #unreachable: ReadonlySet<string>;

  readonly #domain: string;

  constructor(state: State, { ttlSeconds, domain }: NamesOptions, unreachable: ReadonlySet<Ipv4>) {
    this.#state = state;
    this.#domain = domain;
    this.#plain = { ttlSeconds, ports: NO_PORTS, labels: [] };
    this.#networks = [...state.networks.values()].map(startNetwork).sort(byName);
    this.#networksById = new Map(this.#networks.map((network) => [network.id, network]));
    const tasksByService = new Map<string, Task[]>();
    for (const task of state.tasks.values()) {
      const tasks = tasksByService.get(task.serviceId);
      if (tasks === undefined) tasksByService.set(task.serviceId, [task]);
      else tasks.push(task);
    }
    this.#tasksByService = tasksByService;
    const nodes = [...state.nodes.values()].filter(({ address }) => unreachable.has(ipv4(address)));
    this.#unreachable = new Set(nodes.map(({ id }) => id));
  }

  addService(service: Service): void {
    const name = service.name.toLowerCase();
    const facts = factsOf(service);
    const { ttlSeconds, ports } = facts;
    const tasks = this.#tasksByService.get(service.id) ?? [];
    const answering = new Set(this.#answering(tasks.filter((task) => this.#isRunning(task))));
    for (const networkId of service.networks) {
      const network = this.#networksById.get(networkId);
      if (network === undefined) continue;
      const running: Target[] = [];
      for (const task of tasks) {
        const address = task.addresses[networkId];
        if (address === undefined) continue;
        const target = { name: `${name}.${task.slot}`, address: ipv4(address), ports };
        if (answering.has(task)) running.push(target);
        network.parents.add(`${task.slot}`);
        this.#nameByAddress.set(target.address, { network, name: target.name, ttlSeconds });
        // A slot's next task may be there before the last one has gone; it is found by its running one.
        if (answering.has(task)) network.entries.set(target.name, entryOf([target], facts));
        else if (!network.entries.has(target.name)) network.entries.set(target.name, entryOf([], facts));
      }
      network.entries.set(`tasks.${name}`, entryOf(running, facts));
      const vip = service.vips[networkId];
      network.entries.set(name, entryOf(vip === undefined ? running : [{ name, address: ipv4(vip), ports }], facts));
      if (vip !== undefined) this.#nameByAddress.set(ipv4(vip), { network, name, ttlSeconds });
    }
    if (service.meshVip !== null) this.addQualified(this.networkAt(service.meshVip), service.name, service.meshVip);
  }

  /** Another name for what its own name stands for, and with `tasks.` before it for its tasks. */
  addServiceAliases(service: Service): void {
    const name = service.name.toLowerCase();
    for (const [networkId, aliases] of Object.entries(service.aliases)) {
      const network = this.#networksById.get(networkId);
      const own = network?.entries.get(name);
      const tasks = network?.entries.get(`tasks.${name}`);
      if (network === undefined || own === undefined || tasks === undefined) continue;
      for (const alias of aliases.map((text) => text.toLowerCase())) {
        share(network, alias, own);
        share(network, `tasks.${alias}`, tasks);
      }
    }
  }

  /** A sandbox of `overlayctl run` lives as long as its row; an attached container may be stopped. */
  addEndpoint(endpoint: Endpoint): void {
    const { id, nodeId, attachment, networkId, address } = endpoint;
    if (nodeId !== null && !this.#isReady(nodeId)) return;
    if (attachment !== null && this.#state.statuses.get(id)?.state !== "running") return;
    const network = this.#networksById.get(networkId);
    if (network === undefined) return;
    for (const name of namesOf(endpoint)) addHost(network, name, endpoint);
    const { ttlSeconds } = this.#plain;
    const mostChars = MAX_NAME_CHARS - `.${network.name}.${this.#domain}`.length;
    const name = namesOf(endpoint).find(({ length }) => length <= mostChars) ?? shortId(endpoint);
    this.#nameByAddress.set(ipv4(address), { network, name: name.toLowerCase(), ttlSeconds });
  }

  addTaskAliases(task: Task): void {
    if (task.attachment === null || !this.#isRunning(task)) return;
    for (const [networkId, address] of Object.entries(task.addresses)) {
      const network = this.#networksById.get(networkId);
      if (network === undefined) continue;
      for (const alias of namesOfAttachment(task.attachment)) addHost(network, alias, { nodeId: task.nodeId, address });
    }
  }

  shareHosts(): void {
    for (const network of this.#networks) {
      for (const [name, hosts] of network.hostsByName) {
        for (const { address } of this.#answering(hosts)) share(network, name, this.#entryOfHost(name, address));
      }
    }
  }

  #isRunning(task: Task): boolean {
    const status = this.#state.statuses.get(task.id);
    const isRunning = task.desired === "running" && status?.state === "running" && status.nodeId === task.nodeId;
    return isRunning && this.#isReady(task.nodeId);
  }

  /** Those on nodes that are reachable; all, when none is. */
  #answering<T extends { readonly nodeId: string | null }>(some: readonly T[]): readonly T[] {
    const reachable = some.filter(({ nodeId }) => !this.#unreachable.has(nodeId ?? ""));
    return reachable.length > 0 ? reachable : some;
  }

  /** Nobody retires what is attached to a node that is lost, and other tasks only when there is a node for them. */
  #isReady(nodeId: string | null): boolean {
    return this.#state.nodes.get(nodeId ?? "")?.state === "ready";
  }

  /** Whoever is attached sees the names of all its networks. */
  addAskers(): void {
    const addressesByAsker = new Map<string, Task["addresses"]>();
    const add = ({ id, nodeId, attachment }: Task | Endpoint, addresses: Task["addresses"]): void => {
      // A container has a row for each network that it was attached to.
      const asker = attachment === null ? id : `${nodeId} ${attachment.subject}`;
      const others = addressesByAsker.get(asker);
      addressesByAsker.set(asker, others === undefined ? addresses : { ...others, ...addresses });
    };
    for (const task of this.#state.tasks.values()) add(task, task.addresses);
    for (const endpoint of this.#state.endpoints.values()) add(endpoint, { [endpoint.networkId]: endpoint.address });
    for (const addresses of addressesByAsker.values()) {
      const own = Object.keys(addresses).flatMap((id) => this.#networksById.get(id) ?? []);
      own.sort(byName);
      for (const address of Object.values(addresses)) this.#networksByAddress.set(ipv4(address), own);
    }
    for (const { serviceId, addresses } of this.#state.tasks.values())
      this.#addServers(this.#state.services.get(serviceId)?.workload?.naming?.dns.servers, Object.values(addresses));
    for (const { dnsServers, address } of this.#state.endpoints.values()) this.#addServers(dnsServers, [address]);
  }

  #addServers(servers: readonly string[] | undefined, addresses: readonly string[]): void {
    if (servers === undefined || servers.length === 0) return;
    for (const address of addresses) this.#serversByAddress.set(ipv4(address), servers);
  }

  /** An address of a node: from there every network's names are seen. */
  addNodeAddress(address: string): void {
    this.#networksByAddress.set(ipv4(address), this.#networks);
  }

  addQualified(networkId: string | undefined, rawName: string, address: string): void {
    const network = this.#networksById.get(networkId ?? "");
    if (network === undefined) return;
    const name = rawName.toLowerCase();
    this.#nameByAddress.set(ipv4(address), { network, name, ttlSeconds: this.#plain.ttlSeconds });
    if (!network.qualified.has(name)) network.qualified.set(name, this.#entryOfHost(name, address));
  }

  #entryOfHost(name: string, address: string): NameEntry {
    return entryOf([{ name, address: ipv4(address), ports: NO_PORTS }], this.#plain);
  }

  networkAt(address: string): string | undefined {
    return this.#networks.find(({ subnet }) => contains(subnet, ipv4(address)))?.id;
  }

  finish(options: NamesOptions): Names {
    const serial = this.#state.revision >>> 0;
    const byAddress = [this.#networksByAddress, this.#nameByAddress, this.#serversByAddress] as const;
    return new Names(options, serial, this.#networks, ...byAddress);
  }
}

function addHost({ hostsByName }: NetworkBuilding, rawName: string, host: Host): void {
  const name = rawName.toLowerCase();
  const hosts = hostsByName.get(name);
  if (hosts === undefined) hostsByName.set(name, [host]);
  else hosts.push(host);
}

/** Several may have this name; a service's own is not taken from it. */
function share(network: NetworkBuilding, name: string, entry: NameEntry): void {
  const before = network.entries.get(name);
  if (before !== undefined && !network.shared.has(name)) return;
  network.shared.add(name);
  for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1))
    network.qualifiedParents.add(name.slice(dot + 1));
  network.entries.set(name, before === undefined ? entry : merged(before, entry));
}

function byName(a: NetworkNames, b: NetworkNames): number {
  return a.name < b.name ? -1 : 1;
}

function startNetwork(network: Network): NetworkBuilding {
  return {
    id: network.id,
    name: network.name.toLowerCase(),
    gateway: ipv4(network.gateway),
    subnet: cidr(network.subnet),
    entries: new Map(),
    qualified: new Map(),
    parents: new Set(),
    qualifiedParents: new Set(),
    hostsByName: new Map(),
    shared: new Set(),
  };
}

function factsOf({ dnsTtlSeconds, ports, labels }: Service): Facts {
  return {
    ttlSeconds: dnsTtlSeconds,
    ports: new Set(ports.map(({ target, protocol }) => `${target}/${protocol}`)),
    labels: Object.entries(labels).map(([key, value]) => `${key}=${value}`),
  };
}

function entryOf(targets: readonly Target[], { ttlSeconds, ports, labels }: Facts): NameEntry {
  return { targets, addresses: targets.map(({ address }) => address), ttlSeconds, ports, labels };
}

function merged(a: NameEntry, b: NameEntry): NameEntry {
  return entryOf([...a.targets, ...b.targets], {
    ttlSeconds: Math.min(a.ttlSeconds, b.ttlSeconds),
    ports: new Set([...a.ports, ...b.ports]),
    labels: [...a.labels, ...b.labels],
  });
}
