// Hosts behind VTEPs that are no nodes: a kernel's vxlan device, a switch. They have an address of a network and a name.

import type { Command } from "../cluster/commands.ts";
import { findByName, networkOf } from "../cluster/lookup.ts";
import type { Draft } from "../cluster/state.ts";
import type { State } from "../cluster/tables.ts";
import { UserError } from "../lib/errors.ts";
import { ipv4 } from "../lib/ip.ts";
import type { LeaderContext } from "./context.ts";
import { networkFor, removeEndpoint } from "./endpoints.ts";
import { takeAddress } from "./ipam.ts";

type Add = Extract<Command, { type: "external.add" }>;

export function addExternal(draft: Draft, command: Add, { now, newId }: LeaderContext): string {
  const { name, mac, vtep, port } = command;
  const network = networkFor(draft.state, command.network, { name, aliases: [] });
  if (network.encrypted) {
    const why = "a VTEP that is no node has no keys, so nothing could be sent to it";
    throw new UserError(409, `network '${network.name}' is encrypted: ${why}`, { field: "network" });
  }
  requireVtep(draft.state, vtep, port);
  const id = newId();
  const address = takeAddress(draft, network, command.address, { kind: "endpoint", id });
  const external = { mac: mac.toLowerCase(), vtep, port };
  const where = { nodeId: null, networkId: network.id, address, external };
  draft.put("endpoints", { id, name, ...where, attachment: null, createdAt: now });
  return id;
}

/** By name, id or address. Throws UserError 404, and 409 for an endpoint on a node. */
export function removeExternal(draft: Draft, word: string): string {
  const { endpoints } = draft.state;
  const found = endpoints.by("address", word)[0] ?? findByName("endpoint", endpoints, word);
  if (found.external !== null) return removeEndpoint(draft, found.id);
  const node = draft.state.nodes.get(found.nodeId ?? "")?.name;
  throw new UserError(409, `endpoint '${word}' is a container on node '${node}': it goes with its container`);
}

function requireVtep(state: State, vtep: string, port: number): void {
  const [node] = state.nodes.by("address", vtep);
  if (node !== undefined) {
    throw new UserError(409, `${vtep} is node '${node.name}': attach its containers there`, { field: "vtep" });
  }
  const network = networkOf(state, ipv4(vtep));
  if (network !== undefined) {
    throw new UserError(400, `${vtep} is an address of network '${network.name}', not of the underlay`, {
      field: "vtep",
    });
  }
  const other = state.endpoints.by("vtep", vtep).find(({ external }) => external!.port !== port);
  if (other === undefined) return;
  throw new UserError(409, `the VTEP ${vtep} has port ${other.external!.port} already`, { field: "port" });
}
