// Making, scaling and removing services: names, VIPs and published ports. Their tasks are the scheduler's.

import type { Command } from "../cluster/commands.ts";
import { findByName, requireNewName } from "../cluster/lookup.ts";
import { DEFAULT_NETWORK, INGRESS_NETWORK, type Network, type Service, type State } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import { UserError } from "../lib/errors.ts";
import { requireFreeNames } from "./free-names.ts";
import { allocateAddress, releaseAddress } from "./ipam.ts";
import { publish, type ReservedPort, unpublish } from "./publishing.ts";

type Create = Omit<Extract<Command, { type: "service.create" }>, "type" | "workload"> & Pick<Service, "workload">;

export function createService(
  draft: Draft,
  command: Create,
  reservedPorts: readonly ReservedPort[],
  now: number,
  newId: () => string,
): string {
  const { name, workload, labels, ports, replicas, endpointMode, constraints, dnsTtlSeconds } = command;
  const { balancing, ingressSourceNat, stopGraceMs } = command;
  requireNewName("service", draft.state.services, name);
  const aliasesByNetwork = networksOf(draft.state, command.networks);
  const networks = [...aliasesByNetwork.keys()];
  for (const [network, aliases] of aliasesByNetwork) {
    requireFreeNames(draft.state, network, { name, aliases });
  }
  const id = newId();
  const holder = { kind: "service", id } as const;
  const vipNetworks = endpointMode === "vip" ? networks : [];
  const vips = Object.fromEntries(vipNetworks.map((network) => [network.id, allocateAddress(draft, network, holder)]));
  const service: Service = {
    id,
    name,
    workload,
    labels,
    replicas,
    networks: networks.map((network) => network.id),
    aliases: Object.fromEntries([...aliasesByNetwork].map(([network, aliases]) => [network.id, aliases])),
    dnsTtlSeconds,
    endpointMode,
    vips,
    ports: [],
    meshVip: null,
    hostVip: null,
    ingressSourceNat,
    stopGraceMs,
    balancing,
    constraints,
    createdAt: now,
    updatedAt: now,
  };
  draft.put("services", service);
  publish(draft, service, ports, reservedPorts, now);
  return id;
}

export function scaleService(draft: Draft, name: string, replicas: number, now: number): string {
  const service = findByName("service", draft.state.services, name);
  if (service.workload === null) {
    throw new UserError(
      409,
      `service '${service.name}' has only containers that were attached to it: start more of them`,
    );
  }
  if (service.replicas !== replicas) draft.put("services", { ...service, replicas, updatedAt: now });
  return service.id;
}

/** Throws UserError 404, and 409 while containers are attached to it. */
export function removeService(draft: Draft, name: string): string {
  const service = findByName("service", draft.state.services, name);
  const attached = [...draft.state.tasks.values()].filter(
    ({ serviceId, attachment }) => serviceId === service.id && attachment !== null,
  );
  if (attached.length > 0) {
    const nodes = new Set(attached.map(({ nodeId }) => draft.state.nodes.get(nodeId ?? "")?.name));
    throw new UserError(
      409,
      `service '${service.name}' has ${attached.length} attached containers, on ${[...nodes].join(", ")}: remove or detach them first`,
    );
  }
  for (const vip of Object.values(service.vips)) releaseAddress(draft, vip);
  unpublish(draft, service);
  draft.remove("services", service.id);
  return service.id;
}

/** With the service's aliases there, in the order asked for. */
function networksOf(state: State, asked: Create["networks"]): Map<Network, string[]> {
  const wanted = asked.length === 0 ? [{ name: DEFAULT_NETWORK, aliases: [] }] : asked;
  const networks = new Map<Network, string[]>();
  for (const { name, aliases } of wanted) {
    const network = findByName("network", state.networks, name);
    if (network.name === INGRESS_NETWORK) {
      throw new UserError(400, `network '${INGRESS_NETWORK}' is the nodes' own; services cannot join it`, {
        field: "networks",
      });
    }
    networks.set(network, [...new Set([...(networks.get(network) ?? []), ...aliases])]);
  }
  return networks;
}
