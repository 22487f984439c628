// Which flows may be in the express lane: those of containers, and of clients outside with them, whose every packet the agent would carry in
// the same way.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { FlowTable } from "./flow-table.ts";
import { DEVICE, type EndpointRow } from "./rows.ts";
import { isSealed } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

/**
 * TCP and UDP between two containers of one network, whatever address the client reached the server by, on this node or with a node
 * whose agent takes what a lane sends; and between clients outside and containers, by a published port of this node, or of such a node
 * for a container of this one. Not what the node itself, its gateways and its DNS server have a part in; nor what leaves the overlay,
 * comes in by nftables, or goes to a VTEP that runs no agent; nor what is of a sealed network, on one node either.
 */
export function mayRide(flows: FlowTable, tables: Tables, entry: number): boolean {
  const original = entry & ~1;
  const reply = entry | 1;
  const protocol = flows.protocolOf(original);
  if (protocol !== Protocol.Tcp && protocol !== Protocol.Udp) return false;
  const server = tables.endpoints.get(flows.sourceOf(reply));
  const from = flows.fromOf(original);
  const to = flows.toOf(original);
  if (server?.sealed === true || isSealed(flows.vniOf(original))) return false;
  if (server === undefined || server.vtep !== to || (from !== DEVICE && to !== DEVICE)) return false;
  if (!takesLane(tables, from) || !takesLane(tables, to) || !tables.networks.has(server.vni)) return false;
  if (flows.zoneOf(original) === tables.node.ingressVni) return comesByIngress(flows, tables, original, server);
  const client = tables.endpoints.get(flows.sourceOf(original));
  if (client === undefined) return comesByEntrance(flows, tables, original);
  if (client === server || client.sealed === true || client.vtep !== from) return false;
  if (client.vni !== server.vni || flows.vniOf(original) !== client.vni) return false;
  return flows.destinationOf(reply) === client.ip; // else the server sees another client
}

/** Whether a peer's client may be where the flow has it, and still reach this port of a container of this node, as decision.ts has it. */
function comesByIngress(flows: FlowTable, tables: Tables, original: number, server: EndpointRow): boolean {
  const client = flows.sourceOf(original);
  const from = flows.fromOf(original);
  const endpoint = tables.endpoints.get(client);
  if (endpoint !== undefined) {
    if (endpoint.sealed === true || !tables.mayComeFrom(endpoint, from)) return false;
  } else if (tables.inPool(client) && tables.peersByIngress.get(client)?.vtep !== from) return false;
  return tables.publishes(server, flows.protocolOf(original), flows.portsOf(original | 1) >>> 16);
}

/** Whether a client outside has come by an address of this node, to a port that is still the service's there. */
function comesByEntrance(flows: FlowTable, tables: Tables, original: number): boolean {
  const { node, published, hostAddresses } = tables;
  if (flows.zoneOf(original) !== 0 || flows.fromOf(original) !== DEVICE || tables.inPool(flows.sourceOf(original)))
    return false;
  const own = flows.destinationOf(original);
  if (!node.mesh || !hostAddresses.has(own)) return false;
  const vip = published.find(flows.protocolOf(original), flows.portsOf(original) & 0xffff, own, true);
  return vip !== undefined && vip.vni === node.ingressVni && vip.ip === flows.vipOf(original);
}

function takesLane(tables: Tables, vtep: Ipv4): boolean {
  return vtep === DEVICE || tables.peers.get(vtep)?.lane === true;
}
