// Compiles a snapshot of the cluster's state into its names.
import type { Endpoint, Network, Service, State, Task } from "../cluster/schema.ts";
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
const DEFAULTS: NamesOptions = { domain: "overlay", ttlSeconds: 5, pool: "10.192.0.0/10" };

/** The names of `state`. Throws RangeError when `options.pool` is no prefix. */
export function compileNames(state: State, options: Partial<NamesOptions> = {}): Names {
  const chosen = { ...DEFAULTS, ...options };
  const building = new Building(state, chosen.ttlSeconds);
  building.addAskers();
  for (const service of state.services.values()) building.addService(service);
  for (const service of state.services.values()) building.addServiceAliases(service);
  for (const endpoint of state.endpoints.values()) {
    if (!building.isUp(endpoint)) continue;
    const [name, ...aliases] = namesOf(endpoint);
    building.addHost(endpoint.networkId, name, endpoint.address);
    for (const alias of aliases) building.addHostAlias(endpoint.networkId, alias, endpoint.address);
  }
  for (const task of state.tasks.values()) {
    if (task.attachment === null || !building.isRunning(task)) continue;
    for (const [networkId, address] of Object.entries(task.addresses))
      for (const alias of task.attachment.aliases) building.addHostAlias(networkId, alias, address);
  }
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

/** The first is its name in reverse: its own, Docker's, or the beginning of its id. */
function namesOf({ id, name, attachment }: Endpoint): [string, ...string[]] {
  const names = [...(name === null ? [] : [name]), ...(attachment?.aliases ?? [])];
  const [first = id.slice(0, 12), ...others] = names;
  return [first, ...others];
}

interface NetworkBuilding extends NetworkNames {
  readonly entries: Map<string, NameEntry>;
  readonly qualified: Map<string, NameEntry>;
  readonly parents: Set<string>;
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
  readonly #tasksByService: ReadonlyMap<string, Task[]>;

  constructor(state: State, ttlSeconds: number) {
    this.#state = state;
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
  }

  addService(service: Service): void {
    const name = service.name.toLowerCase();
    const facts = factsOf(service);
    const { ttlSeconds, ports } = facts;
    const tasks = this.#tasksByService.get(service.id) ?? [];
    for (const networkId of service.networks) {
      const network = this.#networksById.get(networkId);
      if (network === undefined) continue;
      const running: Target[] = [];
      for (const task of tasks) {
        const address = task.addresses[networkId];
        if (address === undefined) continue;
        const target = { name: `${name}.${task.slot}`, address: ipv4(address), ports };
        if (this.isRunning(task)) running.push(target);
        network.parents.add(`${task.slot}`);
        this.#nameByAddress.set(target.address, { network, name: target.name, ttlSeconds });
        // A slot's next task may be there before the last one has gone; it is found by its running one.
        if (this.isRunning(task)) network.entries.set(target.name, entryOf([target], facts));
        else if (!network.entries.has(target.name)) network.entries.set(target.name, entryOf([], facts));
      }
      network.entries.set(`tasks.${name}`, entryOf(running, facts));
      const vip = service.vips[networkId];
      network.entries.set(name, entryOf(vip === undefined ? running : [{ name, address: ipv4(vip), ports }], facts));
      if (vip !== undefined) this.#nameByAddress.set(ipv4(vip), { network, name, ttlSeconds });
    }
    if (service.meshVip !== null) this.addQualified(this.networkAt(service.meshVip), service.name, service.meshVip);
  }

  /** Another name for what its own name stands for. */
  addServiceAliases(service: Service): void {
    for (const [networkId, aliases] of Object.entries(service.aliases)) {
      const own = this.#networksById.get(networkId)?.entries.get(service.name.toLowerCase());
      if (own !== undefined) for (const alias of aliases) this.#share(networkId, alias, own);
    }
  }

  isRunning(task: Task): boolean {
    const status = this.#state.statuses.get(task.id);
    const isRunning = task.desired === "running" && status?.state === "running" && status.nodeId === task.nodeId;
    return isRunning && this.#isReady(task.nodeId);
  }

  /** A sandbox of `overlayctl run` lives as long as its row; an attached container may be stopped. */
  isUp({ id, nodeId, attachment }: Endpoint): boolean {
    if (nodeId !== null && !this.#isReady(nodeId)) return false;
    return attachment === null || this.#state.statuses.get(id)?.state === "running";
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
  }

  /** An address of a node: from there every network's names are seen. */
  addNodeAddress(address: string): void {
    this.#networksByAddress.set(ipv4(address), this.#networks);
  }

  /** The name that an address has in reverse too. */
  addHost(networkId: string, hostName: string, address: string): void {
    const network = this.#networksById.get(networkId);
    if (network === undefined) return;
    const { ttlSeconds } = this.#plain;
    this.#nameByAddress.set(ipv4(address), { network, name: hostName.toLowerCase(), ttlSeconds });
    this.addHostAlias(networkId, hostName, address);
  }

  addHostAlias(networkId: string, alias: string, address: string): void {
    this.#share(networkId, alias, this.#entryOfHost(alias.toLowerCase(), address));
  }

  /** Several may have this name; a service's own is not taken from it. */
  #share(networkId: string, rawName: string, entry: NameEntry): void {
    const network = this.#networksById.get(networkId);
    if (network === undefined) return;
    const name = rawName.toLowerCase();
    const before = network.entries.get(name);
    if (before !== undefined && !network.shared.has(name)) return;
    network.shared.add(name);
    network.entries.set(name, before === undefined ? entry : merged(before, entry));
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
    return new Names(options, this.#state.revision >>> 0, this.#networks, this.#networksByAddress, this.#nameByAddress);
  }
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
