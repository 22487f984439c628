// Containers and network namespaces that overlayd did not make: their node asks for an address, and with a service's
// name they are tasks of it. A service that was not created comes with its first such task and goes with its last.

import type { AskedPort, Command } from "../cluster/commands.ts";
import { findByName, rowsNamed } from "../cluster/lookup.ts";
import { type Attachment, DEFAULT_NETWORK, type Network, type Service, type Task } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import { UserError } from "../lib/errors.ts";
import type { LeaderContext } from "./context.ts";
import { createEndpoint, removeEndpoint, requireFeature } from "./endpoints.ts";
import { requireFreeNames } from "./free-names.ts";
import { takeAddress } from "./ipam.ts";
import { publish, publishes } from "./publishing.ts";
import { createAttachedService } from "./services.ts";
import { removeTask } from "./tasks.ts";

type Attach = Extract<Command, { type: "attach" }>;

/** The id of the endpoint or task. Throws UserError. */
export function attach(draft: Draft, command: Attach, context: LeaderContext): string {
  const { node, subject, subjectName, image, hostNames, aliases, service, network, name, address, ports } = command;
  const isAlias = new Set(aliases);
  const others = [...new Set(hostNames)].filter((name) => !isAlias.has(name));
  const attachment: Attachment = { subject, name: subjectName, image, aliases: [...isAlias], hostNames: others };
  requireUnattached(draft, command);
  if (service !== null) return attachTask(draft, { ...command, service }, attachment, context);
  if (ports.length > 0) {
    throw new UserError(400, "a published port needs a service", { field: "ports" });
  }
  const endpoint = { node, network: network ?? DEFAULT_NETWORK, name, ...(address === undefined ? {} : { address }) };
  return createEndpoint(draft, endpoint, attachment, context);
}

/** Throws UserError 404. */
export function detach(draft: Draft, id: string): string {
  const task = draft.state.tasks.get(id);
  if (task?.attachment == null) return removeEndpoint(draft, id);
  removeTask(draft, task);
  return id;
}

function attachTask(
  draft: Draft,
  command: Attach & { service: string },
  attachment: Attachment,
  context: LeaderContext,
): string {
  const { name, aliases } = command;
  const node = draft.state.nodes.get(command.node);
  if (node === undefined) throw new UserError(404, `there is no node of id '${command.node}'`);
  if (name !== null) {
    throw new UserError(400, `a task of a service has no name of its own: give '${name}' as an alias`, {
      field: "name",
    });
  }
  const service = serviceFor(draft, command, context);
  const { features } = context;
  requireFeature(node, service.name, features.missing(node.version.features, "services", service, draft.state));
  const id = context.newId();
  const addresses = addressesFor(draft, service, command, id, context);
  for (const networkId of service.networks) {
    requireFreeNames(draft.state, draft.state.networks.get(networkId)!, { name: null, aliases }, service);
  }
  const task: Task = {
    id,
    serviceId: service.id,
    slot: freeSlot(draft, service),
    nodeId: command.node,
    desired: "running",
    drain: null,
    addresses,
    attachment,
    error: null,
    createdAt: context.now,
  };
  draft.put("tasks", task);
  return id;
}

/** The service that the container becomes a task of, made if it is missing, with the ports that the container asks for. */
function serviceFor(draft: Draft, command: Attach & { service: string }, context: LeaderContext): Service {
  const { service: name, network, ports } = command;
  const made = { name, network: network ?? DEFAULT_NETWORK, ports };
  const id = rowsNamed(draft.state.services, name)[0]?.id ?? createAttachedService(draft, made, context);
  const service = draft.state.services.get(id)!;
  if (network !== null) requireNetwork(draft, service, findByName("network", draft.state.networks, network));
  const missing = ports.filter((port) => !publishes(service, port));
  if (missing.length > 0) addPorts(draft, service, missing, context);
  return service;
}

/** The lowest slot that no task of the service has. Costs the service's tasks. */
function freeSlot(draft: Draft, service: Service): number {
  const slots = new Set(draft.state.tasks.by("service", service.id).map((task) => task.slot));
  let slot = 1;
  while (slots.has(slot)) slot++;
  return slot;
}

/** Containers of one service may each say a part of what it publishes; of a service that was created, none may. */
function addPorts(draft: Draft, service: Service, ports: readonly AskedPort[], context: LeaderContext): void {
  if (service.workload !== null) {
    const [{ published, target, protocol }] = ports as [AskedPort];
    throw new UserError(
      409,
      `service '${service.name}' was created without publishing ${published ?? target}/${protocol}`,
      {
        field: "ports",
      },
    );
  }
  publish(draft, service, ports, context);
}

function addressesFor(
  draft: Draft,
  service: Service,
  { address, network }: Attach,
  id: string,
  { addresses }: LeaderContext,
): Task["addresses"] {
  const holder = { kind: "task", id } as const;
  const asked = network === null ? undefined : findByName("network", draft.state.networks, network).id;
  const entries = service.networks.map((networkId, index) => {
    const row = draft.state.networks.get(networkId)!;
    const isAsked = address !== undefined && (asked === undefined ? index === 0 : networkId === asked);
    return [networkId, isAsked ? takeAddress(draft, row, address, holder) : addresses.allocate(draft, row, holder)];
  });
  return Object.fromEntries(entries) as Task["addresses"];
}

function requireUnattached(draft: Draft, { node, subject, network, service }: Attach): void {
  const { tasks, endpoints, networks, nodes } = draft.state;
  // A container is one task of a service, or has one endpoint on each of several networks.
  const wanted = service === null ? findByName("network", networks, network ?? DEFAULT_NETWORK).id : undefined;
  const rows = [
    ...tasks.by("subject", subject).map(({ nodeId, addresses }) => ({ nodeId, networks: Object.keys(addresses) })),
    ...endpoints.by("subject", subject).map(({ nodeId, networkId }) => ({ nodeId, networks: [networkId] })),
  ];
  // A namespace's name is its node's own; a container's id is of one container in the whole cluster.
  const row = rows
    .filter(({ nodeId }) => nodeId === node || !subject.startsWith("netns:"))
    .find((other) => other.nodeId !== node || service !== null || other.networks.includes(wanted!));
  if (row === undefined) return;
  const what = row.networks.map((id) => `'${networks.get(id)?.name}'`).join(" and ");
  throw new UserError(409, `it is attached to ${what} already, by node '${nodes.get(row.nodeId ?? "")?.name}'`);
}

function requireNetwork(draft: Draft, service: Service, network: Network): void {
  if (service.networks.includes(network.id)) return;
  const names = service.networks.map((id) => `'${draft.state.networks.get(id)?.name}'`).join(" and ");
  throw new UserError(409, `service '${service.name}' is on network ${names}, not on '${network.name}'`, {
    field: "network",
  });
}
