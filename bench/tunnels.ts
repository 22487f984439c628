// The common part of nebula and wireguard-go: a tunnel device on each of two nodes, and behind it a container with a subnet
// of its own, routed through the tunnel.
import { LabHost, type LabNode } from "../test/system/lab.ts";
import { addLinkedNamespace, batch } from "./kernel-vxlan.ts";

/** One side of a tunnel. */
export interface TunnelEnd {
  node: LabNode;
  device: string;
  /** The node's own address in the tunnel. */
  address: string;
  /** The container's subnet, its gateway on the node, and the container. */
  subnet: string;
  gateway: string;
  container: string;
}

/** The ends of the tunnel number `index` of this bench. */
export function tunnelEnds(nodes: readonly LabNode[], name: string, index: number): [TunnelEnd, TunnelEnd] {
  const end = (side: number): TunnelEnd => ({
    node: nodes[side]!,
    device: `${name}${side + 1}`,
    address: `172.29.${index}.${side + 1}`,
    subnet: `172.28.${2 * index + side}.0/24`,
    gateway: `172.28.${2 * index + side}.1`,
    container: `172.28.${2 * index + side}.2`,
  });
  return [end(0), end(1)];
}

/** Adds the container behind one end, with the route to the other end's container. The tunnel device must exist. */
export async function addTunnelContainer(
  end: TunnelEnd,
  other: TunnelEnd,
  netns: string,
  mtu: number,
): Promise<LabHost> {
  const { node, device, gateway, container } = end;
  const link = `v${device}`;
  await addLinkedNamespace(node, netns, link, mtu);
  await batch(node, [`address add ${gateway}/24 dev ${link}`, `route replace ${other.subnet} dev ${device}`]);
  await node.exec(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"]);
  const host = new LabHost(netns, container);
  await batch(host, [`address add ${container}/24 dev eth0`, `route add default via ${gateway}`]);
  return host;
}
