// What must hold in every state that the leader commits.

import { type Allocation, claimKey } from "../../src/cluster/schema.ts";
import type { State } from "../../src/cluster/tables.ts";
import { type Cidr, cidr, contains, ipv4, overlaps, sizeOf } from "../../src/lib/ip.ts";

/** What is wrong with the state, in words; nothing when all is well. */
export function violationsOf(state: State, pool: Cidr): string[] {
  return [...addressViolations(state), ...networkViolations(state, pool), ...portViolations(state)];
}

interface Use {
  address: string;
  networkId: string;
  holder: Allocation["holder"];
}

function usesOf({ nodes, networks, services, tasks, endpoints }: State): Use[] {
  const ingressId = [...networks.values()].find(({ name }) => name === "ingress")?.id ?? "";
  const uses: Use[] = [];
  for (const { id, gateway } of networks.values()) {
    uses.push({ address: gateway, networkId: id, holder: { kind: "network", id } });
  }
  for (const { id, ingressAddress } of nodes.values()) {
    uses.push({ address: ingressAddress, networkId: ingressId, holder: { kind: "node", id } });
  }
  for (const { id, vips, meshVip, hostVip } of services.values()) {
    const holder = { kind: "service", id } as const;
    for (const [networkId, address] of Object.entries(vips)) uses.push({ address, networkId, holder });
    for (const address of [meshVip, hostVip])
      if (address !== null) uses.push({ address, networkId: ingressId, holder });
  }
  for (const { id, addresses } of tasks.values()) {
    for (const [networkId, address] of Object.entries(addresses)) {
      uses.push({ address, networkId, holder: { kind: "task", id } });
    }
  }
  for (const { id, address, networkId } of endpoints.values()) {
    uses.push({ address, networkId, holder: { kind: "endpoint", id } });
  }
  return uses;
}

function addressViolations(state: State): string[] {
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (const { address, networkId, holder } of usesOf(state)) {
    const who = `${address} of ${holder.kind} ${holder.id}`;
    if (seen.has(address)) wrong.push(`${who} is held twice`);
    seen.add(address);
    const allocation = state.allocations.get(address);
    if (JSON.stringify(allocation) !== JSON.stringify({ address, networkId, holder, releasedAt: null })) {
      wrong.push(`${who} is recorded as ${JSON.stringify(allocation)}`);
    }
    const network = state.networks.get(networkId);
    if (network === undefined) {
      wrong.push(`${who} is of no network`);
      continue;
    }
    const subnet = cidr(network.subnet);
    const offset = (ipv4(address) - subnet.base) >>> 0;
    if (!contains(subnet, ipv4(address))) wrong.push(`${who} is outside ${network.subnet}`);
    if (offset === 0 || offset === sizeOf(subnet) - 1) wrong.push(`${who} is a network or broadcast address`);
    if ((offset === 1) !== (holder.kind === "network")) wrong.push(`${who}: only the gateway is the first address`);
  }
  for (const { address, releasedAt } of state.allocations.values()) {
    if (releasedAt === null && !seen.has(address)) wrong.push(`${address} is recorded as held and nothing holds it`);
  }
  return wrong;
}

function networkViolations({ networks }: State, pool: Cidr): string[] {
  const all = [...networks.values()];
  return all.flatMap((network, i) => {
    const subnet = cidr(network.subnet);
    const others = all.slice(i + 1);
    return [
      ...(contains(pool, subnet.base) && subnet.bits >= pool.bits ? [] : [`${network.name} is outside the pool`]),
      ...others.filter(({ vni }) => vni === network.vni).map(({ name }) => `${network.name} and ${name} share a VNI`),
      ...others
        .filter((other) => overlaps(cidr(other.subnet), subnet))
        .map(({ name }) => `${network.name} and ${name} overlap`),
    ];
  });
}

function portViolations({ services, ports }: State): string[] {
  const claims = [...services.values()].flatMap(({ id, ports: published }) =>
    published.map(({ published: port, protocol, address }) => `${claimKey({ port, protocol, address })} ${id}`),
  );
  const recorded = [...ports].map(([key, { serviceId }]) => `${key} ${serviceId}`);
  const clashes = [...ports.values()].flatMap((claim) =>
    [...ports.values()]
      .filter((other) => other.port === claim.port && other.protocol === claim.protocol)
      .filter((other) => other.address === null && claim.address !== null)
      .map((other) => `${claimKey(claim)} is claimed beside ${claimKey(other)}`),
  );
  return JSON.stringify(claims.toSorted()) === JSON.stringify(recorded.toSorted())
    ? clashes
    : [`ports: services say ${claims}, the table says ${recorded}`];
}

/** Addresses that a node's data path gives to one holder and the leader has given to another meanwhile. */
export function reusedTooSoon(state: State, applied: State): string[] {
  const holderIds = new Map(usesOf(applied).map(({ address, holder }) => [address, holder.id]));
  return [...state.allocations.values()]
    .filter(({ releasedAt }) => releasedAt === null)
    .filter(({ address, holder }) => (holderIds.get(address) ?? holder.id) !== holder.id)
    .map(({ address }) => `${address} was given away while a node still has it as another's`);
}
