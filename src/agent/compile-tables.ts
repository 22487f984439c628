// A snapshot of the cluster, as one node's data path needs it: a pure function, so that what is in force never depends
// on how the cluster came to where it is.
import { sameName } from "../cluster/lookup.ts";
import {
  type HeldPort,
  INGRESS_NETWORK,
  type PublishedPort,
  type Service,
  type State,
  type Task,
} from "../cluster/schema.ts";
import {
  type EndpointRow,
  type Mac,
  type Port,
  type PortMapping,
  rowsOf,
  type TableRow,
  type TableRows,
} from "../datapath/rows.ts";
import { cidr, type Ipv4, ipv4, maskOf } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";
import { deniedRows, type SessionAddress } from "./compile-denied.ts";
import { heldPortRows } from "./compile-held.ts";

/** What the node knows of itself and the snapshot does not say. */
export interface NodeFacts {
  nodeId: string;
  pool: string;
  /** Addresses of its own links. */
  hostAddresses: readonly string[];
  /** The overlay's MTU. */
  mtu: number;
  /** Whether it answers published ports, and which of them it leaves to processes of its own. */
  meshOn: boolean;
  heldPorts: readonly HeldPort[];
  /** Where this node finds managers, as its configuration says. */
  managers: readonly SessionAddress[];
  /** Whether containers reach what processes of this node serve. */
  nodeServices: boolean;
  /** The snapshot is the one on disk, and may lack what was made last. */
  isProvisional: boolean;
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
      mesh: facts.meshOn,
      heldPorts: heldPortRows(state, facts),
      nodeServices: facts.nodeServices,
      mtu: facts.mtu,
      isProvisional: facts.isProvisional,
    },
  ];
  for (const peer of state.nodes.values()) {
    if (peer.id === node.id) continue;
    const { address, vxlanPort, ingressAddress, mesh } = peer;
    const own = { vtep: ipv4(address), port: vxlanPort, ingress: ipv4(ingressAddress) };
    rows.push({ kind: "peer", ...own, agent: true, mesh });
  }
  for (const network of state.networks.values()) {
    if (network === ingress) continue;
    const { base, bits } = cidr(network.subnet);
    const { vni, internal } = network;
    rows.push({ kind: "network", vni, base, mask: maskOf(bits), gateway: ipv4(network.gateway), internal });
  }
  addEndpoints(rows, state, node.id);
  addExternals(rows, state);
  addVips(rows, state, node.id, ingress.vni);
  rows.push(...deniedRows(state, facts));
  return rowsOf(rows);
}

function addEndpoints(rows: TableRow[], state: State, ownId: string): void {
  const add = (address: string, networkId: string, nodeId: string, more: Partial<EndpointRow> = {}): void => {
    const network = state.networks.get(networkId);
    const node = state.nodes.get(nodeId);
    if (network === undefined || node === undefined) return;
    const vtep = nodeId === ownId ? 0 : ipv4(node.address);
    rows.push({ kind: "endpoint", ip: ipv4(address), vni: network.vni, vtep, ...more });
  };
  const moreByService = new Map([...state.services].map(([id, service]) => [id, asPublished(service)]));
  for (const { nodeId, addresses, serviceId } of state.tasks.values()) {
    if (nodeId === null) continue;
    const more = moreByService.get(serviceId);
    for (const [networkId, address] of Object.entries(addresses)) add(address, networkId, nodeId, more);
  }
  for (const { address, networkId, nodeId } of state.endpoints.values())
    if (nodeId !== null) add(address, networkId, nodeId);
}

/** The ports that a task's service publishes, from when the task is placed: another node may send it clients before this node hears that it runs. */
function asPublished(service: Service): Partial<EndpointRow> {
  const published: Port[] = mappings(service, "ingress").map(({ protocol, target }) => ({ protocol, port: target }));
  return {
    ...(published.length > 0 && { published }),
    ...(service.ingressSourceNat && { sourceNat: true }),
  };
}

/** What is behind VTEPs of somebody else, and these VTEPs: the others' frames are as good as their checksums. */
function addExternals(rows: TableRow[], state: State): void {
  const vteps = new Map<string, number>();
  for (const { address, networkId, external } of state.endpoints.values()) {
    const network = state.networks.get(networkId);
    if (external === null || network === undefined) continue;
    const { vtep, port, mac } = external;
    rows.push({ kind: "endpoint", ip: ipv4(address), vni: network.vni, vtep: ipv4(vtep), mac: macOf(mac) });
    vteps.set(vtep, port);
  }
  for (const [vtep, port] of vteps)
    rows.push({ kind: "peer", vtep: ipv4(vtep), port, ingress: 0, agent: false, mesh: false });
}

function macOf(text: string): Mac {
  const bytes = text.split(":").map((byte) => Number.parseInt(byte, 16));
  const [a, b, c, d, e, f] = bytes as [number, number, number, number, number, number];
  return { high: (a << 8) | b, low: (c << 24) | (d << 16) | (e << 8) | f };
}

function addVips(rows: TableRow[], state: State, ownId: string, ingressVni: number): void {
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
    const ready = tasks.filter((task) => isOnReadyNode(task, state));
    const wanted = ready.filter(({ desired }) => desired === "running");
    // Those that drain go on until there are others.
    const active = wanted.length > 0 ? wanted : ready.filter(({ desired }) => desired === "draining");
    const leaving = tasks.filter(({ desired }) => desired !== "running");
    const addVip = (
      vip: string,
      networkId: string,
      vni: number,
      { ports = null, nodeId }: { ports?: readonly PortMapping[] | null; nodeId?: string } = {},
    ): void => {
      const isThere = (task: Task): boolean => nodeId === undefined || task.nodeId === nodeId;
      const serving = withAddressOn(active.filter(isThere), networkId);
      rows.push({
        kind: "vip",
        ip: ipv4(vip),
        vni,
        service: service.name,
        tasks: addressesOn(serving, networkId),
        draining: addressesOn(leaving.filter(isThere), networkId),
        balancing: {
          scheduler: service.balancing.scheduler,
          weights: serving.map((task) => weightOf(service, task, state)),
          affinitySeconds: service.balancing.affinity === "none" ? 0 : service.balancing.affinityTimeoutSeconds,
          preferLocal: service.balancing.locality === "prefer-local",
        },
        ports,
        hostMode: nodeId !== undefined,
      });
    };
    for (const [networkId, vip] of Object.entries(service.vips)) {
      const network = state.networks.get(networkId);
      if (network !== undefined) addVip(vip, networkId, network.vni);
    }
    // The ingress VNI carries the mesh to whatever address of the task: its first network's will do.
    const [first] = service.networks as [string];
    if (service.meshVip !== null) addVip(service.meshVip, first, ingressVni, { ports: mappings(service, "ingress") });
    if (service.hostVip !== null) {
      addVip(service.hostVip, first, ingressVni, { ports: mappings(service, "host"), nodeId: ownId });
    }
  }
}

function mappings({ ports }: Service, mode: PublishedPort["mode"]): PortMapping[] {
  return ports
    .filter((port) => port.mode === mode)
    .map(({ published, target, protocol, address }) => ({
      protocol: numberOf(protocol),
      published,
      target,
      address: address === null ? 0 : ipv4(address),
    }));
}

function numberOf(protocol: PublishedPort["protocol"]): number {
  return protocol === "tcp" ? Protocol.Tcp : Protocol.Udp;
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
  const name = state.nodes.get(nodeId ?? "")?.name ?? null;
  return Object.entries(balancing.weights).find(([of]) => sameName(of, name))?.[1] ?? 1;
}
