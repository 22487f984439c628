// Which flows may be in the express lane: those of containers, whose every packet the agent would carry in the same way.
import type { Ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import type { FlowTable } from "./flow-table.ts";
import { DEVICE } from "./rows.ts";
import { isSealed } from "./sealed-way.ts";
import type { Tables } from "./tables.ts";

/**
 * TCP and UDP between two containers of one network, whatever address the client reached the server by, on this node or with a node
 * whose agent takes what a lane sends. Not what the node itself, its gateways and its DNS server have a part in; nor what leaves the
 * overlay, comes in by a published port, or goes to a VTEP that runs no agent; nor what is of a sealed network, on one node either.
 */
export function mayRide(flows: FlowTable, tables: Tables, entry: number): boolean {
  const original = entry & ~1;
  const reply = entry | 1;
  const protocol = flows.protocolOf(original);
  if (protocol !== Protocol.Tcp && protocol !== Protocol.Udp) return false;
  const client = tables.endpoints.get(flows.sourceOf(original));
  const server = tables.endpoints.get(flows.sourceOf(reply));
  if (client === undefined || server === undefined || client === server) return false;
  if (client.sealed === true || server.sealed === true || isSealed(flows.vniOf(original))) return false;
  const from = flows.fromOf(original);
  const to = flows.toOf(original);
  if (client.vtep !== from || server.vtep !== to || (from !== DEVICE && to !== DEVICE)) return false;
  if (!takesLane(tables, from) || !takesLane(tables, to)) return false;
  if (client.vni !== server.vni || flows.vniOf(original) !== client.vni || !tables.networks.has(client.vni))
    return false;
  return flows.destinationOf(reply) === client.ip; // else the server sees another client
}

function takesLane(tables: Tables, vtep: Ipv4): boolean {
  return vtep === DEVICE || tables.peers.get(vtep)?.lane === true;
}
