// The addresses that stand for the tasks of a service, as one node balances them.
import { sameName } from "../cluster/lookup.ts";
import type { PublishedPort, Service, Task } from "../cluster/schema.ts";
import { serves } from "../cluster/serving.ts";
import type { State } from "../cluster/tables.ts";
import type { Balancing, PortMapping, VipRow } from "../datapath/rows.ts";
import { type Ipv4, ipv4 } from "../lib/ip.ts";
import { Protocol } from "../packet/ipv4.ts";

/** The tasks of a service that take part in its addresses. */
interface Serving {
  /** Those that new flows are balanced over. */
  active: readonly Task[];
  /** Those that keep their flows and get no new ones. */
  leaving: readonly Task[];
}

/** A row for each address of the service: its VIPs, and the VIPs of the ports that it publishes. */
export function vipRows(service: Service, state: State, ownId: string, ingressVni: number): VipRow[] {
  const serving = servingTasks(service, state);
  const rows: VipRow[] = [];
  for (const [networkId, vip] of Object.entries(service.vips)) {
    const network = state.networks.get(networkId);
    if (network === undefined) continue;
    rows.push({ ...vipRow(service, serving, networkId, state), ip: ipv4(vip), vni: network.vni });
  }
  // The ingress VNI carries the mesh to whatever address of the task: its first network's will do.
  const [first] = service.networks as [string];
  const { meshVip, hostVip } = service;
  if (meshVip !== null) {
    const own = { ip: ipv4(meshVip), vni: ingressVni, ports: mappings(service, "ingress") };
    rows.push({ ...vipRow(service, serving, first, state), ...own });
  }
  if (hostVip !== null) {
    const own = { ip: ipv4(hostVip), vni: ingressVni, ports: mappings(service, "host"), hostMode: true };
    rows.push({ ...vipRow(service, onNode(serving, ownId), first, state), ...own });
  }
  return rows;
}

/** The ports that a service publishes in this mode. */
export function mappings({ ports }: Service, mode: PublishedPort["mode"]): PortMapping[] {
  return ports
    .filter((port) => port.mode === mode)
    .map(({ published, target, protocol, address }) => ({
      protocol: protocol === "tcp" ? Protocol.Tcp : Protocol.Udp,
      published,
      target,
      address: address === null ? 0 : ipv4(address),
    }));
}

/** In the order of slots, so that every node has them in one order. */
function servingTasks({ id }: Service, state: State): Serving {
  const tasks = state.tasks.by("service", id).filter((task) => serves(state, task));
  tasks.sort((a, b) => a.slot - b.slot || (a.id < b.id ? -1 : 1));
  const wanted = tasks.filter(({ desired }) => desired === "running");
  return {
    // Those that drain go on until there are others.
    active: wanted.length > 0 ? wanted : tasks.filter(({ desired }) => desired === "draining"),
    leaving: tasks.filter(({ desired }) => desired !== "running"),
  };
}

function onNode({ active, leaving }: Serving, nodeId: string): Serving {
  const isThere = (task: Task): boolean => task.nodeId === nodeId;
  return { active: active.filter(isThere), leaving: leaving.filter(isThere) };
}

/** The row of an address that stands for the tasks' addresses on one network, all ports of it. */
function vipRow(
  service: Service,
  { active, leaving }: Serving,
  networkId: string,
  state: State,
): Omit<VipRow, "ip" | "vni"> {
  const there = active.filter(({ addresses }) => addresses[networkId] !== undefined);
  return {
    kind: "vip",
    service: service.name,
    tasks: addressesOn(there, networkId),
    draining: addressesOn(leaving, networkId),
    balancing: balancingOf(service, there, state),
    ports: null,
    hostMode: false,
  };
}

function addressesOn(tasks: readonly Task[], networkId: string): Ipv4[] {
  return tasks.flatMap(({ addresses }) => (addresses[networkId] === undefined ? [] : [ipv4(addresses[networkId])]));
}

function balancingOf({ balancing }: Service, tasks: readonly Task[], state: State): Balancing {
  return {
    scheduler: balancing.scheduler,
    weights: tasks.map(({ nodeId }) => weightOf(balancing.weights, state.nodes.get(nodeId ?? "")?.name ?? null)),
    affinitySeconds: balancing.affinity === "none" ? 0 : balancing.affinityTimeoutSeconds,
    preferLocal: balancing.locality === "prefer-local",
  };
}

function weightOf(weights: Readonly<Record<string, number>>, nodeName: string | null): number {
  return Object.entries(weights).find(([name]) => sameName(name, nodeName))?.[1] ?? 1;
}
