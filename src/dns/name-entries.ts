// What a name stands for on one network: looked up in the state when it is asked for, and kept until a change touches it.
import type { Endpoint, Service, Task } from "../cluster/schema.ts";
import { serves } from "../cluster/serving.ts";
import type { State } from "../cluster/tables.ts";
import { contains, formatIpv4, type Ipv4, ipv4 } from "../lib/ip.ts";
import type { NamedNetwork } from "./named-networks.ts";

/** A service's own ports, as `9200/tcp`. */
export type Ports = ReadonlySet<string>;

const NO_PORTS: Ports = new Set();
const TASKS = "tasks.";
const GATEWAY = "gateway";

/** One address behind a name, with a name of its own: what an SRV record points to. */
export interface Target {
  /** Relative to its network. */
  readonly name: string;
  readonly address: Ipv4;
  /** The ports of its service. */
  readonly ports: Ports;
}

/** What a name stands for on one network. */
export interface NameEntry {
  readonly targets: readonly Target[];
  readonly addresses: readonly Ipv4[];
  readonly ttlSeconds: number;
  /** The ports of all services that the name stands for. */
  readonly ports: Ports;
  /** The service's labels, as `KEY=VALUE`. */
  readonly labels: readonly string[];
}

/** What the service of a name says of it, whichever addresses it has. */
type Properties = Omit<NameEntry, "targets" | "addresses">;

/** A container, namespace or other host that has a name which others may have too. */
interface Host {
  readonly nodeId: string | null;
  readonly address: string;
}

export class NameEntries {
  readonly #state: State;
  /** The properties of names that are no service's. */
  readonly #plain: Properties;
  /** VTEPs of nodes that do not answer probes. */
  #unreachable: ReadonlySet<string> = new Set(); // BOUNDED: by the peers
  // BOUNDED: by the state's services and the networks of each; keyed by the service's id, then by the network's.
  readonly #ofServices = new Map<string, Map<string, ReadonlyMap<string, NameEntry>>>();
  // BOUNDED: by the aliases and hosts' names in the state; keyed by name, then by the network's id.
  readonly #shared = new Map<string, Map<string, NameEntry>>();

  constructor(state: State, ttlSeconds: number) {
    this.#state = state;
    this.#plain = { ttlSeconds, ports: NO_PORTS, labels: [] };
  }

  /** The entry of a name in lower case that is found alone and before `.<network>`. A service's own name goes first. */
  find(network: NamedNetwork, name: string): NameEntry | undefined {
    return this.#ofService(network, name) ?? this.#ofSharers(network, name);
  }

  /** The entry of a name that is found only before `.<network>`: a virtual IP for published ports, the gateway, a node. */
  findQualified({ subnet, gateway }: NamedNetwork, name: string): NameEntry | undefined {
    const isHere = (address: string | null): boolean => address !== null && contains(subnet, ipv4(address));
    const { services, nodes } = this.#state;
    const service = services.by("name", name).find(({ meshVip }) => isHere(meshVip));
    if (service !== undefined) return this.#ofAddress(name, service.meshVip!);
    if (name === GATEWAY) return this.#ofAddress(name, formatIpv4(gateway));
    const node = nodes.by("name", name).find(({ ingressAddress }) => isHere(ingressAddress));
    return node && this.#ofAddress(name, node.ingressAddress);
  }

  /**
   * Whether there are names below `name`, which is none itself. With `isQualified` also those below which only dotted
   * aliases and hosts' names are: alone, such a name belongs to the outside.
   */
  isParent({ id }: NamedNetwork, name: string, isQualified: boolean): boolean {
    const { services, tasks, endpoints } = this.#state;
    const key = `${id}/${name}`;
    const isOfService = ({ serviceId }: Task): boolean => services.get(serviceId)?.networks.includes(id) ?? false;
    if (tasks.by("slot", key).some(isOfService)) return true;
    if (!isQualified) return false;
    return (
      services.by("parent", key).some(({ networks }) => networks.includes(id)) ||
      endpoints.by("parent", key).some((endpoint) => this.isUp(endpoint)) ||
      tasks.by("parent", key).some((task) => this.#isRunning(task))
    );
  }

  /** Whether the endpoint has its names. A sandbox of `overlayctl run` lives as long as its row; an attached container may be stopped. */
  isUp(endpoint: Endpoint): boolean {
    if (endpoint.attachment !== null) return serves(this.#state, endpoint);
    return endpoint.nodeId === null || this.#state.nodes.get(endpoint.nodeId)?.state === "ready";
  }

  /** Takes new VTEPs of nodes that do not answer probes. Returns whether they are others than before. */
  setUnreachable(vteps: readonly Ipv4[]): boolean {
    const found = new Set(vteps.map(formatIpv4));
    if (found.size === this.#unreachable.size && [...found].every((vtep) => this.#unreachable.has(vtep))) return false;
    this.#unreachable = found;
    this.forgetAll();
    return true;
  }

  /** Forgets what is kept of the service of this id, or of the shared name. */
  forget(idOrName: string): void {
    this.#ofServices.delete(idOrName);
    this.#shared.delete(idOrName);
  }

  forgetAll(): void {
    this.#ofServices.clear();
    this.#shared.clear();
  }

  #ofService(network: NamedNetwork, name: string): NameEntry | undefined {
    const service = this.#state.services.by("name", serviceNameOf(name)).at(-1);
    return service && this.#namesOf(service, network)?.get(name);
  }

  /** All names of the service itself on the network; undefined: the service is not on it. Costs the service's tasks the first time. */
  #namesOf(service: Service, network: NamedNetwork): ReadonlyMap<string, NameEntry> | undefined {
    if (!service.networks.includes(network.id)) return undefined;
    const ofService = this.#ofServices.get(service.id) ?? new Map<string, ReadonlyMap<string, NameEntry>>();
    this.#ofServices.set(service.id, ofService);
    const names = ofService.get(network.id) ?? this.#lookUpService(service, network.id);
    ofService.set(network.id, names);
    return names;
  }

  #lookUpService(service: Service, networkId: string): ReadonlyMap<string, NameEntry> {
    const name = service.name.toLowerCase();
    const properties = propertiesOf(service);
    const { ports } = properties;
    const names = new Map<string, NameEntry>();
    const tasks = this.#state.tasks.by("service", service.id);
    const answering = new Set(this.#reachable(tasks.filter((task) => this.#isRunning(task))));
    const running: Target[] = [];
    for (const task of tasks) {
      const address = task.addresses[networkId];
      if (address === undefined) continue;
      const target = { name: `${name}.${task.slot}`, address: ipv4(address), ports };
      if (answering.has(task)) running.push(target);
      // A slot's next task may be there before the last one has gone; it is found by its running one.
      if (answering.has(task)) names.set(target.name, entryOf([target], properties));
      else if (!names.has(target.name)) names.set(target.name, entryOf([], properties));
    }
    names.set(TASKS + name, entryOf(running, properties));
    const vip = service.vips[networkId];
    names.set(name, entryOf(vip === undefined ? running : [{ name, address: ipv4(vip), ports }], properties));
    return names;
  }

  /** The entry of a name that several services and hosts may have. */
  #ofSharers(network: NamedNetwork, name: string): NameEntry | undefined {
    const kept = this.#shared.get(name)?.get(network.id);
    if (kept !== undefined) return kept;
    const entries = [...this.#ofAliases(network, name), ...this.#ofHosts(network, name)];
    if (entries.length === 0) return undefined;
    const entry = entries.length === 1 ? entries[0]! : merged(entries);
    const ofName = this.#shared.get(name) ?? new Map<string, NameEntry>();
    this.#shared.set(name, ofName.set(network.id, entry));
    return entry;
  }

  /** A service's alias is another name for what its own name stands for, and with `tasks.` before it for its tasks. */
  #ofAliases(network: NamedNetwork, name: string): NameEntry[] {
    const having = (alias: string, before: string): NameEntry[] =>
      this.#state.services
        .by("alias", `${network.id}/${alias}`)
        .flatMap((service) => this.#namesOf(service, network)?.get(before + service.name.toLowerCase()) ?? []);
    const ofTasks = name.startsWith(TASKS) ? having(name.slice(TASKS.length), TASKS) : [];
    return [...having(name, ""), ...ofTasks];
  }

  #ofHosts(network: NamedNetwork, name: string): NameEntry[] {
    const { tasks, endpoints } = this.#state;
    const key = `${network.id}/${name}`;
    const hosts: Host[] = endpoints.by("host", key).filter((endpoint) => this.isUp(endpoint));
    for (const task of tasks.by("alias", key)) {
      if (this.#isRunning(task)) hosts.push({ nodeId: task.nodeId, address: task.addresses[network.id]! });
    }
    return this.#reachable(hosts).map(({ address }) => this.#ofAddress(name, address));
  }

  #ofAddress(name: string, address: string): NameEntry {
    return entryOf([{ name, address: ipv4(address), ports: NO_PORTS }], this.#plain);
  }

  #isRunning(task: Task): boolean {
    return task.desired === "running" && serves(this.#state, task);
  }

  /** Those on nodes that answer probes; all, when none is. */
  #reachable<T extends Host | Task>(some: readonly T[]): readonly T[] {
    if (this.#unreachable.size === 0) return some;
    const reachable = some.filter(({ nodeId }) => {
      const node = this.#state.nodes.get(nodeId ?? "");
      return node === undefined || !this.#unreachable.has(node.address);
    });
    return reachable.length > 0 ? reachable : some;
  }
}

/** The name of the service that alone could have this name as its own: `search` for `search`, `tasks.search`, `search.1`. */
export function serviceNameOf(name: string): string {
  if (name.startsWith(TASKS)) return name.slice(TASKS.length);
  return name.replace(/(?<=.)\.\d+$/, "");
}

/** The names that a service has by an alias, in lower case. */
export function namesOfAlias(alias: string): string[] {
  const name = alias.toLowerCase();
  return [name, TASKS + name];
}

function propertiesOf({ dnsTtlSeconds, ports, labels }: Service): Properties {
  return {
    ttlSeconds: dnsTtlSeconds,
    ports: new Set(ports.map(({ target, protocol }) => `${target}/${protocol}`)),
    labels: Object.entries(labels).map(([key, value]) => `${key}=${value}`),
  };
}

function entryOf(targets: readonly Target[], { ttlSeconds, ports, labels }: Properties): NameEntry {
  return { targets, addresses: targets.map(({ address }) => address), ttlSeconds, ports, labels };
}

function merged(entries: readonly NameEntry[]): NameEntry {
  return entryOf(
    entries.flatMap(({ targets }) => targets),
    {
      ttlSeconds: Math.min(...entries.map(({ ttlSeconds }) => ttlSeconds)),
      ports: new Set(entries.flatMap(({ ports }) => [...ports])),
      labels: entries.flatMap(({ labels }) => labels),
    },
  );
}
