// A snapshot of the cluster, as one node's data path needs it: a pure function, so that what is in force never depends
// on how the cluster came to where it is.
import { INGRESS_NETWORK, type Service, type State, type Task } from "../cluster/schema.ts";
import { rowsOf, type TableRow, type TableRows } from "../datapath/tables.ts";
import { cidr, type Ipv4, ipv4, maskOf } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";

/** What the node knows of itself and the snapshot does not say. */
export interface NodeFacts {
  nodeId: string;
  pool: string;
  /** Addresses of its own links. */
  hostAddresses: readonly string[];
  /** The overlay's MTU. */
  mtu: number;
}

/** The rows in force at `state` on a node; none while the cluster does not know it. */
export function compileTables(state: State, facts: NodeFacts): TableRows {
  const node = state.nodes.get(facts.nodeId);
  const ingress = [...state.networks.values()].find(({ name }) => name === INGRESS_NETWORK);
  if (node === undefined || ingress === undefined) return new Map();
  const pool = cidr(facts.pool);
  const rows: TableRow[] = [
    {
      kind: "node",
      vtep: ipv4(node.address),
      ingress: ipv4(node.ingressAddress),
      ingressVni: ingress.vni,
      poolBase: pool.base,
      poolMask: maskOf(pool.bits),
      hostAddresses: facts.hostAddresses.map(ipv4),
      mtu: facts.mtu,
    },
  ];
  for (const peer of state.nodes.values()) {
    if (peer.id === node.id) continue;
    const { address, vxlanPort, ingressAddress } = peer;
    rows.push({ kind: "peer", vtep: ipv4(address), port: vxlanPort, ingress: ipv4(ingressAddress), agent: true });
  }
  for (const network of state.networks.values()) {
    if (network === ingress) continue;
    const { base, bits } = cidr(network.subnet);
    const { vni, internal } = network;
    rows.push({ kind: "network", vni, base, mask: maskOf(bits), gateway: ipv4(network.gateway), internal });
  }
  addEndpoints(rows, state, node.id);
  addVips(rows, state, ingress.vni);
  return rowsOf(rows);
}

function addEndpoints(rows: TableRow[], state: State, ownId: string): void {
  const add = (address: string, networkId: string, nodeId: string): void => {
    const network = state.networks.get(networkId);
    const node = state.nodes.get(nodeId);
    if (network === undefined || node === undefined) return;
    const vtep = nodeId === ownId ? 0 : ipv4(node.address);
    rows.push({ kind: "endpoint", ip: ipv4(address), vni: network.vni, vtep });
  };
  for (const { nodeId, addresses } of state.tasks.values()) {
    if (nodeId === null) continue;
    for (const [networkId, address] of Object.entries(addresses)) add(address, networkId, nodeId);
  }
  for (const { address, networkId, nodeId } of state.endpoints.values()) add(address, networkId, nodeId);
}

function addVips(rows: TableRow[], state: State, ingressVni: number): void {
  const tasksByService = new Map<string, Task[]>();
  for (const task of state.tasks.values()) {
    const tasks = tasksByService.get(task.serviceId);
    if (tasks === undefined) tasksByService.set(task.serviceId, [task]);
    else tasks.push(task);
  }
  for (const service of state.services.values()) {
    const tasks = (tasksByService.get(service.id) ?? []).filter(
      ({ id }) => state.statuses.get(id)?.state === "running",
    );
    const active = tasks.filter((task) => task.desired === "running" && isOnReadyNode(task, state));
    const draining = tasks.filter((task) => task.desired !== "running");
    const addVip = (vip: string, networkId: string, vni: number, ports: Service["ports"] | null): void => {
      rows.push({
        kind: "vip",
        ip: ipv4(vip),
        vni,
        service: service.name,
        tasks: addressesOn(active, networkId),
        draining: addressesOn(draining, networkId),
        balancing: {
          scheduler: service.balancing.scheduler,
          weights: withAddressOn(active, networkId).map((task) => weightOf(service, task, state)),
          affinitySeconds: service.balancing.affinity === "none" ? 0 : service.balancing.affinityTimeoutSeconds,
          preferLocal: service.balancing.locality === "prefer-local",
        },
        ports:
          ports?.map((port) => ({ ...port, protocol: port.protocol === "tcp" ? Protocol.Tcp : Protocol.Udp })) ?? null,
      });
    };
    for (const [networkId, vip] of Object.entries(service.vips)) {
      const network = state.networks.get(networkId);
      if (network !== undefined) addVip(vip, networkId, network.vni, null);
    }
    // The ingress VNI carries the mesh to whatever address of the task: its first network's will do.
    if (service.meshVip !== null) addVip(service.meshVip, service.networks[0]!, ingressVni, service.ports);
  }
}

function isOnReadyNode(task: Task, state: State): boolean {
  return task.nodeId !== null && state.nodes.get(task.nodeId)?.state === "ready";
}

/** By slot, so that every node has them in one order. */
function withAddressOn(tasks: readonly Task[], networkId: string): Task[] {
  return tasks.filter(({ addresses }) => addresses[networkId] !== undefined).sort((a, b) => a.slot - b.slot);
}

function addressesOn(tasks: readonly Task[], networkId: string): Ipv4[] {
  return withAddressOn(tasks, networkId).map(({ addresses }) => ipv4(addresses[networkId]!));
}

function weightOf({ balancing }: Service, { nodeId }: Task, state: State): number {
  return balancing.weights[state.nodes.get(nodeId ?? "")?.name ?? ""] ?? 1;
}
