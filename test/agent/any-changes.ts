// Any changes of the state, for tests of what must hold after each of them. Ids, names and addresses come from small sets, so
// that rows go and come back as others, and two rows may have one address.
import fc from "fast-check";
import type {
  Attachment,
  Change,
  Endpoint,
  HeldPort,
  Node,
  PublishedPort,
  Service,
  Task,
} from "../../src/cluster/schema.ts";
import { networkRow, nodeRow, serviceRow, statusRow, taskRow } from "../api/fake-backend.ts";

export const NODES = ["node1", "node2", "node3"];
const NETWORKS = ["ingress", "web", "db"];
const SERVICES = ["search", "shop"];
const TASKS = ["t1", "t2", "t3", "t4"];
const ENDPOINTS = ["e1", "e2", "e3"];
const ADDRESSES = ["10.192.32.1", "10.192.32.2", "10.192.32.3", "10.192.32.4"];
const UNDERLAY = ["192.0.2.11", "192.0.2.12", "192.0.2.13", "172.17.0.1"];

interface TaskOptions extends Partial<Pick<Task, "slot" | "desired" | "attachment">> {
  id: string;
  service: string;
  node?: string | null;
  /** By the network's name. */
  addresses?: Record<string, string>;
}

function taskOf({ id, service, slot = 1, node = "node2", addresses, ...row }: TaskOptions): Task {
  const entries = Object.entries(addresses ?? { web: ADDRESSES[TASKS.indexOf(id)]! });
  const byId = Object.fromEntries(entries.map(([name, address]) => [networkRow(name).id, address]));
  return { ...taskRow(service, slot, node), ...row, id, addresses: byId };
}

const oneOf = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | null> => fc.option(arbitrary, { nil: null });

const heldPort: fc.Arbitrary<HeldPort> = fc.record({
  port: oneOf([80, 443]),
  protocol: oneOf(["tcp", "udp"] as const),
  address: oneOf(["0.0.0.0", ...UNDERLAY]),
});
const session = fc.record({ address: oneOf(["0.0.0.0", ...UNDERLAY]), port: oneOf([2377, 2400]) });

/** The second and third node have an address in common, on which a process of the second holds a port. */
function nodeOf(name: string, row: Partial<Node> = {}): Node {
  const common = "172.17.0.1";
  const usual = nodeRow(name);
  return {
    ...usual,
    ...(name !== "node1" && { addresses: [usual.address, common] }),
    ...(name === "node2" && { heldPorts: [{ port: 80, protocol: "tcp" as const, address: common }] }),
    ...row,
  };
}

/** Rows that differ from a usual one in a few fields: so that a change is often of one field. */
const SOME = { requiredKeys: [] };

const node = fc
  .record(
    {
      name: oneOf(NODES),
      address: oneOf(UNDERLAY),
      vxlanPort: oneOf([4789, 4790]),
      ingressAddress: oneOf(["10.192.0.2", "10.192.0.3"]),
      manager: fc.boolean(),
      role: oneOf(["manager", "worker"] as const),
      listen: maybe(session),
      advertise: maybe(session),
      mesh: fc.boolean(),
      state: oneOf(["ready", "ready", "down"] as const),
      heldPorts: fc.array(heldPort, { maxLength: 2 }),
      addresses: fc.uniqueArray(oneOf(UNDERLAY), { maxLength: 3 }),
    },
    SOME,
  )
  .chain((row) => oneOf(NODES).map((name) => nodeOf(name, row)));

const network = fc
  .record(
    {
      name: oneOf(NETWORKS),
      vni: oneOf([4096, 4097]),
      subnet: oneOf(["10.192.32.0/20", "10.192.48.0/20"]),
      gateway: oneOf(ADDRESSES),
      internal: fc.boolean(),
      encrypted: fc.boolean(),
    },
    SOME,
  )
  .chain((row) => oneOf(NETWORKS).map((name) => networkRow(name, row)));

const port: fc.Arbitrary<PublishedPort> = fc.record({
  published: oneOf([80, 443]),
  target: oneOf([8080, 8443]),
  protocol: oneOf(["tcp", "udp"] as const),
  mode: oneOf(["ingress", "host"] as const),
  address: maybe(oneOf(UNDERLAY)),
});

/** Its tasks' hostname says which node they are on. */
function serviceOf(name: string): Service {
  const own = serviceRow(name);
  const naming = { hostname: "{{.Node.Hostname}}", hosts: [], dns: { servers: [], search: null, options: null } };
  return { ...own, workload: { ...own.workload!, naming } };
}

const service = fc
  .record(
    {
      networks: fc.uniqueArray(oneOf(NETWORKS), { minLength: 1, maxLength: 2 }),
      vips: fc.array(oneOf(ADDRESSES), { maxLength: 2 }),
      ports: fc.array(port, { maxLength: 2 }),
      meshVip: maybe(oneOf(ADDRESSES)),
      hostVip: maybe(oneOf(ADDRESSES)),
      ingressSourceNat: fc.boolean(),
      weights: fc.dictionary(oneOf(NODES), oneOf([0, 2]), { maxKeys: 2 }),
    },
    SOME,
  )
  .chain(({ networks = ["web"], vips = ["10.192.32.2"], weights = { node2: 2 }, ...row }) =>
    oneOf(SERVICES).map((name) => {
      const ids = networks.map((network) => networkRow(network).id);
      const own = serviceOf(name);
      const balancing = { ...own.balancing, weights };
      const entries = vips.slice(0, ids.length).map((vip, i) => [ids[i]!, vip]);
      return { ...own, ...row, networks: ids, vips: Object.fromEntries(entries), balancing };
    }),
  );

const attachment: Attachment = { subject: "netns:db", name: "db", image: null, aliases: [], hostNames: [] };
const task = fc
  .record(
    {
      slot: oneOf([1, 2]),
      node: maybe(oneOf(NODES)),
      desired: oneOf(["running", "running", "draining", "shutdown"] as const),
      addresses: fc.dictionary(oneOf(NETWORKS), oneOf(ADDRESSES), { maxKeys: 2 }),
      attachment: maybe(fc.constant(attachment)),
    },
    SOME,
  )
  .chain((row) => fc.record({ id: oneOf(TASKS), service: oneOf(SERVICES) }).map((own) => taskOf({ ...own, ...row })));

const status = fc
  .record({ id: oneOf(TASKS), node: oneOf(NODES), state: oneOf(["starting", "running", "running", "failed"] as const) })
  .map(({ id, node, state }) => statusRow({ ...taskRow("search", 1, node), id }, state));

const endpoint: fc.Arbitrary<Endpoint> = fc
  .record({
    id: oneOf(ENDPOINTS),
    node: maybe(oneOf(NODES)),
    network: oneOf(NETWORKS),
    address: oneOf(ADDRESSES),
    external: maybe(
      fc.record({
        mac: oneOf(["02:00:00:00:00:01", "02:00:00:00:00:02"]),
        vtep: oneOf(UNDERLAY),
        port: oneOf([4789, 8472]),
      }),
    ),
  })
  .map(({ id, node, network, address, external }) => ({
    ...{ id, name: null, networkId: networkRow(network).id, address, attachment: null, createdAt: 0 },
    nodeId: external !== null || node === null ? null : nodeRow(node).id,
    external,
  }));

const putting: fc.Arbitrary<Change> = fc.oneof(
  node.map((row): Change => ({ kind: "nodes", key: row.id, row })),
  network.map((row): Change => ({ kind: "networks", key: row.id, row })),
  service.map((row): Change => ({ kind: "services", key: row.id, row })),
  { arbitrary: task.map((row): Change => ({ kind: "tasks", key: row.id, row })), weight: 3 },
  { arbitrary: status.map((row): Change => ({ kind: "statuses", key: row.taskId, row })), weight: 3 },
  endpoint.map((row): Change => ({ kind: "endpoints", key: row.id, row })),
  port.map(({ published, protocol, address }): Change => {
    const row = { port: published, protocol, address, serviceId: serviceRow("search").id };
    return { kind: "ports", key: `${published}/${protocol}`, row };
  }),
);
/** A change that puts a row, or deletes the row that it would put. */
const change = fc
  .tuple(putting, oneOf([true, true, true, false]))
  .map(([put, isPut]): Change => (isPut ? put : ({ ...put, row: null } as Change)));
/** Changes as they come, several at a time. */
export const batches = fc.array(fc.array(change, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 40 });

/** What there is from the start, so that most changes find all else in its place. */
export const BEGINNING: Change[] = [
  ...NODES.map((name): Change => ({ kind: "nodes", key: nodeRow(name).id, row: nodeOf(name) })),
  ...NETWORKS.map((name): Change => ({ kind: "networks", key: networkRow(name).id, row: networkRow(name) })),
  ...SERVICES.map((name): Change => {
    const row = serviceOf(name);
    return { kind: "services", key: row.id, row: { ...row, balancing: { ...row.balancing, weights: { node2: 2 } } } };
  }),
  ...TASKS.flatMap((id, i): Change[] => {
    const row = taskOf({ id, service: SERVICES[i % 2]!, node: NODES[i % 3]! });
    return [
      { kind: "tasks", key: id, row },
      { kind: "statuses", key: id, row: statusRow(row, "running") },
    ];
  }),
];
