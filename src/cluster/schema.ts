// The cluster's state as rows of JSON, checked with zod. Desired rows have one writer, the leader; a status row says
// what one node observed of one task, and only that node reports it. Bounds on what a client asks for are in commands.ts,
// not here: a row that was stored once must load for ever.
import { z } from "zod";
import { firstOf, Id, MAX_REASON, MAX_WORD, text, words } from "../lib/bounds.ts";
import { parseCidr, parseIpv4 } from "../lib/ip.ts";
import { Dns, LABELS } from "./naming.ts";
import { ServiceSettings } from "./service-settings.ts";
import { ClusterSettings } from "./settings.ts";
import { JoinToken, NodeVersion, Role, Trust, User } from "./trust-rows.ts";
import { RowWorkload } from "./workload.ts";

export { Id };

/** The name of a service or node: one label in DNS, as Docker takes it. It has no dots, because SERVICE.SLOT is a task. */
export const Name = z
  .string()
  .max(63, "a name has at most 63 characters")
  .regex(
    /^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$/i,
    "a name has letters, digits, '-' and '_', and begins and ends with a letter or digit",
  );
/** The name of a network or container: one label or several, as Docker takes it. */
export const DottedName = z
  .string()
  .max(63, "a name has at most 63 characters")
  .regex(/^[^_]/, "a name begins with a letter or digit")
  .regex(LABELS, "a name has letters, digits, '-' and '_', between dots 63 at most, and no '-' at either end");
export const Address = z
  .string()
  .max("255.255.255.255".length, "not an IPv4 address")
  .refine((word) => parseIpv4(word) !== undefined, "not an IPv4 address");
export const Subnet = text(MAX_WORD).refine((word) => parseCidr(word) !== undefined, {
  error: ({ input }) => `'${input}' is not an IPv4 prefix (such as 10.20.0.0/16, no host bits set)`,
});
const Port = z.int().min(1).max(65535);
const Millis = z.int().min(0);

/** Each label of a service is a record in DNS, which holds 64 KiB. */
export const MAX_LABEL_KEY = 512;
export const MAX_LABEL = 4096;
export const MAX_LABELS = 1000;
export const MAX_IMAGE = 512;
/** Bounds of what a node reports of itself. */
export const MAX_ADDRESSES = 4096;
export const MAX_HELD = 10_000;

export const Protocol = z.enum(["tcp", "udp"]);
export type Protocol = z.infer<typeof Protocol>;

/** A published port that a process of the node had before: the node leaves it to that process. */
export const HeldPort = z.object({
  port: Port,
  protocol: Protocol,
  /** Where the process listens; 0.0.0.0: on every address. */
  address: Address,
});
export type HeldPort = z.infer<typeof HeldPort>;

/** Where a manager answers nodes; 0.0.0.0: on every address of its node. */
export const SessionAddress = z.object({ address: Address, port: Port });

/** A machine that runs the agent. */
export const Node = z.object({
  id: Id,
  name: Name,
  /** The VTEP: its address on the underlay. */
  address: Address,
  vxlanPort: Port,
  /** Where it receives sealed packets, over UDP, and agrees on keys with its peers, over TCP; null: it does not seal. */
  sealed: z.object({ port: Port, keyPort: Port }).nullable().default(null),
  /** Its own address on the ingress network. */
  ingressAddress: Address,
  manager: z.boolean(),
  /** What it may do. This row decides, and not what its certificate says. */
  role: Role.default("worker"),
  /** The digest of its certificate's public key; null: it joined before nodes had certificates. */
  keyDigest: text(MAX_WORD).nullable().default(null),
  /** When its certificate ends; null: it has none. */
  certificateExpires: Millis.nullable().default(null),
  /** The digest of the public key of the authority that signed it; left out: the version that wrote it did not say. */
  certificateSigner: text(MAX_WORD).optional(),
  version: NodeVersion.default({ protocol: 0, features: [] }),
  /** Where the manager on this node listens; null: there is none, or its version does not say. */
  listen: SessionAddress.nullable().default(null),
  /** Where nodes reach the manager on this node, if not at `listen`. */
  advertise: SessionAddress.nullable().default(null),
  /** Whether it answers published ports. */
  mesh: z.boolean().default(true),
  availability: z.enum(["active", "drain"]),
  /** The leader's judgement of the node's session. A node that is down is set aside, not deleted. */
  state: z.enum(["ready", "down"]),
  /**
   * The leader's judgement of a ready node. `behind`: for a minute it has not put in force what it was sent; `stuck`: for
   * ten minutes. `silent`: its session is lost, but most nodes have lost theirs, so the leader judges none of them.
   */
  health: z.enum(["well", "behind", "stuck", "silent"]).default("well"),
  /** As the node itself reports. */
  heldPorts: firstOf(HeldPort, MAX_HELD).default([]),
  /** The addresses of its links, as the node itself reports. */
  addresses: firstOf(Address, MAX_ADDRESSES).default([]),
  /** Whether its Docker answers, as the node itself reports. */
  docker: z.boolean().default(false),
  createdAt: Millis,
});
export type Node = z.infer<typeof Node>;

/** One overlay segment. */
export const Network = z.object({
  id: Id,
  name: DottedName,
  vni: z.int().min(2).max(0xffffff),
  subnet: Subnet,
  /** The subnet's first address, present on every node. */
  gateway: Address,
  /** No way out through the node. */
  internal: z.boolean(),
  /** What its containers send between nodes is sealed, or is not sent. Fixed when it is made: its VNI was never carried clear. */
  encrypted: z.boolean().default(false),
  createdAt: Millis,
});
export type Network = z.infer<typeof Network>;

export const PublishedPort = z.object({
  published: Port,
  target: Port,
  protocol: Protocol,
  /** `ingress`: every node answers it, for any task; `host`: only nodes that run a task do, for their own. */
  mode: z.enum(["ingress", "host"]).default("ingress"),
  /** Answered on this address of a node only; null: on all. */
  address: Address.nullable().default(null),
});
export type PublishedPort = z.infer<typeof PublishedPort>;

/** A name in DNS that several may share: a host's, or a whole one such as a certificate has. */
export const Alias = z
  .string()
  .max(253, "an alias has at most 253 characters")
  .regex(LABELS, "an alias has letters, digits, '-' and '_', between dots 63 at most, and no '-' at either end");

export const Service = ServiceSettings.extend({
  id: Id,
  name: Name,
  /** What its tasks run; null: it has only containers that were attached to it. */
  workload: RowWorkload.nullable(),
  /** Network ids, at least one; a task has an endpoint on each. */
  networks: z.array(Id).min(1),
  /** Other names in DNS, by network id. */
  aliases: z.record(Id, z.array(Alias)),
  /** One VIP per network id; empty with dnsrr. */
  vips: z.record(Id, Address),
  ports: z.array(PublishedPort),
  /** On the ingress network, when a port is published. */
  meshVip: Address.nullable(),
  /** On the ingress network, when a port is published in host mode: on each node it stands for that node's own tasks. */
  hostVip: Address.nullable().default(null),
  createdAt: Millis,
  updatedAt: Millis,
});
export type Service = z.infer<typeof Service>;

/** What is attached to a network: a container or network namespace that overlayd did not make. */
export const Attachment = z.object({
  /** A container's id, or `netns:` and a name under /run/netns. */
  subject: text(MAX_WORD).regex(/^([0-9a-f]{64}|netns:[^/]+)$/, "neither a container's id nor netns:NAME"),
  /** What a person calls it: Docker's name of the container, the namespace's own. */
  name: words(MAX_WORD),
  /** null: no container. */
  image: words(MAX_IMAGE).nullable(),
  /** Names in DNS besides its own. */
  aliases: z.array(Alias),
  /** Names that its container has anyway. Each is found only where nothing else has that name. */
  hostNames: z.array(Alias).default([]),
});
export type Attachment = z.infer<typeof Attachment>;

/** One instance of a service. It keeps its id and addresses when its process is restarted in place. */
export const Task = z.object({
  id: Id,
  serviceId: Id,
  /** Counted from 1; the task is named SERVICE.SLOT. */
  slot: z.int().min(1),
  /** null: no node could take it, `error` says why. */
  nodeId: Id.nullable(),
  /** `draining`: keeps its flows, gets no new ones; `shutdown`: to be stopped and removed. */
  desired: z.enum(["running", "draining", "shutdown"]),
  /** The revision from which the task drains, and when that was; null: it does not. */
  drain: z.object({ revision: z.int(), since: Millis }).nullable().default(null),
  /** Network id to address. */
  addresses: z.record(Id, Address),
  /** Not null: a container that was attached to the service. It is not scheduled. */
  attachment: Attachment.nullable(),
  error: words(MAX_REASON).nullable(),
  createdAt: Millis,
});
export type Task = z.infer<typeof Task>;

/** A unicast Ethernet address, which a group's is not: IEEE 802 has the lowest bit of the first byte for that. */
export const Mac = text("00:00:00:00:00:00".length).regex(
  /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i,
  "not an Ethernet address of one host, such as 02:00:5e:10:00:01",
);

/** Where an endpoint is that is behind a VTEP that is no node: a kernel's vxlan device, a switch. */
export const External = z.object({ mac: Mac, vtep: Address, port: Port });
export type External = z.infer<typeof External>;

/** An attachment that is no task: `overlayctl run`, an attached container. */
export const Endpoint = z.object({
  id: Id,
  name: DottedName.nullable(),
  /** null: it is on no node, but external. */
  nodeId: Id.nullable(),
  networkId: Id,
  address: Address,
  /** null: the sandbox of an `overlayctl run`. */
  attachment: Attachment.nullable(),
  /** Not null: it is behind a VTEP that is no node. */
  external: External.nullable().default(null),
  /** Name servers that its node asks instead of its own resolvers for names that are not the overlay's. */
  dnsServers: Dns.shape.servers.optional(),
  createdAt: Millis,
});
export type Endpoint = z.infer<typeof Endpoint>;

/** What holds an address of the pool: keyed by the address, so that none is given twice. */
export const Allocation = z.object({
  address: Address,
  networkId: Id,
  holder: z.object({ kind: z.enum(["network", "node", "service", "task", "endpoint"]), id: Id }),
  /** The revision that released it: held back until every live node has applied that. null: in use. */
  releasedAt: z.int().nullable(),
});
export type Allocation = z.infer<typeof Allocation>;

/** Which service publishes a port: keyed by PORT/PROTOCOL, on one address by ADDRESS:PORT/PROTOCOL. */
export const PortClaim = z.object({
  port: Port,
  protocol: Protocol,
  address: Address.nullable().default(null),
  serviceId: Id,
});
export type PortClaim = z.infer<typeof PortClaim>;

/** The key of a claim: PORT/PROTOCOL, on one address ADDRESS:PORT/PROTOCOL. */
export function claimKey({ port, protocol, address }: Omit<PortClaim, "serviceId">): string {
  return `${address === null ? "" : `${address}:`}${port}/${protocol}`;
}

/** What the task's node sees. In Docker's words. */
export const TaskState = z.enum([
  "pending",
  "preparing",
  "starting",
  "running",
  "complete",
  "failed",
  "rejected",
  "shutdown",
]);
export type TaskState = z.infer<typeof TaskState>;

/** The status of a task, or of an endpoint with an attachment. */
export const TaskStatus = z.object({
  taskId: Id,
  nodeId: Id,
  state: TaskState,
  /** When it came into this state. */
  since: Millis,
  /** Why it is not running. */
  error: words(MAX_REASON).nullable(),
  exitCode: z.int().nullable(),
  /** What it is doing on its way, such as how much of its image has arrived. */
  message: words(MAX_REASON).nullable(),
  /** How often its process was started again. */
  restarts: z.int().min(0),
});
export type TaskStatus = z.infer<typeof TaskStatus>;

/** The tables of the state, with what keys each row. */
export const rowSchemas = {
  nodes: Node, // id
  networks: Network, // id
  services: Service, // id
  tasks: Task, // id
  endpoints: Endpoint, // id
  allocations: Allocation, // address
  ports: PortClaim, // [ADDRESS:]PORT/PROTOCOL
  statuses: TaskStatus, // task id
  settings: ClusterSettings, // one: SETTINGS_KEY
  trust: Trust, // one of each authority, the store's once it was changed
  tokens: JoinToken, // role
  users: User, // id
} as const;
export type Kind = keyof typeof rowSchemas;
export type RowOf<K extends Kind> = z.infer<(typeof rowSchemas)[K]>;
export const KINDS = Object.keys(rowSchemas) as Kind[];

/** Kinds of rows that only the leader reads; the others go to every node. */
const LEADER_KINDS: ReadonlySet<Kind> = new Set<Kind>(["allocations", "ports", "tokens", "users"]);
export const NODE_KINDS: readonly Kind[] = KINDS.filter((kind) => !LEADER_KINDS.has(kind));

/** Whether nodes get rows of that kind. */
export function isForNodes(kind: Kind): boolean {
  return !LEADER_KINDS.has(kind);
}

/** One row put, or deleted with null. */
export type Change = { [K in Kind]: { kind: K; key: string; row: RowOf<K> | null } }[Kind];

/** A cluster has one id for ever, and a higher epoch each time that a backup of its state takes the state's place. */
export const ClusterIdentity = z.object({ id: Id, epoch: z.int().min(1) });
export type ClusterIdentity = z.infer<typeof ClusterIdentity>;

/** The networks that exist from the start. Nodes' own addresses and mesh VIPs are on `ingress`. */
export const INGRESS_NETWORK = "ingress";
export const DEFAULT_NETWORK = "default";
