// Addresses for containers that are no tasks.
import { UserError } from "../lib/errors.ts";
import type { Command } from "./commands.ts";
import { allocateAddress, releaseAddress, takeAddress } from "./ipam.ts";
import { findByName, sameName } from "./lookup.ts";
import { type Attachment, INGRESS_NETWORK, type Network, type State } from "./schema.ts";
import type { Draft } from "./state.ts";

type Create = Omit<Extract<Command, { type: "endpoint.create" }>, "type">;

export function createEndpoint(
  draft: Draft,
  command: Create,
  attachment: Attachment | null,
  now: number,
  newId: () => string,
): string {
  const { name } = command;
  const node = draft.state.nodes.get(command.node);
  if (node === undefined) throw new UserError(404, `there is no node of id '${command.node}'`);
  const network = networkFor(draft.state, command.network, name);
  const id = newId();
  const holder = { kind: "endpoint", id } as const;
  const address =
    command.address === undefined
      ? allocateAddress(draft, network, holder)
      : takeAddress(draft, network, command.address, holder);
  const place = { nodeId: node.id, networkId: network.id, address, external: null };
  draft.put("endpoints", { id, name, ...place, attachment, createdAt: now });
  return id;
}

/** The network, on which an endpoint may have that name. Throws UserError. */
export function networkFor({ endpoints, networks, services }: State, word: string, name: string | null): Network {
  const network = findByName("network", networks, word);
  if (network.name === INGRESS_NETWORK) {
    throw new UserError(400, `network '${INGRESS_NETWORK}' is the nodes' own`, { field: "network" });
  }
  const others = [...endpoints.values()].filter(({ networkId }) => networkId === network.id);
  if (others.some((other) => sameName(other.name, name))) {
    throw new UserError(409, `network '${network.name}' has an endpoint '${name}' already`);
  }
  if ([...services.values()].some((service) => sameName(service.name, name) && service.networks.includes(network.id))) {
    throw new UserError(409, `network '${network.name}' has a service '${name}' already`);
  }
  return network;
}

/** `id` may be its name too. */
export function removeEndpoint(draft: Draft, id: string): string {
  const endpoint = findByName("endpoint", draft.state.endpoints, id);
  releaseAddress(draft, endpoint.address);
  draft.remove("statuses", endpoint.id);
  draft.remove("endpoints", endpoint.id);
  return endpoint.id;
}
