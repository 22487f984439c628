// The published ports that processes of nodes have, so that no container that connects to one is led to a task instead.
import type { HeldPort, Node, State } from "../cluster/schema.ts";
import type { HeldPortRow } from "../datapath/rows.ts";
import { ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";

export interface HeldFacts {
  nodeId: string;
  /** The addresses of this node's own links. */
  hostAddresses: readonly string[];
  /** Its own. */
  heldPorts: readonly HeldPort[];
}

const EVERY_ADDRESS = "0.0.0.0";

/**
 * Own ones that are held on every address are on address 0, others' on the address that this node knows of them. A node
 * may say that it has an address of another node, and several nodes may truly have one (a bridge's, or an anycast address
 * on `lo`): a port there is held for other nodes only when every node that says to have the address holds it.
 */
export function heldPortRows(state: State, { nodeId, heldPorts: own, hostAddresses }: HeldFacts): HeldPortRow[] {
  const others = [...state.nodes.values()].filter(({ id }) => id !== nodeId);
  // An address such as a bridge's, which many machines have: here it is this node's.
  const isElsewhere = ({ address }: HeldPort): boolean => !hostAddresses.includes(address);
  const nodesByAddress = nodesOf(others);
  const held = new Set(others.flatMap(({ id, heldPorts }) => heldPorts.map((port) => keyOf(id, port))));
  const isHeldByAll = (port: HeldPort): boolean =>
    (nodesByAddress.get(port.address) ?? []).every(
      ({ id }) => held.has(keyOf(id, port)) || held.has(keyOf(id, { ...port, address: EVERY_ADDRESS })),
    );
  return [
    ...own.map(rowOf),
    ...others.flatMap(({ heldPorts, address }) =>
      heldPorts
        .map((port) => (port.address === EVERY_ADDRESS ? { ...port, address } : port))
        .filter((port) => isElsewhere(port) && isHeldByAll(port))
        .map(rowOf),
    ),
  ];
}

function nodesOf(nodes: readonly Node[]): Map<string, Node[]> {
  const nodesByAddress = new Map<string, Node[]>();
  for (const node of nodes) {
    for (const address of new Set([node.address, ...node.addresses])) {
      const having = nodesByAddress.get(address);
      if (having === undefined) nodesByAddress.set(address, [node]);
      else having.push(node);
    }
  }
  return nodesByAddress;
}

function keyOf(nodeId: string, { port, protocol, address }: HeldPort): string {
  return `${nodeId} ${port}/${protocol} ${address}`;
}

function rowOf({ port, protocol, address }: HeldPort): HeldPortRow {
  return { protocol: protocol === "tcp" ? Protocol.Tcp : Protocol.Udp, port, address: ipv4(address) };
}
