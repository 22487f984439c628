// Making and removing networks.

import type { Command } from "../cluster/commands.ts";
import { findByName, requireNewName } from "../cluster/lookup.ts";
import { DEFAULT_NETWORK, INGRESS_NETWORK, type Network, type State } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import { UserError } from "../lib/errors.ts";
import { type Cidr, cidr, formatCidr, formatIpv4 } from "../lib/ip.ts";
import { checkSubnet, cutSubnet, freeVni, gatewayOf, holdGateway, releaseAddress } from "./ipam.ts";

/** The networks that exist from the start. VNI 1 is the agents' own, for their probes. */
const FIRST_NETWORKS = [
  { name: INGRESS_NETWORK, vni: 2 },
  { name: DEFAULT_NETWORK, vni: 3 },
];

type Create = Extract<Command, { type: "network.create" }>;

export function createFirstNetworks(draft: Draft, pool: Cidr, now: number, newId: () => string): void {
  for (const { name, vni } of FIRST_NETWORKS) {
    const exists = [...draft.state.networks.values()].some((network) => network.name === name);
    if (!exists)
      addNetwork(draft, { id: newId(), name, vni, internal: false, createdAt: now }, cutSubnet(draft.state, pool));
  }
}

export function createNetwork(draft: Draft, command: Create, pool: Cidr, now: number, newId: () => string): string {
  const { name, internal } = command;
  requireNewName("network", draft.state.networks, name);
  if (/(^|\.)\d+$/.test(name)) {
    throw new UserError(400, `a network cannot be named '${name}': names that end in a number are those of tasks`, {
      field: "name",
    });
  }
  const subnet = command.subnet === undefined ? cutSubnet(draft.state, pool) : cidr(command.subnet);
  checkSubnet(draft.state, pool, subnet);
  const id = newId();
  addNetwork(draft, { id, name, vni: freeVni(draft), internal, createdAt: now }, subnet);
  return id;
}

export function removeNetwork(draft: Draft, name: string): string {
  const network = findByName("network", draft.state.networks, name);
  if (FIRST_NETWORKS.some((first) => first.name === network.name)) {
    throw new UserError(409, `network '${network.name}' belongs to the cluster and cannot be removed`);
  }
  const [user] = usersOf(draft.state, network.id);
  if (user !== undefined) throw new UserError(409, `network '${network.name}' is used by ${user}`);
  releaseAddress(draft, network.gateway);
  draft.remove("networks", network.id);
  return network.id;
}

function addNetwork(draft: Draft, row: Omit<Network, "subnet" | "gateway">, subnet: Cidr): void {
  const network = { ...row, subnet: formatCidr(subnet), gateway: formatIpv4(gatewayOf(subnet)) };
  draft.put("networks", network);
  holdGateway(draft, network);
}

function usersOf({ nodes, services, tasks, endpoints }: State, networkId: string): string[] {
  const nameOf = (nodeId: string | null) => (nodeId === null ? undefined : nodes.get(nodeId)?.name);
  return [
    ...[...services.values()]
      .filter(({ networks }) => networks.includes(networkId))
      .map(({ name }) => `service '${name}'`),
    ...[...endpoints.values()]
      .filter((endpoint) => endpoint.networkId === networkId)
      .map(({ id, name, nodeId }) => `endpoint '${name ?? id}' on node '${nameOf(nodeId)}'`),
    ...[...tasks.values()]
      .filter(({ addresses }) => addresses[networkId] !== undefined)
      .map(({ nodeId }) => `a task of a removed service that still stops on node '${nameOf(nodeId)}'`),
  ];
}
