// Addresses for containers that are no tasks.

import type { Command } from "../cluster/commands.ts";
import { findByName } from "../cluster/lookup.ts";
import { type Attachment, INGRESS_NETWORK, type Network, type Node } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import type { LeaderContext } from "./context.ts";
import { requireFreeNames, type WantedNames } from "./free-names.ts";
import { releaseAddress, takeAddress } from "./ipam.ts";

type Asked = Omit<Extract<Command, { type: "endpoint.create" }>, "type">;
type Create = Omit<Asked, "dnsServers"> & Partial<Pick<Asked, "dnsServers">>;

export function createEndpoint(
  draft: Draft,
  command: Create,
  attachment: Attachment | null,
  { now, newId, addresses, features }: LeaderContext,
): string {
  const { name, dnsServers = [] } = command;
  const aliases = attachment?.aliases ?? [];
  const node = draft.state.nodes.get(command.node);
  if (node === undefined) throw new UserError(404, `there is no node of id '${command.node}'`);
  const network = networkFor(draft.state, command.network, { name, aliases });
  requireFeature(node, network.name, features.missing(node.version.features, "networks", network, draft.state));
  const id = newId();
  const holder = { kind: "endpoint", id } as const;
  const address =
    command.address === undefined
      ? addresses.allocate(draft, network, holder)
      : takeAddress(draft, network, command.address, holder);
  const dns = dnsServers.length === 0 ? {} : { dnsServers };
  const where = { nodeId: node.id, networkId: network.id, address, external: null };
  draft.put("endpoints", { id, name, ...where, attachment, ...dns, createdAt: now });
  return id;
}

/** Throws UserError 409 for a feature that the node lacks. */
export function requireFeature(node: Node, what: string, missing: string | undefined): void {
  if (missing === undefined) return;
  throw new UserError(
    409,
    `'${what}' needs the feature '${missing}', which the agent of node '${node.name}' does not have: update overlayd there`,
  );
}

/** The network, on which an endpoint may have those names. Throws UserError. */
export function networkFor(state: State, word: string, wanted: WantedNames): Network {
  const network = findByName("network", state.networks, word);
  if (network.name === INGRESS_NETWORK) {
    throw new UserError(400, `network '${INGRESS_NETWORK}' is the nodes' own`, { field: "network" });
  }
  requireFreeNames(state, network, wanted);
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
