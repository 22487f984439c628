// What the tables of the state are looked up by: the key of each row, and the values under which its indexes have it.
import { EVERY_ADDRESS } from "../lib/ip.ts";
import { endpointNames, hostNamesOf, parentsOf } from "./host-names.ts";
import { nodePorts } from "./node-ports.ts";
import { type Attachment, claimKey, type Kind, type RowOf } from "./schema.ts";
import { SETTINGS_KEY } from "./settings.ts";

const keyOfRow: { [K in Kind]: (row: RowOf<K>) => string } = {
  nodes: (node) => node.id,
  networks: (network) => network.id,
  services: (service) => service.id,
  tasks: (task) => task.id,
  endpoints: (endpoint) => endpoint.id,
  allocations: (allocation) => allocation.address,
  ports: claimKey,
  statuses: (status) => status.taskId,
  settings: () => SETTINGS_KEY,
  trust: (trust) => trust.authority ?? "nodes",
  tokens: (token) => token.role,
  users: (user) => user.id,
};

/** The key of a row in its table. */
export function keyOf<K extends Kind>(kind: K, row: RowOf<K>): string {
  return keyOfRow[kind](row);
}

/** The values under which an index finds a row; none: the index leaves the row out. */
type Values<R> = (row: R) => readonly string[];

function lower(name: string | null): string[] {
  return name === null ? [] : [name.toLowerCase()];
}

/** The indexes of each table. Names and aliases are in lower case. */
const INDEXES = {
  nodes: {
    name: ({ name }) => lower(name),
    /** Its VTEP. */
    address: ({ address }) => [address],
    /** Its address on the ingress network. */
    ingress: ({ ingressAddress }) => [ingressAddress],
    state: ({ state }) => [state],
    /** PORT/PROTOCOL of each that it takes for what nodes send each other. */
    port: (node) => nodePorts(node).map(({ port, protocol }) => `${port}/${protocol}`),
    /** What it may do: `manager` or `worker`. */
    role: ({ role }) => [role],
    /** `any`: a manager runs on it. */
    listens: ({ manager }) => (manager ? ["any"] : []),
    /** Each of its addresses, its VTEP among them. */
    anyAddress: ({ address, addresses }) => [...new Set([address, ...addresses])],
    /** Each address on which its processes hold published ports: its VTEP for those that they hold on every address. */
    heldAt: ({ address, heldPorts }) => [
      ...new Set(heldPorts.map((held) => (held.address === EVERY_ADDRESS ? address : held.address))),
    ],
  },
  networks: { name: ({ name }) => lower(name), subnet: ({ subnet }) => [subnet], vni: ({ vni }) => [String(vni)] },
  services: {
    name: ({ name }) => lower(name),
    network: ({ networks }) => networks,
    /** NETWORK/ALIAS. */
    alias: ({ aliases }) =>
      Object.entries(aliases).flatMap(([network, names]) => names.map((name) => `${network}/${name.toLowerCase()}`)),
    /** NETWORK/PARENT, of its aliases with dots. */
    parent: ({ aliases }) => Object.entries(aliases).flatMap(([network, names]) => parentsOn(network, names)),
    /** Its virtual IPs, that for published ports among them. */
    address: ({ vips, meshVip }) => [...Object.values(vips), ...(meshVip === null ? [] : [meshVip])],
    /** `empty`: it came with its first attached container and may go with its last. `secret`: not every node may read it. */
    kind: ({ workload }) => {
      if (workload === null) return ["attached"];
      return workload.runtime === "docker" && workload.registryAuth !== null ? ["secret"] : [];
    },
    /** `any`: it publishes ports. */
    published: ({ ports }) => (ports.length > 0 ? ["any"] : []),
  },
  tasks: {
    service: ({ serviceId }) => [serviceId],
    /** SERVICE/SLOT. */
    instance: ({ serviceId, slot }) => [`${serviceId}/${slot}`],
    node: ({ nodeId }) => (nodeId === null ? [] : [nodeId]),
    /** Each of its addresses. */
    address: ({ addresses }) => Object.values(addresses),
    network: ({ addresses }) => Object.keys(addresses),
    /** NETWORK/SLOT. */
    slot: ({ addresses, slot }) => Object.keys(addresses).map((id) => `${id}/${slot}`),
    /** The container or namespace that is attached. */
    subject: ({ attachment }) => (attachment === null ? [] : [attachment.subject]),
    /** NETWORK/ALIAS, of an attached container. */
    alias: ({ addresses, attachment }) =>
      attachment === null ? [] : Object.keys(addresses).flatMap((id) => aliasesOn(id, attachment)),
    /** NETWORK/PARENT, of its aliases with dots. */
    parent: ({ addresses, attachment }) =>
      attachment === null ? [] : Object.keys(addresses).flatMap((id) => parentsOn(id, hostNamesOf(attachment))),
    /** SERVICE, NODE and SERVICE/NODE, of a task that its service wants to run. */
    wanted: ({ desired, serviceId, nodeId, attachment }) => {
      if (desired !== "running" || attachment !== null) return [];
      return nodeId === null ? [serviceId] : [serviceId, nodeId, `${serviceId}/${nodeId}`];
    },
    /** SERVICE/NODE, of one that is to run, attached or not. */
    running: ({ desired, serviceId, nodeId }) =>
      desired === "running" && nodeId !== null ? [`${serviceId}/${nodeId}`] : [],
    /** What the scheduler has yet to do with it. */
    todo: ({ desired, nodeId, attachment }) => {
      if (desired !== "running") return [desired];
      return nodeId === null && attachment === null ? ["place"] : [];
    },
  },
  endpoints: {
    node: ({ nodeId }) => (nodeId === null ? [] : [nodeId]),
    network: ({ networkId }) => [networkId],
    address: ({ address }) => [address],
    name: ({ name }) => lower(name),
    subject: ({ attachment }) => (attachment === null ? [] : [attachment.subject]),
    /** NETWORK/ALIAS, of an attached container. */
    alias: ({ networkId, attachment }) => (attachment === null ? [] : aliasesOn(networkId, attachment)),
    /** NETWORK/NAME, of each of its names. */
    host: (endpoint) => endpointNames(endpoint).map((name) => `${endpoint.networkId}/${name.toLowerCase()}`),
    /** NETWORK/PARENT, of its names with dots. */
    parent: (endpoint) => parentsOn(endpoint.networkId, endpointNames(endpoint)),
    /** The VTEP of an external endpoint. */
    vtep: ({ external }) => (external === null ? [] : [external.vtep]),
  },
  allocations: {
    network: ({ networkId }) => [networkId],
    todo: ({ releasedAt }) => (releasedAt === null ? [] : ["free"]),
  },
  ports: {
    /** PORT/PROTOCOL. */
    number: ({ port, protocol }) => [`${port}/${protocol}`],
    service: ({ serviceId }) => [serviceId],
  },
  statuses: { node: ({ nodeId }) => [nodeId] },
  settings: {},
  trust: {},
  tokens: {},
  users: { name: ({ name }) => lower(name) },
} as const satisfies { [K in Kind]: Record<string, Values<RowOf<K>>> };

function aliasesOn(networkId: string, attachment: Attachment): string[] {
  return hostNamesOf(attachment).map((name) => `${networkId}/${name.toLowerCase()}`);
}

function parentsOn(networkId: string, names: readonly string[]): string[] {
  return names.flatMap((name) => parentsOf(name.toLowerCase()).map((parent) => `${networkId}/${parent}`));
}

export type IndexOf<K extends Kind> = keyof (typeof INDEXES)[K] & string;

/** A row may say a value twice, such as one alias in two spellings: the index has it once. */
export function valuesIn<K extends Kind>(kind: K, index: IndexOf<K>): Values<RowOf<K>> {
  const valuesOf = (INDEXES[kind] as unknown as Record<string, Values<RowOf<K>>>)[index]!;
  return (row) => {
    const values = valuesOf(row);
    return values.length < 2 ? values : [...new Set(values)];
  };
}
