// The ports that a node takes of its own addresses for what nodes send each other. No service publishes one of them.
import type { Node, Protocol } from "./schema.ts";

interface NodePort {
  port: number;
  protocol: Protocol;
  /** Completes "the ... of node 'node1'". */
  what: string;
}

type PortsOfNode = Pick<Node, "vxlanPort" | "sealed">;

/** Where the node receives the overlay's packets, and where its peers agree on keys with it. */
export function nodePorts({ vxlanPort, sealed }: PortsOfNode): NodePort[] {
  const clear = { port: vxlanPort, protocol: "udp", what: "VXLAN port" } as const;
  if (sealed === null) return [clear];
  return [
    clear,
    { port: sealed.port, protocol: "udp", what: "port for sealed packets" },
    { port: sealed.keyPort, protocol: "tcp", what: "port for keys" },
  ];
}

/** The UDP ports by which the overlay's packets come, clear or sealed. */
export function tunnelPorts(node: PortsOfNode): number[] {
  return nodePorts(node).flatMap(({ port, protocol }) => (protocol === "udp" ? [port] : []));
}
