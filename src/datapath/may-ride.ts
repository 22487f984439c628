// Which flows may be in the express lane: those of containers, whose every packet the agent would carry in the same way.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { FlowTable } from "./flow-table.ts";
import { DEVICE, type EndpointRow } from "./rows.ts";
import type { Tables } from "./tables.ts";

/**
 * TCP and UDP between two containers of one network, whatever address the client reached the server by, on this node or with a node
 * whose agent takes what a lane sends; and what such a node sends to a container of this node for clients of a published port. Not what
 * the node itself, its gateways and its DNS server have a part in; nor what leaves the overlay, comes in by a published port of this
 * node, or goes to a VTEP that runs no agent.
 */
export function mayRide(flows: FlowTable, tables: Tables, entry: number): boolean {
  const original = entry & ~1;
  const reply = entry | 1;
  const protocol = flows.protocolOf(original);
  if (protocol !== Protocol.Tcp && protocol !== Protocol.Udp) return false;
  const server = tables.endpoints.get(flows.sourceOf(reply));
  const from = flows.fromOf(original);
  const to = flows.toOf(original);
  if (server === undefined || server.vtep !== to || (from !== DEVICE && to !== DEVICE)) return false;
  if (!takesLane(tables, from) || !takesLane(tables, to) || !tables.networks.has(server.vni)) return false;
  if (flows.zoneOf(original) === tables.node.ingressVni) return comesByIngress(flows, tables, original, server);
  const client = tables.endpoints.get(flows.sourceOf(original));
  if (client === undefined || client === server || client.vtep !== from) return false;
  if (client.vni !== server.vni || flows.vniOf(original) !== client.vni) return false;
  return flows.destinationOf(reply) === client.ip; // else the server sees another client
}

/** Whether a peer's client may be where the flow has it, and still reach this port of a container of this node, as decision.ts has it. */
function comesByIngress(flows: FlowTable, tables: Tables, original: number, server: EndpointRow): boolean {
  const client = flows.sourceOf(original);
  const from = flows.fromOf(original);
  const endpoint = tables.endpoints.get(client);
  if (endpoint !== undefined) {
    if (!tables.mayComeFrom(endpoint, from)) return false;
  } else if (tables.inPool(client) && tables.peersByIngress.get(client)?.vtep !== from) return false;
  return tables.publishes(server, flows.protocolOf(original), flows.portsOf(original | 1) >>> 16);
}

function takesLane(tables: Tables, vtep: Ipv4): boolean {
  return vtep === DEVICE || tables.peers.get(vtep)?.lane === true;
}
