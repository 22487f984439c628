// The ports by which nodes make up the cluster, on every address that leads to them: no container reaches these. A container
// that reached a manager's sessions could change the cluster, and one that reached a VXLAN port would come from its
// node's own VTEP, and be believed.
import { nodePorts } from "../cluster/node-ports.ts";
import type { External, Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { DeniedRow, Port } from "../datapath/rows.ts";
import { EVERY_ADDRESS, ipv4 } from "../lib/ip.ts";
import { STORE_PEER_PORT } from "../lib/standard-ports.ts";
import { Protocol } from "../packet/ipv4.ts";

/** Where a manager answers nodes. */
export interface SessionAddress {
  address: string;
  port: number;
}

const NUMBERS = { tcp: Protocol.Tcp, udp: Protocol.Udp } as const;

type Denial = readonly [address: string, protocol: number, port: number];

/**
 * The ports that managers listen on, for nodes and for each other's stores. For a manager that has not said, as with earlier versions, the ports in this node's
 * configuration.
 */
export function managerPorts({ nodes }: State, configured: readonly SessionAddress[]): ReadonlySet<number> {
  const managers = nodes.by("listens", "any");
  const told = managers.flatMap(({ listen }) => (listen === null ? [] : [listen.port]));
  const areAllTold = managers.length > 0 && told.length === managers.length;
  return new Set([...told, ...(areAllTold ? [] : configured.map(({ port }) => port)), STORE_PEER_PORT]);
}

/** What this node's own knowledge adds: the cluster may not have heard yet of addresses of its links. */
export function deniedHere(
  { hostAddresses, managers }: { hostAddresses: readonly string[]; managers: readonly SessionAddress[] },
  ports: ReadonlySet<number>,
): DeniedRow[] {
  return rowsOf([...sessionsOn(hostAddresses, ports), ...managers.map(sessionAt)]);
}

/** A manager may answer on any address of any node. */
export function deniedByNode(node: Node, ports: ReadonlySet<number>): DeniedRow[] {
  const { address, addresses, listen, advertise } = node;
  const told = [listen, advertise].filter((session) => session !== null);
  const sessions = [...sessionsOn([address, ...addresses], ports), ...told.map(sessionAt)];
  const own = nodePorts(node).map(({ port, protocol }): Denial => [address, NUMBERS[protocol], port]);
  return rowsOf([...sessions, ...own]);
}

/** Each node has the gateway of each network as an address of its own. */
export function deniedByGateway(gateway: string, ports: ReadonlySet<number>): DeniedRow[] {
  return rowsOf(sessionsOn([gateway], ports));
}

export function deniedByExternal({ vtep, port }: External): DeniedRow[] {
  return rowsOf([[vtep, Protocol.Udp, port]]);
}

/** One row for one address, from rows for it. */
export function mergeDenied(rows: readonly [DeniedRow, ...DeniedRow[]]): DeniedRow {
  const ports = new Map<string, Port>();
  for (const row of rows) for (const port of row.ports) ports.set(`${port.protocol} ${port.port}`, port);
  return { ...rows[0], ports: [...ports.values()].sort((a, b) => a.protocol - b.protocol || a.port - b.port) };
}

function sessionsOn(addresses: readonly string[], ports: ReadonlySet<number>): Denial[] {
  return addresses.flatMap((address) => [...ports].map((port) => sessionAt({ address, port })));
}

function sessionAt({ address, port }: SessionAddress): Denial {
  return [address, Protocol.Tcp, port];
}

/** A row for each address. */
function rowsOf(denials: readonly Denial[]): DeniedRow[] {
  const rowsByAddress = new Map<string, DeniedRow>();
  for (const [address, protocol, port] of denials) {
    if (address === EVERY_ADDRESS) continue;
    const row: DeniedRow = { kind: "denied", ip: ipv4(address), ports: [{ protocol, port }] };
    const known = rowsByAddress.get(address);
    rowsByAddress.set(address, known === undefined ? row : mergeDenied([known, row]));
  }
  return [...rowsByAddress.values()];
}
