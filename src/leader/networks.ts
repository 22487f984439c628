// Making and removing networks.

import type { Command } from "../cluster/commands.ts";
import { findByName, requireNewName, rowsNamed, settingsOf } from "../cluster/lookup.ts";
import { DEFAULT_NETWORK, INGRESS_NETWORK, type Network } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { type Cidr, cidr, formatCidr, formatIpv4 } from "../lib/ip.ts";
import type { LeaderContext } from "./context.ts";
import { cutSubnet, freeVni, gatewayOf, holdGateway, releaseAddress, requireSubnet } from "./ipam.ts";

/** The networks that exist from the start. VNI 1 is the agents' own, for their probes. */
const FIRST_NETWORKS = [
  { name: INGRESS_NETWORK, vni: 2 },
  { name: DEFAULT_NETWORK, vni: 3 },
];

type Create = Extract<Command, { type: "network.create" }>;

export function createFirstNetworks(draft: Draft, { pool, now, newId }: LeaderContext, encrypted: boolean): void {
  for (const { name, vni } of FIRST_NETWORKS) {
    if (rowsNamed(draft.state.networks, name).length > 0) continue;
    const row = { id: newId(), name, vni, internal: false, encrypted, createdAt: now };
    addNetwork(draft, row, cutSubnet(draft.state, pool));
  }
}

export function createNetwork(draft: Draft, command: Create, { pool, now, newId }: LeaderContext): string {
  const { name, internal } = command;
  requireNewName("network", draft.state.networks, name);
  if (/(^|\.)\d+$/.test(name)) {
    throw new UserError(400, `a network cannot be named '${name}': names that end in a number are those of tasks`, {
      field: "name",
    });
  }
  const subnet = command.subnet === undefined ? cutSubnet(draft.state, pool) : cidr(command.subnet);
  requireSubnet(draft.state, pool, subnet);
  const id = newId();
  const encrypted = isEncrypted(draft.state, command);
  addNetwork(draft, { id, name, vni: freeVni(draft), internal, encrypted, createdAt: now }, subnet);
  return id;
}

/** Throws UserError 409 when a clear network is asked for where all are encrypted. */
function isEncrypted(state: State, { name, encrypted }: Create): boolean {
  const all = settingsOf(state)?.encrypt === true;
  if (all && encrypted === false) {
    const why = "the cluster was made with 'overlayctl init --encrypt', so every network is encrypted";
    throw new UserError(409, `network '${name}' cannot be clear: ${why}`, { field: "encrypted" });
  }
  return encrypted ?? all;
}

export function removeNetwork(draft: Draft, name: string): string {
  const network = findByName("network", draft.state.networks, name);
  if (FIRST_NETWORKS.some((first) => first.name === network.name)) {
    throw new UserError(409, `network '${network.name}' belongs to the cluster and cannot be removed`);
  }
  const user = userOf(draft.state, network.id);
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

/** What keeps the network from being removed. */
function userOf({ nodes, services, tasks, endpoints }: State, networkId: string): string | undefined {
  const nameOf = (nodeId: string | null) => (nodeId === null ? undefined : nodes.get(nodeId)?.name);
  const [service] = services.by("network", networkId);
  if (service !== undefined) return `service '${service.name}'`;
  const [endpoint] = endpoints.by("network", networkId);
  if (endpoint !== undefined) return `endpoint '${endpoint.name ?? endpoint.id}' on node '${nameOf(endpoint.nodeId)}'`;
  const [task] = tasks.by("network", networkId);
  return task && `a task of a removed service that still stops on node '${nameOf(task.nodeId)}'`;
}
