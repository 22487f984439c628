// Published ports: who has which, on which of the nodes' addresses, and the ports that the leader chooses itself.

import type { AskedPort } from "../cluster/commands.ts";
import { findByName, networkOf } from "../cluster/lookup.ts";
import { nodePorts } from "../cluster/node-ports.ts";
import { claimKey, INGRESS_NETWORK, type PortClaim, type PublishedPort, type Service } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { cidr, contains, ipv4 } from "../lib/ip.ts";
import type { LeaderContext, ReservedPort } from "./context.ts";
import { releaseAddress } from "./ipam.ts";

/** Where the leader chooses ports itself, as Docker does. */
const CHOSEN = { first: 30_000, last: 32_767 };

/** What no node has, RFC 6890 and RFC 1112. */
const SPECIAL = [
  { block: cidr("0.0.0.0/8"), what: "no host's" },
  { block: cidr("224.0.0.0/4"), what: "a multicast group's" },
  { block: cidr("240.0.0.0/4"), what: "reserved or broadcast" },
];

/** Has the service publish these ports too. Throws UserError 400 and 409. */
export function publish(
  draft: Draft,
  service: Service,
  asked: readonly AskedPort[],
  { reservedPorts, now, addresses }: LeaderContext,
): void {
  if (asked.length === 0) return;
  const portsByIndex = new Map<number, PublishedPort>();
  // Those that are named come first, so that none of them is chosen for another.
  const order = [...asked.keys()].toSorted(
    (a, b) => Number(asked[a]!.published === null) - Number(asked[b]!.published === null),
  );
  for (const i of order) {
    const port = { ...asked[i]!, published: asked[i]!.published ?? choosePort(draft.state, asked[i]!, reservedPorts) };
    requireFree(draft.state, port, i, [...service.ports, ...portsByIndex.values()], service, reservedPorts);
    portsByIndex.set(i, port);
    const { published, protocol, address } = port;
    draft.put("ports", { port: published, protocol, address, serviceId: service.id });
  }
  const ports = [...portsByIndex.keys()].toSorted((a, b) => a - b).map((i) => portsByIndex.get(i)!);
  const needs = (mode: PublishedPort["mode"]): boolean => ports.some((port) => port.mode === mode);
  const ingress = findByName("network", draft.state.networks, INGRESS_NETWORK);
  const vip = (known: string | null, isNeeded: boolean): string | null =>
    known ?? (isNeeded ? addresses.allocate(draft, ingress, { kind: "service", id: service.id }) : null);
  draft.put("services", {
    ...service,
    ports: [...service.ports, ...ports],
    meshVip: vip(service.meshVip, needs("ingress")),
    hostVip: vip(service.hostVip, needs("host")),
    updatedAt: now,
  });
}

/** Frees all that the service publishes. */
export function unpublish(draft: Draft, { meshVip, hostVip, ports }: Service): void {
  for (const address of [meshVip, hostVip]) if (address !== null) releaseAddress(draft, address);
  for (const { published: port, protocol, address } of ports)
    draft.remove("ports", claimKey({ port, protocol, address }));
}

/** Whether the service publishes what is asked for; a port that was left to the leader is whichever it chose. */
export function publishes({ ports }: Service, asked: AskedPort): boolean {
  return ports.some(
    ({ published, target, protocol, mode, address }) =>
      (asked.published === null || asked.published === published) &&
      target === asked.target &&
      protocol === asked.protocol &&
      mode === asked.mode &&
      address === asked.address,
  );
}

/** `own` are the ports of the same command that come before, `index` is its place among them. Throws UserError 400 and 409. */
function requireFree(
  state: State,
  port: PublishedPort,
  index: number,
  own: readonly PublishedPort[],
  service: Service,
  reservedPorts: readonly ReservedPort[],
): void {
  const { published, protocol, address } = port;
  const key = claimKey({ port: published, protocol, address });
  const field = `ports.${index}.published`;
  const reserved = reservedPorts.find((other) => other.port === published && other.protocol === protocol);
  if (reserved !== undefined) throw new UserError(400, `port ${key} is ${reserved.owner}`, { field });
  const [node] = state.nodes.by("port", `${published}/${protocol}`);
  if (node !== undefined) {
    const { what } = nodePorts(node).find((own) => own.port === published && own.protocol === protocol)!;
    throw new UserError(400, `port ${key} is the ${what} of node '${node.name}'`, { field });
  }
  requireOutside(state, address, index);
  const claim = claimant(state, { port: published, protocol, address });
  if (claim !== undefined) {
    const isOwn = claim.serviceId === service.id && service.ports.length === 0;
    if (isOwn) throw new UserError(400, `port ${key} is named twice`, { field });
    const owner = state.services.get(claim.serviceId)?.name;
    throw new UserError(409, `port ${claimKey(claim)} is published by service '${owner}'`, { field });
  }
  const sibling = own.find((other) => other.published === published && other.protocol === protocol);
  if (sibling !== undefined && (sibling.target !== port.target || sibling.mode !== port.mode)) {
    throw new UserError(400, `port ${key} leads elsewhere than ${sibling.address}:${published}/${protocol}`, { field });
  }
}

/** Throws UserError 400 for an address that no node can have of its own. */
function requireOutside(state: State, address: string | null, index: number): void {
  if (address === null) return;
  const special = SPECIAL.find(({ block }) => contains(block, ipv4(address)))?.what;
  const network = networkOf(state, ipv4(address));
  const what = special ?? (network && `of network '${network.name}'`);
  if (what === undefined) return;
  throw new UserError(400, `address ${address} is ${what}: nodes answer on addresses of their own`, {
    field: `ports.${index}.address`,
  });
}

/** A port on all addresses and the same on one of them cannot both be had. */
function claimant(state: State, { port, protocol, address }: Omit<PortClaim, "serviceId">): PortClaim | undefined {
  const exact = state.ports.get(claimKey({ port, protocol, address }));
  if (exact !== undefined) return exact;
  if (address !== null) return state.ports.get(claimKey({ port, protocol, address: null }));
  return state.ports.by("number", `${port}/${protocol}`)[0];
}

/** Throws UserError 409 when none is left. */
function choosePort(state: State, { protocol }: AskedPort, reservedPorts: readonly ReservedPort[]): number {
  const isTaken = (port: number): boolean =>
    state.ports.count("number", `${port}/${protocol}`) > 0 ||
    reservedPorts.some((other) => other.port === port && other.protocol === protocol) ||
    state.nodes.count("port", `${port}/${protocol}`) > 0;
  for (let port = CHOSEN.first; port <= CHOSEN.last; port++) if (!isTaken(port)) return port;
  throw new UserError(409, `no ${protocol} port of ${CHOSEN.first} to ${CHOSEN.last} is free: name the one to publish`);
}
