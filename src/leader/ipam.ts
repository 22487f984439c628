// Subnets, VNIs and addresses. Whatever was released is held back until every live node has applied that, and the search
// for the next one goes on behind the last, so that an address rests for long before another holder gets it.

import type { Allocation, Network } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { type Cidr, cidr, contains, formatCidr, formatIpv4, type Ipv4, ipv4, overlaps, sizeOf } from "../lib/ip.ts";

type Holder = Allocation["holder"];

const NETWORK_BITS = 20;
const NETWORK_SIZE = 2 ** (32 - NETWORK_BITS);
/** A subnet has its network, gateway and broadcast address, and some for endpoints. */
const MAX_SUBNET_BITS = 29;
const FIRST_VNI = 4096;
const VNI_COUNT = 0x1000000 - FIRST_VNI;
/** Endpoints start behind the network address and the gateway. */
const FIRST_OFFSET = 2;

/** No address but one that was released and that not every live node knows of: it is free in a moment. */
export class HeldBackError extends UserError {
  /** The address is free once every live node has this revision in force. */
  readonly releasedAt: number;

  constructor(message: string, releasedAt: number) {
    super(409, message);
    this.releasedAt = releasedAt;
  }
}

/** Hands out addresses: the next free one of a network. */
export class Addresses {
  // BOUNDED: by the networks (`forget`); keyed by network id. Where the next search begins, from 0; only a hint.
  readonly #next = new Map<string, number>();

  /**
   * Gives `holder` a free address of the network. Throws UserError 409 when there is none. A search passes the addresses
   * in use once a round: it is short unless nearly all are, and none is made when all are.
   */
  allocate(draft: Draft, network: Network, holder: Holder): string {
    const { allocations } = draft.state;
    const subnet = cidr(network.subnet);
    const count = sizeOf(subnet) - FIRST_OFFSET - 1;
    const isFull = allocations.count("network", network.id) > count; // the gateway is one of them
    const first = this.#next.get(network.id) ?? draft.revision;
    for (let i = 0; i < count && !isFull; i++) {
      const place = (first + i) % count;
      const address = formatIpv4((subnet.base + FIRST_OFFSET + place) | 0);
      if (allocations.has(address)) continue;
      hold(draft, network, address, holder);
      this.#next.set(network.id, place + 1);
      return address;
    }
    const message = `network '${network.name}' (${network.subnet}) has no free address`;
    const released = allocations.by("todo", "free").filter(({ networkId }) => networkId === network.id);
    if (released.length === 0) throw new UserError(409, message);
    throw new HeldBackError(message, Math.min(...released.map(({ releasedAt }) => releasedAt!)));
  }

  /** The network is gone. */
  forget(networkId: string): void {
    this.#next.delete(networkId);
  }
}

/** Gives `holder` the address it asks for. Throws UserError 400 and 409. */
export function takeAddress(draft: Draft, network: Network, address: string, holder: Holder): string {
  const subnet = cidr(network.subnet);
  const offset = (ipv4(address) - subnet.base) >>> 0;
  if (!contains(subnet, ipv4(address))) {
    throw new UserError(400, `${address} is not in ${network.subnet} of network '${network.name}'`, {
      field: "address",
    });
  }
  if (offset < FIRST_OFFSET || offset === sizeOf(subnet) - 1) {
    throw new UserError(400, `${address} is the network, gateway or broadcast address of '${network.name}'`, {
      field: "address",
    });
  }
  const taken = draft.state.allocations.get(address);
  if (taken !== undefined) {
    const message = `${address} is ${describe(draft.state, taken)}`;
    if (taken.releasedAt !== null) throw new HeldBackError(message, taken.releasedAt);
    throw new UserError(409, message);
  }
  hold(draft, network, address, holder);
  return address;
}

export function gatewayOf(subnet: Cidr): Ipv4 {
  return (subnet.base + 1) | 0;
}

/** Records the gateway as the network's own. */
export function holdGateway(draft: Draft, network: Network): void {
  hold(draft, network, network.gateway, { kind: "network", id: network.id });
}

/** The address is free again once `freeReleased` sees that every live node has applied the draft's revision. */
export function releaseAddress(draft: Draft, address: string): void {
  const allocation = draft.state.allocations.get(address);
  if (allocation !== undefined) draft.put("allocations", { ...allocation, releasedAt: draft.revision });
}

/** Frees what was released at `appliedRevision` or before. Loops over what is released. */
export function freeReleased(draft: Draft, appliedRevision: number): void {
  for (const { address, releasedAt } of draft.state.allocations.by("todo", "free")) {
    if (releasedAt !== null && releasedAt <= appliedRevision) draft.remove("allocations", address);
  }
}

/** The pool's first /20 that overlaps nothing. Throws UserError 409 when the pool is used up. Loops over the networks, for each new one. */
export function cutSubnet(state: State, pool: Cidr): Cidr {
  const used = new Set<number>();
  for (const { subnet } of takenSubnets(state)) {
    const first = Math.floor(((subnet.base - pool.base) >>> 0) / NETWORK_SIZE);
    const count = Math.max(1, sizeOf(subnet) / NETWORK_SIZE);
    for (let i = 0; i < count; i++) used.add(first + i);
  }
  for (let i = 0; i * NETWORK_SIZE < sizeOf(pool); i++) {
    if (!used.has(i)) return { base: (pool.base + i * NETWORK_SIZE) | 0, bits: NETWORK_BITS };
  }
  throw new UserError(409, `the pool ${formatCidr(pool)} has no free /${NETWORK_BITS} left for a network`);
}

/** Throws UserError 400 and 409 when a network cannot have `subnet`. Loops over the networks, for each new one. */
export function requireSubnet(state: State, pool: Cidr, subnet: Cidr): void {
  const text = formatCidr(subnet);
  if (subnet.bits > MAX_SUBNET_BITS) {
    throw new UserError(400, `${text} is too small: a subnet is /${MAX_SUBNET_BITS} or larger`, { field: "subnet" });
  }
  if (subnet.bits < pool.bits || !contains(pool, subnet.base)) {
    throw new UserError(400, `${text} is not in the pool ${formatCidr(pool)}`, { field: "subnet" });
  }
  const taken = takenSubnets(state).find((other) => overlaps(other.subnet, subnet));
  if (taken !== undefined) throw new UserError(409, `${text} overlaps ${formatCidr(taken.subnet)} of ${taken.owner}`);
}

/** A VNI that no network has; the next draft's search starts one further, so that a VNI rests too. */
export function freeVni({ state: { networks }, revision }: Draft): number {
  for (let i = 0; i <= networks.size; i++) {
    const vni = FIRST_VNI + ((revision + i) % VNI_COUNT);
    if (networks.count("vni", String(vni)) === 0) return vni;
  }
  throw new UserError(409, "every VNI is in use");
}

function hold(draft: Draft, network: Network, address: string, holder: Holder): void {
  draft.put("allocations", { address, networkId: network.id, holder, releasedAt: null });
}

/** The networks' subnets, and the addresses that removed networks still hold back: they are all released. */
function takenSubnets({ networks, allocations }: State): { subnet: Cidr; owner: string }[] {
  const taken = [...networks.values()].map(({ name, subnet }) => ({
    subnet: cidr(subnet),
    owner: `network '${name}'`,
  }));
  for (const { address, networkId } of allocations.by("todo", "free")) {
    if (!networks.has(networkId)) {
      taken.push({ subnet: { base: ipv4(address), bits: 32 }, owner: "a network that is being removed" });
    }
  }
  return taken;
}

function describe({ nodes, networks, services, tasks, endpoints }: State, allocation: Allocation): string {
  const { kind, id } = allocation.holder;
  if (allocation.releasedAt !== null) return "held back until every node knows that it was released";
  if (kind === "network") return `the gateway of network '${networks.get(id)?.name}'`;
  if (kind === "node") return `the address of node '${nodes.get(id)?.name}'`;
  if (kind === "service") return `the VIP of service '${services.get(id)?.name}'`;
  if (kind === "endpoint") {
    const { name, attachment } = endpoints.get(id) ?? {};
    return `in use by endpoint '${name ?? attachment?.name ?? id}'`;
  }
  const task = tasks.get(id);
  const service = task === undefined ? undefined : services.get(task.serviceId);
  return `in use by task '${service?.name ?? "(removed)"}.${task?.slot}'`;
}
