// The published ports that processes of nodes have, so that no container that connects to one is led to a task instead.
import type { HeldPort, Node } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import type { HeldPortRow } from "../datapath/rows.ts";
import { EVERY_ADDRESS, ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";

/** This node's own: those held on every address are on address 0. */
export function ownHeldPorts(heldPorts: readonly HeldPort[]): HeldPortRow[] {
  return heldPorts.map(rowOf);
}

/**
 * The ports that another node holds, on the addresses that this node knows of it. A node may say that it has an address of
 * another node, and several nodes may truly have one (a bridge's, or an anycast address on `lo`): a port there is held for
 * other nodes only when every node that says to have the address holds it.
 */
export function heldPortsOf(
  { heldPorts, address: vtep }: Node,
  { nodes }: State,
  { nodeId, hostAddresses }: { nodeId: string; hostAddresses: readonly string[] },
): HeldPortRow[] {
  const heldByNode = new Map<string, ReadonlySet<string>>(); // for this call: a node may hold thousands of ports
  const isHeldBy = (node: Node, port: HeldPort): boolean => {
    const held = heldByNode.get(node.id) ?? new Set(node.heldPorts.map(keyOf));
    heldByNode.set(node.id, held);
    return held.has(keyOf(port)) || held.has(keyOf({ ...port, address: EVERY_ADDRESS }));
  };
  const isHeldByAll = (port: HeldPort): boolean =>
    nodes.by("anyAddress", port.address).every((other) => other.id === nodeId || isHeldBy(other, port));
  return (
    heldPorts
      .map((port) => (port.address === EVERY_ADDRESS ? { ...port, address: vtep } : port))
      // An address such as a bridge's, which many machines have: here it is this node's.
      .filter((port) => !hostAddresses.includes(port.address) && isHeldByAll(port))
      .map(rowOf)
  );
}

function keyOf({ port, protocol, address }: HeldPort): string {
  return `${port}/${protocol} ${address}`;
}

function rowOf({ port, protocol, address }: HeldPort): HeldPortRow {
  return { protocol: protocol === "tcp" ? Protocol.Tcp : Protocol.Udp, port, address: ipv4(address) };
}
