// A small cluster for the tests of names: two networks, a service with a VIP on both, one without, one endpoint.
import { DEFAULT_BALANCING } from "../../src/cluster/balancing.ts";
import type { Change, Network, Node, Service, Task, TaskState, TaskStatus } from "../../src/cluster/schema.ts";
import { emptyState } from "../../src/cluster/state.ts";
import type { State } from "../../src/cluster/tables.ts";
import { applyChanges } from "../fakes/apply-changes.ts";

export function idOf(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .padEnd(25, "z");
}

export function networkRow(name: string, vni: number, subnet: string, gateway: string): Network {
  return { id: idOf(name), name, vni, subnet, gateway, internal: false, encrypted: false, createdAt: 0 };
}

export function nodeRow(name: string, address: string, ingressAddress: string): Node {
  return {
    id: idOf(name),
    name,
    address,
    vxlanPort: 4789,
    sealed: null,
    ingressAddress,
    manager: false,
    listen: null,
    advertise: null,
    role: "worker",
    keyDigest: null,
    certificateExpires: null,
    version: { protocol: 1, features: [] },
    availability: "active",
    state: "ready",
    health: "well",
    heldPorts: [],
    addresses: [],
    mesh: true,
    docker: true,
    createdAt: 0,
  };
}

export function serviceRow(name: string, rest: Partial<Service> & Pick<Service, "networks">): Service {
  return {
    id: idOf(name),
    name,
    workload: { runtime: "process", command: ["true"], env: {}, workdir: null, stopGracePeriodMs: 10_000 },
    labels: {},
    replicas: 1,
    aliases: {},
    dnsTtlSeconds: 5,
    endpointMode: "vip",
    vips: {},
    ports: [],
    meshVip: null,
    hostVip: null,
    ingressSourceNat: false,
    stopGraceMs: 10_000,
    balancing: DEFAULT_BALANCING,
    constraints: [],
    createdAt: 0,
    updatedAt: 0,
    ...rest,
  };
}

export function taskRow(service: string, slot: number, addresses: Record<string, string>): Task {
  return {
    id: idOf(`${service}task${slot}`),
    serviceId: idOf(service),
    slot,
    nodeId: idOf("node1"),
    desired: "running",
    drain: null,
    addresses,
    attachment: null,
    error: null,
    createdAt: 0,
  };
}

export function statusRow(task: Task, state: TaskState): TaskStatus {
  return {
    taskId: task.id,
    nodeId: task.nodeId!,
    state,
    since: 0,
    error: null,
    exitCode: null,
    message: null,
    restarts: 0,
  };
}

export function running(task: Task): Change[] {
  return [
    { kind: "tasks", key: task.id, row: task },
    { kind: "statuses", key: task.id, row: statusRow(task, "running") },
  ];
}

const WEB = idOf("web");
const BACK = idOf("back");

const networks = [
  networkRow("ingress", 2, "10.192.0.0/20", "10.192.0.1"),
  networkRow("web", 3, "10.192.16.0/20", "10.192.16.1"),
  networkRow("back", 4, "10.192.32.0/20", "10.192.32.1"),
];
const services = [
  serviceRow("search", {
    networks: [WEB, BACK],
    vips: { [WEB]: "10.192.16.2", [BACK]: "10.192.32.2" },
    ports: [{ published: 9200, target: 9200, protocol: "tcp", mode: "ingress", address: null }],
    meshVip: "10.192.0.9",
  }),
  serviceRow("queue", {
    networks: [BACK],
    endpointMode: "dnsrr",
    ports: [{ published: 5000, target: 5000, protocol: "udp", mode: "ingress", address: null }],
  }),
  serviceRow("empty", { networks: [WEB], vips: { [WEB]: "10.192.16.3" } }),
];
const starting = taskRow("search", 3, { [WEB]: "10.192.16.13", [BACK]: "10.192.32.13" });
const draining: Task = { ...taskRow("queue", 3, { [BACK]: "10.192.32.23" }), desired: "draining" };

export const exampleState: State = applyChanges(
  emptyState(),
  [
    ...networks.map((row): Change => ({ kind: "networks", key: row.id, row })),
    ...services.map((row): Change => ({ kind: "services", key: row.id, row })),
    { kind: "nodes", key: idOf("node1"), row: nodeRow("node1", "192.0.2.11", "10.192.0.2") },
    ...running(taskRow("search", 1, { [WEB]: "10.192.16.11", [BACK]: "10.192.32.11" })),
    ...running(taskRow("search", 2, { [WEB]: "10.192.16.12", [BACK]: "10.192.32.12" })),
    { kind: "tasks", key: starting.id, row: starting },
    { kind: "statuses", key: starting.id, row: statusRow(starting, "starting") },
    ...running(taskRow("queue", 1, { [BACK]: "10.192.32.21" })),
    ...running(taskRow("queue", 2, { [BACK]: "10.192.32.22" })),
    ...running(draining),
    ...(
      [
        ["shell", WEB, "10.192.16.31"],
        ["shell", WEB, "10.192.16.32"],
        ["search", WEB, "10.192.16.33"],
        [null, BACK, "10.192.32.31"],
      ] as const
    ).map(
      ([name, networkId, address], i): Change => ({
        kind: "endpoints",
        key: idOf(`endpoint${i}`),
        row: {
          id: idOf(`endpoint${i}`),
          name,
          nodeId: idOf("node1"),
          networkId,
          address,
          attachment: null,
          external: null,
          createdAt: 0,
        },
      }),
    ),
  ],
  7,
);
