// The cluster's state as the links of one node need it.
import { INGRESS_NETWORK, type Task } from "../cluster/schema.ts";
import type { State } from "../cluster/tables.ts";
import { sealedMtu } from "../datapath/sealed-way.ts";
import { cidr } from "../lib/ip.ts";
import type { DesiredEndpoint, DesiredLinks } from "../links/desired.ts";

/** A network namespace of this node, into which links lead. */
export interface Sandbox {
  /** Its name under /run/netns. */
  netns: string;
  /** The names of its links, in the order of its networks; left out: `eth0` and so on. */
  ifnames?: readonly string[];
}

interface LinksViewpoint {
  nodeId: string;
  device: string;
  pool: string;
  /** The overlay's MTU where packets are not sealed. */
  mtu: number;
  /** Whether the state is a leader's: one from disk may lack what was made last, so no link is removed by it. */
  isHeard: boolean;
  /** By the id of their task or endpoint. */
  sandboxes: ReadonlyMap<string, Sandbox>;
}

/** What is on the node is found by index; the loop over all networks is for their gateways. */
export function compileLinks(state: State, viewpoint: LinksViewpoint): DesiredLinks {
  const { nodeId, device, pool, mtu, isHeard, sandboxes } = viewpoint;
  const endpoints: DesiredEndpoint[] = [];
  const held: string[] = [];
  const add = (id: string, networkId: string, address: string, index: number): void => {
    held.push(address);
    const sandbox = sandboxes.get(id);
    const network = state.networks.get(networkId);
    if (sandbox === undefined || network === undefined) return;
    const { netns, ifnames } = sandbox;
    const ifname = ifnames?.[index] ?? `eth${index}`;
    const own = network.encrypted ? sealedMtu(mtu) : mtu;
    endpoints.push({ address, subnet: cidr(network.subnet), netns, ifname, mtu: own });
  };
  for (const task of state.tasks.by("node", nodeId)) {
    for (const [i, networkId] of networksOf(state, task).entries())
      add(task.id, networkId, task.addresses[networkId]!, i);
  }
  for (const { id, networkId, address } of state.endpoints.by("node", nodeId)) add(id, networkId, address, 0);
  return {
    device,
    mtu,
    pool: cidr(pool),
    ingressAddress: state.nodes.get(nodeId)?.ingressAddress ?? null,
    gateways: gatewaysOf(state),
    endpoints,
    held: isHeard ? held : "all",
  };
}

/** The gateways of all networks that containers are on: each node has them. */
export function gatewaysOf({ networks }: State): string[] {
  const own = [...networks.values()].filter(({ name }) => name !== INGRESS_NETWORK);
  return own.map(({ gateway }) => gateway);
}

/** A task's networks in the order of its service: the first has the default route. */
export function networksOf(state: State, task: Task): string[] {
  const order = state.services.get(task.serviceId)?.networks ?? Object.keys(task.addresses);
  return order.filter((networkId) => task.addresses[networkId] !== undefined);
}
