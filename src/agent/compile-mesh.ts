// The cluster's state as one node's entrance for clients from outside needs it.
import { tunnelPorts } from "../cluster/node-ports.ts";
import type { PublishedPort } from "../cluster/schema.ts";
import { serves } from "../cluster/serving.ts";
import type { State } from "../cluster/tables.ts";
import { cidr } from "../lib/ip.ts";
import { VETH_PREFIX } from "../links/desired.ts";
import type { DesiredMesh, MeshPort } from "../mesh/mesh.ts";

interface MeshViewpoint {
  nodeId: string;
  device: string;
  pool: string;
  /** Whether this node answers published ports. */
  meshOn: boolean;
  /** See DesiredMesh. */
  storePeers: readonly string[] | null;
  /** Addresses on `lo`, besides 127.0.0.0/8. */
  loopbackAddresses: readonly string[];
}

/** It looks at every node and network, and at the services that publish ports: only when a change concerns the mesh. */
export function compileMesh(state: State, viewpoint: MeshViewpoint): DesiredMesh {
  const { nodeId, device, pool, meshOn, storePeers, loopbackAddresses } = viewpoint;
  const networks = [...state.networks.values()];
  return {
    pool: cidr(pool),
    device,
    vethPrefix: VETH_PREFIX,
    tunnelPorts: [...new Set([...state.nodes.values()].flatMap(tunnelPorts))].sort((a, b) => a - b),
    ingressAddress: state.nodes.get(nodeId)?.ingressAddress ?? null,
    internal: networks.filter(({ internal }) => internal).map(({ subnet }) => cidr(subnet)),
    ports: meshOn ? portsOf(state, nodeId, loopbackAddresses) : [],
    storePeers,
  };
}

/** In an order of their own: how the state came to where it is makes no difference. */
function portsOf(state: State, nodeId: string, loopbackAddresses: readonly string[]): MeshPort[] {
  const own = state.tasks.by("node", nodeId).filter((task) => serves(state, task));
  const hosted = new Set(own.map(({ serviceId }) => serviceId));
  const ports = state.services.by("published", "any").flatMap(({ id, meshVip, hostVip, ports }) => {
    const vipOf = (mode: PublishedPort["mode"]): string | null => {
      if (mode === "ingress") return meshVip;
      return hosted.has(id) ? hostVip : null;
    };
    return ports.flatMap(({ protocol, published, mode, address }) => {
      const vip = vipOf(mode);
      const onEveryLink = address === null || loopbackAddresses.includes(address);
      return vip === null ? [] : [{ protocol, port: published, vip, address, onEveryLink }];
    });
  });
  return ports.sort((a, b) => a.port - b.port || (wordOf(a) < wordOf(b) ? -1 : 1));
}

function wordOf({ protocol, address, vip }: MeshPort): string {
  return `${protocol} ${address} ${vip}`;
}
