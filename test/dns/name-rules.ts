// The rules of docs/names.md, stated over all rows of a state: which names a network has, and what each client is told.
import type { Attachment, Endpoint, Service, Task } from "../../src/cluster/schema.ts";
import type { State } from "../../src/cluster/tables.ts";
import { cidr, contains, ipv4 } from "../../src/lib/ip.ts";

const DEFAULT_TTL = 5;

/** What a name stands for, each list sorted and without doubles. */
export interface Said {
  readonly network: string;
  readonly addresses: readonly string[];
  readonly ttl: number;
  readonly ports: readonly string[];
  readonly labels: readonly string[];
}

interface Binding {
  readonly name: string;
  /** Own: a service's, which nothing else takes. Shared: several may have it. Qualified: found before `.<network>` alone. */
  readonly rank: "own" | "shared" | "qualified";
  readonly addresses: readonly string[];
  readonly service?: Service;
}

const lower = (name: string): string => name.toLowerCase();
const sorted = (some: Iterable<string>): string[] => [...new Set(some)].toSorted();

export class NameRules {
  readonly #state: State;
  readonly #unreachable: readonly string[];

  constructor(state: State, unreachable: readonly string[]) {
    this.#state = state;
    this.#unreachable = unreachable;
  }

  /** The names of the client's networks, the one it asked first. */
  networksOf(client: string, gateway: string): string[] {
    const { nodes, networks, tasks, endpoints } = this.#state;
    const all = [...networks.values()].toSorted((a, b) => (lower(a.name) < lower(b.name) ? -1 : 1));
    const first = all.find((network) => network.gateway === gateway);
    const inOrder = (ids: readonly string[]): string[] => {
      const own = all.filter(({ id }) => ids.includes(id));
      return (first !== undefined && own.includes(first) ? [first, ...own.filter((one) => one !== first)] : own).map(
        ({ id }) => id,
      );
    };
    const nodeAddresses = [...nodes.values()].flatMap(({ address, ingressAddress }) => [address, ingressAddress]);
    if ([...nodeAddresses, ...all.map((network) => network.gateway)].includes(client) || client.startsWith("127."))
      return inOrder(all.map(({ id }) => id));
    const holders = [...endpoints.values(), ...tasks.values()].map((row) => ({ row, held: addressesOf(row) }));
    const holder = holders.find(({ held }) => Object.values(held).includes(client))?.row;
    if (holder !== undefined) {
      const same = holders.filter(({ row }) => row === holder || isSameContainer(row, holder));
      const own = inOrder(same.flatMap(({ held }) => Object.keys(held)));
      if (own.length > 0) return own;
    }
    return all.filter(({ subnet }) => contains(cidr(subnet), ipv4(client))).map(({ id }) => id);
  }

  find(name: string, networkIds: readonly string[]): Said | undefined {
    for (const one of this.#withAndWithoutDomain(name)) {
      for (const id of networkIds) {
        const said = this.#onNetwork(id, before(one, this.#nameOf(id)), ["own", "shared", "qualified"]);
        if (said !== undefined) return said;
      }
      for (const id of networkIds) {
        const said = this.#onNetwork(id, one, ["own", "shared"]);
        if (said !== undefined) return said;
      }
    }
    return undefined;
  }

  /** Whether there are names below a name that is none. */
  isParent(name: string, networkIds: readonly string[]): boolean {
    const isQualified = name.endsWith(".overlay");
    const relative = this.#withAndWithoutDomain(name).at(-1)!;
    return networkIds.some((id) => {
      const network = this.#nameOf(id);
      const rest = before(relative, network);
      const ranks = isQualified || rest !== undefined ? ["own", "shared"] : ["own"];
      if (this.bindings(id).some((one) => ranks.includes(one.rank) && one.name.endsWith(`.${rest ?? relative}`)))
        return true;
      return rest === undefined && (network === relative || (isQualified && network.endsWith(`.${relative}`)));
    });
  }

  /** The full name of an address, for a client that sees these networks. */
  nameOf(address: string, networkIds: readonly string[]): string | undefined {
    const { nodes, networks, services, tasks, endpoints } = this.#state;
    const id = networkIds.find((one) => contains(cidr(networks.get(one)!.subnet), ipv4(address)));
    if (id === undefined) return undefined;
    const isIt = (other: string | null | undefined): boolean => other === address;
    const names = [
      ...[...nodes.values()].filter((node) => isIt(node.ingressAddress)).map((node) => node.name),
      ...(isIt(networks.get(id)!.gateway) ? ["gateway"] : []),
      ...[...endpoints.values()].filter((one) => this.#isUp(one) && isIt(one.address)).map((one) => hostNames(one)[0]!),
      ...[...services.values()].filter((one) => isIt(one.meshVip) || isIt(one.vips[id])).map((one) => one.name),
      ...[...tasks.values()]
        .filter((task) => isIt(task.addresses[id]) && services.get(task.serviceId)?.networks.includes(id))
        .map((task) => `${services.get(task.serviceId)!.name}.${task.slot}`),
    ];
    return names[0] === undefined ? undefined : `${lower(names[0])}.${this.#nameOf(id)}.overlay`;
  }

  /** Everything that is a name on the network. */
  bindings(networkId: string): Binding[] {
    const { nodes, networks, services, endpoints, tasks } = this.#state;
    const { gateway, subnet } = networks.get(networkId)!;
    const isHere = (address: string | null): address is string =>
      address !== null && contains(cidr(subnet), ipv4(address));
    const hosts: { name: string; address: string; nodeId: string | null }[] = [];
    for (const endpoint of endpoints.values()) {
      if (endpoint.networkId === networkId && this.#isUp(endpoint))
        for (const name of hostNames(endpoint)) hosts.push({ ...endpoint, name: lower(name) });
    }
    for (const task of tasks.values()) {
      const { attachment, nodeId } = task;
      const address = task.addresses[networkId];
      if (attachment === null || address === undefined || !this.#isRunning(task)) continue;
      for (const name of namesOfContainer(attachment)) hosts.push({ name: lower(name), address, nodeId });
    }
    return [
      ...[...services.values()].flatMap((service) => this.#bindingsOf(service, networkId)),
      ...sorted(hosts.map(({ name }) => name)).map(
        (name): Binding => ({
          ...{ name, rank: "shared" },
          addresses: this.#reachable(hosts.filter((host) => host.name === name)).map(({ address }) => address),
        }),
      ),
      ...[...services.values()].flatMap(({ name, meshVip }): Binding[] =>
        isHere(meshVip) ? [{ name: lower(name), rank: "qualified", addresses: [meshVip] }] : [],
      ),
      { name: "gateway", rank: "qualified", addresses: [gateway] },
      ...[...nodes.values()].flatMap(({ name, ingressAddress }): Binding[] =>
        isHere(ingressAddress) ? [{ name: lower(name), rank: "qualified", addresses: [ingressAddress] }] : [],
      ),
    ];
  }

  #bindingsOf(service: Service, networkId: string): Binding[] {
    if (!service.networks.includes(networkId)) return [];
    const name = lower(service.name);
    const all = [...this.#state.tasks.values()].filter(({ serviceId }) => serviceId === service.id);
    const running = this.#reachable(all.filter((task) => this.#isRunning(task)));
    const addressesOn = (tasks: readonly Task[]): string[] => tasks.flatMap((task) => task.addresses[networkId] ?? []);
    const vip = service.vips[networkId];
    const own = vip === undefined ? addressesOn(running) : [vip];
    const slots = new Set(all.filter((task) => networkId in task.addresses).map(({ slot }) => slot));
    const aliases = (service.aliases[networkId] ?? []).map(lower);
    return [
      { name, rank: "own", service, addresses: own },
      { name: `tasks.${name}`, rank: "own", service, addresses: addressesOn(running) },
      ...[...slots].map(
        (slot): Binding => ({
          ...{ name: `${name}.${slot}`, rank: "own", service },
          addresses: addressesOn(running.filter((task) => task.slot === slot)),
        }),
      ),
      ...aliases.flatMap((alias): Binding[] => [
        { name: alias, rank: "shared", service, addresses: own },
        { name: `tasks.${alias}`, rank: "shared", service, addresses: addressesOn(running) },
      ]),
    ];
  }

  /** What the bindings of the first of these ranks that has the name say together. */
  #onNetwork(networkId: string, name: string | undefined, ranks: readonly Binding["rank"][]): Said | undefined {
    for (const rank of ranks) {
      const found = this.bindings(networkId).filter((binding) => binding.name === name && binding.rank === rank);
      // Of several qualified names the first in order has it.
      const some = rank === "qualified" ? found.slice(0, 1) : found;
      if (some.length === 0) continue;
      const ports = some.flatMap(({ service }) => service?.ports ?? []);
      return {
        network: this.#nameOf(networkId),
        addresses: sorted(some.flatMap(({ addresses }) => addresses)),
        ttl: Math.min(...some.map(({ service }) => service?.dnsTtlSeconds ?? DEFAULT_TTL)),
        ports: sorted(ports.map(({ target, protocol }) => `${target}/${protocol}`)),
        labels: sorted(
          some.flatMap(({ service }) => Object.entries(service?.labels ?? {}).map((pair) => pair.join("="))),
        ),
      };
    }
    return undefined;
  }

  #isUp(endpoint: Endpoint): boolean {
    if (endpoint.attachment !== null) return this.#serves(endpoint);
    return endpoint.nodeId === null || this.#state.nodes.get(endpoint.nodeId)?.state === "ready";
  }

  #isRunning(task: Task): boolean {
    return task.desired === "running" && this.#serves(task);
  }

  #serves({ id, nodeId }: Task | Endpoint): boolean {
    const status = this.#state.statuses.get(id);
    const isReady = this.#state.nodes.get(nodeId ?? "")?.state === "ready";
    return isReady && status?.state === "running" && status.nodeId === nodeId;
  }

  /** Those on nodes that answer probes; all, when there are none. */
  #reachable<T extends { readonly nodeId: string | null }>(some: readonly T[]): readonly T[] {
    const found = some.filter(
      ({ nodeId }) => !this.#unreachable.includes(this.#state.nodes.get(nodeId ?? "")?.address ?? ""),
    );
    return found.length > 0 ? found : some;
  }

  #withAndWithoutDomain(name: string): string[] {
    return name.endsWith(".overlay") ? [name, name.slice(0, -".overlay".length)] : [name];
  }

  #nameOf(networkId: string): string {
    return lower(this.#state.networks.get(networkId)!.name);
  }
}

function before(name: string, network: string): string | undefined {
  return name.endsWith(`.${network}`) ? name.slice(0, -network.length - 1) : undefined;
}

function namesOfContainer({ aliases, hostNames }: Attachment): string[] {
  return [...aliases, ...hostNames];
}

function hostNames({ id, name, attachment }: Endpoint): string[] {
  const names = [...(name === null ? [] : [name]), ...(attachment === null ? [] : namesOfContainer(attachment))];
  return names.length > 0 ? names : [id.slice(0, 12)];
}

function addressesOf(row: Task | Endpoint): Record<string, string> {
  return "addresses" in row ? row.addresses : { [row.networkId]: row.address };
}

function isSameContainer(a: Task | Endpoint, b: Task | Endpoint): boolean {
  return a.attachment !== null && a.attachment.subject === b.attachment?.subject && a.nodeId === b.nodeId;
}
