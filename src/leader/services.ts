// Making, scaling and removing services: names, VIPs and published ports. Their tasks are the scheduler's.

import type { Command } from "../cluster/commands.ts";
import { findByName, requireNewName } from "../cluster/lookup.ts";
import { DEFAULT_NETWORK, INGRESS_NETWORK, type Network, type Service } from "../cluster/schema.ts";
import { ServiceSettings } from "../cluster/service-settings.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { counted } from "../lib/counted.ts";
import { UserError } from "../lib/errors.ts";
import type { LeaderContext } from "./context.ts";
import { requireFreeNames } from "./free-names.ts";
import { releaseAddress } from "./ipam.ts";
import { publish, unpublish } from "./publishing.ts";

type Asked = Extract<Command, { type: "service.create" }>;
type Create = Omit<Asked, "type" | "workload"> & Partial<Pick<Asked, "type">> & Pick<Service, "workload">;

/** The service's id. Throws UserError. */
export function createService(draft: Draft, command: Create, context: LeaderContext): string {
  const { type: _type, proxyProtocol: _none, networks: asked, ports, ...settings } = command;
  const { name, endpointMode } = settings;
  requireNewName("service", draft.state.services, name);
  const aliasesByNetwork = networksOf(draft.state, asked);
  const networks = [...aliasesByNetwork.keys()];
  for (const [network, aliases] of aliasesByNetwork) requireFreeNames(draft.state, network, { name, aliases });
  const id = context.newId();
  const holder = { kind: "service", id } as const;
  const vipNetworks = endpointMode === "vip" ? networks : [];
  const service: Service = {
    ...settings,
    id,
    networks: networks.map((network) => network.id),
    aliases: Object.fromEntries([...aliasesByNetwork].map(([network, aliases]) => [network.id, aliases])),
    vips: Object.fromEntries(
      vipNetworks.map((network) => [network.id, context.addresses.allocate(draft, network, holder)]),
    ),
    ports: [],
    meshVip: null,
    hostVip: null,
    createdAt: context.now,
    updatedAt: context.now,
  };
  draft.put("services", service);
  publish(draft, service, ports, context);
  return id;
}

/** The id of a service that comes with its first attached container. Its tasks are what is attached, so it asks for none. */
export function createAttachedService(
  draft: Draft,
  { name, network, ports }: { name: string; network: string; ports: Create["ports"] },
  context: LeaderContext,
): string {
  const settings = { ...ServiceSettings.parse({}), replicas: 0, stopGraceMs: 0 };
  const networks = [{ name: network, aliases: [] }];
  return createService(draft, { ...settings, name, workload: null, networks, ports }, context);
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
  const attached = draft.state.tasks.by("service", service.id).filter(({ attachment }) => attachment !== null);
  if (attached.length > 0) {
    const nodes = new Set(attached.map(({ nodeId }) => draft.state.nodes.get(nodeId ?? "")?.name));
    throw new UserError(
      409,
      `service '${service.name}' has ${counted(attached.length, "attached container")}, on ${[...nodes].join(", ")}: detach or remove what is attached first`,
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
