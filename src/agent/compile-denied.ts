// The ports by which nodes make up the cluster, on every address that leads to them: no container reaches these. A container
// that reached a manager's sessions could change the cluster, and one that reached a VXLAN port would come from its
// node's own VTEP, and be believed.
import type { State } from "../cluster/schema.ts";
import type { DeniedRow, Port } from "../datapath/rows.ts";
import { ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";

/** Where a manager answers nodes. */
export interface SessionAddress {
  address: string;
  port: number;
}

export interface DeniedFacts {
  /** Addresses of this node's own links, which the cluster may not have heard of yet. */
  hostAddresses: readonly string[];
  /** Where this node finds managers, as its configuration says. */
  managers: readonly SessionAddress[];
}

const EVERY_ADDRESS = "0.0.0.0";

/** A row for each address. */
export function deniedRows(state: State, { hostAddresses, managers }: DeniedFacts): DeniedRow[] {
  const nodes = [...state.nodes.values()];
  const portsByAddress = new Map<string, Map<string, Port>>();
  const deny = (address: string, protocol: number, port: number): void => {
    if (address === EVERY_ADDRESS) return;
    const ports = portsByAddress.get(address) ?? new Map<string, Port>();
    portsByAddress.set(address, ports.set(`${protocol} ${port}`, { protocol, port }));
  };
  // A manager may answer on any address of any node, and each node's gateways are addresses of its own.
  const addresses = [
    ...hostAddresses,
    ...nodes.flatMap(({ address, addresses: others }) => [address, ...others]),
    ...[...state.networks.values()].map(({ gateway }) => gateway),
  ];
  const ports = sessionPorts(state, managers);
  for (const address of new Set(addresses)) for (const port of ports) deny(address, Protocol.Tcp, port);
  const told = nodes.flatMap(({ listen, advertise }) => [listen, advertise].filter((session) => session !== null));
  for (const { address, port } of [...told, ...managers]) deny(address, Protocol.Tcp, port);
  for (const { address, vxlanPort } of nodes) deny(address, Protocol.Udp, vxlanPort);
  for (const { external } of state.endpoints.values())
    if (external !== null) deny(external.vtep, Protocol.Udp, external.port);
  return [...portsByAddress].map(([address, denied]) => ({
    kind: "denied",
    ip: ipv4(address),
    ports: [...denied.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port),
  }));
}

/** The ports that managers listen on. For a manager that has not said, as with earlier versions, the ports in this node's configuration. */
function sessionPorts(state: State, configured: readonly SessionAddress[]): Set<number> {
  const managers = [...state.nodes.values()].filter(({ manager }) => manager);
  const told = managers.flatMap(({ listen }) => (listen === null ? [] : [listen.port]));
  const areAllTold = managers.length > 0 && told.length === managers.length;
  return new Set(areAllTold ? told : [...told, ...configured.map(({ port }) => port)]);
}
