// A snapshot of the cluster, as one node's entrance for clients from outside needs it.
import type { PublishedPort } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { cidr } from "../lib/ip.ts";
import { VETH_PREFIX } from "../links/desired.ts";
import type { DesiredMesh, MeshPort } from "../mesh/mesh.ts";

export interface MeshFacts {
  nodeId: string;
  device: string;
  pool: string;
  /** Whether this node answers published ports. */
  meshOn: boolean;
  /** Addresses on `lo`, besides 127.0.0.0/8. */
  loopbackAddresses: readonly string[];
}

export function compileMesh(state: State, facts: MeshFacts): DesiredMesh {
  const { nodeId, device, pool, meshOn, loopbackAddresses } = facts;
  const networks = [...state.networks.values()];
  return {
    pool: cidr(pool),
    device,
    vethPrefix: VETH_PREFIX,
    vxlanPorts: [...new Set([...state.nodes.values()].map(({ vxlanPort }) => vxlanPort))].sort((a, b) => a - b),
    ingressAddress: state.nodes.get(nodeId)?.ingressAddress ?? null,
    internal: networks.filter(({ internal }) => internal).map(({ subnet }) => cidr(subnet)),
    ports: meshOn ? portsOf(state, nodeId, loopbackAddresses) : [],
  };
}

function portsOf(state: State, nodeId: string, loopbackAddresses: readonly string[]): MeshPort[] {
  const hosted = new Set(
    [...state.tasks.values()]
      .filter((task) => task.nodeId === nodeId && state.statuses.get(task.id)?.state === "running")
      .map(({ serviceId }) => serviceId),
  );
  return [...state.services.values()].flatMap(({ id, meshVip, hostVip, ports }) => {
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
}
