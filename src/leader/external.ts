// Hosts behind VTEPs of somebody else: a kernel's vxlan device, a switch. They have an address of a network and a name.

import type { Command } from "../cluster/commands.ts";
import { findByName } from "../cluster/lookup.ts";
import type { State } from "../cluster/schema.ts";
import type { Draft } from "../cluster/state.ts";
import { UserError } from "../lib/errors.ts";
import { cidr, contains, ipv4 } from "../lib/ip.ts";
import { networkFor, removeEndpoint } from "./endpoints.ts";
import { takeAddress } from "./ipam.ts";

type Add = Extract<Command, { type: "external.add" }>;

export function addExternal(draft: Draft, command: Add, now: number, newId: () => string): string {
  const { name, mac, vtep, port } = command;
  const network = networkFor(draft.state, command.network, { name, aliases: [] });
  checkVtep(draft.state, vtep, port);
  const id = newId();
  const address = takeAddress(draft, network, command.address, { kind: "endpoint", id });
  const external = { mac: mac.toLowerCase(), vtep, port };
  const place = { nodeId: null, networkId: network.id, address, external };
  draft.put("endpoints", { id, name, ...place, attachment: null, createdAt: now });
  return id;
}

/** By name, id or address. Throws UserError 404, and 409 for an endpoint on a node. */
export function removeExternal(draft: Draft, word: string): string {
  const endpoints = [...draft.state.endpoints.values()];
  const found =
    endpoints.find(({ address }) => address === word) ?? findByName("endpoint", draft.state.endpoints, word);
  if (found.external !== null) return removeEndpoint(draft, found.id);
  const node = draft.state.nodes.get(found.nodeId ?? "")?.name;
  throw new UserError(409, `endpoint '${word}' is a container on node '${node}': it goes with its container`);
}

function checkVtep(state: State, vtep: string, port: number): void {
  const node = [...state.nodes.values()].find(({ address }) => address === vtep);
  if (node !== undefined) {
    throw new UserError(409, `${vtep} is node '${node.name}': attach its containers there`, { field: "vtep" });
  }
  const network = [...state.networks.values()].find(({ subnet }) => contains(cidr(subnet), ipv4(vtep)));
  if (network !== undefined) {
    throw new UserError(400, `${vtep} is an address of network '${network.name}', not of the underlay`, {
      field: "vtep",
    });
  }
  const other = [...state.endpoints.values()].find(({ external }) => external?.vtep === vtep && external.port !== port);
  if (other === undefined) return;
  throw new UserError(409, `the VTEP ${vtep} has port ${other.external!.port} already`, { field: "port" });
}
