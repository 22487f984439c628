// What the local API takes and answers. The leader checks what a person asks of the cluster; what a person asks of this
// node is checked here.
import { z } from "zod";
import type { CommandInput } from "../cluster/commands.ts";
import type { NamingInput } from "../cluster/naming.ts";
import type { Network, Node, PublishedPort, Service, TaskState } from "../cluster/schema.ts";
import type { Role } from "../cluster/trust-rows.ts";
import type { Workload } from "../cluster/workload.ts";
import { list, MAX_ARGUMENT, MAX_ARGUMENTS, MAX_PORTS, text } from "../lib/bounds.ts";

/** Text of a request; closer bounds are checked where it is used. */
const Text = text(MAX_ARGUMENT);

/** A command without its type. */
type BodyOf<T extends CommandInput["type"]> = Omit<Extract<CommandInput, { type: T }>, "type">;
export type CreateNetwork = BodyOf<"network.create">;
export type CreateService = BodyOf<"service.create">;
export type AddExternal = BodyOf<"external.add">;
/** A name, an id or the beginning of one; with aliases, which are the service's other names there. */
export type ServiceNetwork = NonNullable<CreateService["networks"]>[number];

/** A port to publish. The leader chooses `published` when it is null or left out. */
const AskedPort = z.strictObject({
  published: z.number().nullable().optional(),
  target: z.number(),
  protocol: z.enum(["tcp", "udp"]).optional(),
  mode: z.enum(["ingress", "host"]).optional(),
  address: Text.nullable().optional(),
});

/** `force` makes the node leave even when it has tasks, or when no leader could give its state back. */
/** Whether flows may go in this node's express lane. */
export const Express = z.strictObject({ on: z.boolean("true or false is needed") });
export type Express = z.output<typeof Express>;

export const Leave = z.strictObject({ force: z.boolean().default(false) });
export type Leave = z.input<typeof Leave>;
export interface LeaveView {
  /** Why the leader has not heard that the node leaves; null: it has, or there is none to hear. */
  unheard: string | null;
}

/** `force` removes a node that is up too. */
export const RemoveNode = z.strictObject({ force: z.stringbool().default(false) });

/** `pid` is the client's process: a sandbox whose process is gone may be removed. */
export const OpenSandbox = z.strictObject({
  network: Text,
  name: Text.nullable(),
  pid: z.int().min(1),
  /** Its hostname, and where it looks for names. */
  naming: z
    .custom<NamingInput>((value) => typeof value === "object" && value !== null, "an object is needed")
    .optional(),
});
export type OpenSandbox = z.infer<typeof OpenSandbox>;

/** `subject`: a container's name or id, or a network namespace's name. */
export const Attach = z.strictObject({
  subject: Text.min(1),
  network: Text.nullable().default(null),
  name: Text.nullable().default(null),
  aliases: list(Text, MAX_ARGUMENTS).default([]),
  address: Text.nullable().default(null),
  service: Text.nullable().default(null),
  ports: list(AskedPort, MAX_PORTS).default([]),
});
export type Attach = z.input<typeof Attach>;
export type CheckedAttach = z.output<typeof Attach>;

/** `network`: the only one that the container is taken off; null: all. */
export const Detach = z.strictObject({ subject: Text.min(1), network: Text.nullable() });
export type Detach = z.infer<typeof Detach>;

export const WaitApplied = z.strictObject({ revision: z.int().min(0), timeoutMs: z.int().min(0).max(60_000) });
export type WaitApplied = z.infer<typeof WaitApplied>;

export const ProgressQuery = z.strictObject({
  /** The token of the progress that the client has seen. */
  unless: text(64).optional(),
  /** How long the answer waits for another progress than that. */
  waitMs: z.coerce.number().int().min(0).max(60_000).default(0),
});
export type ProgressQuery = z.output<typeof ProgressQuery>;

export const FlowFilter = z.strictObject({
  service: Text.optional(),
  /** An address or a task's name, on either side of the flow. */
  endpoint: Text.optional(),
  limit: z.coerce.number().int().min(1, "at least 1").max(100_000, "at most 100000").default(1000),
});
export type FlowFilter = z.infer<typeof FlowFilter>;

export const LogFilter = z.strictObject({
  /** Whether the log goes on with what the task prints from now. */
  follow: z.stringbool().default(false),
  /** The number of last lines; null: all. */
  tail: z.coerce.number().int().min(0).nullable().default(null),
  /** The earliest time that the log has, in wall-clock milliseconds; null: all. */
  since: z.coerce.number().min(0).nullable().default(null),
});
export type LogFilter = z.infer<typeof LogFilter>;

/** The thing that a command made or changed. */
export interface Written {
  id: string;
  name: string;
  revision: number;
}

export interface StatusView {
  version: string;
  node: string;
  /** `waiting`: the node is in no cluster, and its agent waits for `init` or `join`. */
  phase: "waiting" | "running";
  /** null: the node is in no cluster. */
  role: Role | null;
  /** The revision of this node's state. */
  revision: number;
  /** The leading node's name; null when none is known. */
  leader: string | null;
  /** Whether this node has a session with it now. */
  connected: boolean;
  /** Why it has no session, or what keeps it from being the manager that it is; null: nothing. */
  problem: string | null;
  /** The id of this node's cluster; null for a state without one. */
  cluster: string | null;
  /** HOST:PORT of each manager of the cluster, as this node has heard last. */
  managers: string[];
}

export interface NetworkView extends Network {
  services: { name: string; vip: string | null }[];
  /** Tasks and other endpoints. */
  endpoints: { id: string; name: string | null; address: string; node: string | null }[];
}

export type PortView = PublishedPort;

/** What tasks run, without what is secret. */
export type WorkloadView =
  | Extract<Workload, { runtime: "process" }>
  | Omit<Extract<Workload, { runtime: "docker" }>, "registryAuth">;

export interface ServiceView extends Omit<Service, "workload" | "networks" | "vips" | "aliases"> {
  /** `attached`: it has only containers that were attached to it, and `replicas` is their number. */
  mode: "replicated" | "attached";
  /** Tasks that run, on nodes that are ready. */
  running: number;
  /** null: its tasks are not containers of an image. */
  image: string | null;
  command: string[];
  /** null: it has only containers that were attached to it. */
  workload: WorkloadView | null;
  networks: { id: string; name: string; vip: string | null; aliases: string[] }[];
  /** What a person should know, such as a node that leaves a port to a process of its own. */
  warnings: string[];
}

export interface TaskView {
  id: string;
  /** SERVICE.SLOT */
  name: string;
  service: string;
  slot: number;
  /** null: the task is a process. */
  image: string | null;
  command: string[];
  node: string | null;
  /** Whether its node is ready, as the leader judges; false without a node. */
  nodeReady: boolean;
  desired: "running" | "draining" | "shutdown";
  state: TaskState;
  /** When it came into this state. */
  since: number;
  /** Why it is not running. */
  error: string | null;
  exitCode: number | null;
  /** What it is doing before it runs, such as pulling its image. */
  message: string | null;
  restarts: number;
  addresses: { network: string; address: string }[];
  /** Ports in host mode, which its node answers for it. */
  ports: PortView[];
  createdAt: number;
}

/** A service's tasks, all of one snapshot. */
export interface ProgressView {
  revision: number;
  replicas: number;
  tasks: TaskView[];
  /** A task that is running has been seen to take connections. */
  provesReady: boolean;
  /** A digest of the rest without the revision: it differs when the progress does. */
  token: string;
}

export interface NodeView extends Node {
  leader: boolean;
  /** Tasks that are to run there. */
  tasks: number;
  /** Whether it is the node that answers. */
  self: boolean;
}

/** Another node, as this node's data path sees it. */
export interface PeerView {
  name: string;
  address: string;
  state: "up" | "down" | "init";
  reason: string | null;
  rttMs: number | null;
  /** The largest IP packet of the overlay, in bytes, that reaches the peer whole, as measured; null: not known. */
  mtu: number | null;
  /** Whether flows toward it go in the express lane. */
  lane: "on" | "off";
  /** Why the lane is off, in a word, such as "older-agent"; null: it is on. */
  laneReason: string | null;
  /**
   * How segments from it reach containers: "at-once", or "by-link" where they come singly, and the containers' links join them. null: by
   * the agent.
   */
  laneDelivery: "at-once" | "by-link" | null;
  /** Whether this node has keys to seal packets for it. */
  sealed: "on" | "off";
  /** Why there are no keys, or none newer; null: all is well. */
  sealedReason: string | null;
  /** Milliseconds since the keys were agreed on, and how often others took their place since the agent's start; null: there are none. */
  keysAgeMs: number | null;
  rekeys: number | null;
  /** Sealed packets to it and from it, with the keys of this time that it is a peer. */
  sealedPackets: number;
  openedPackets: number;
  /** Packets of its keys that were not genuine, and those that came again or too late. They were dropped. */
  badSeals: number;
  replayed: number;
  rxPackets: number;
  txPackets: number;
  rxBytes: number;
  txBytes: number;
  tasks: number;
  /** When its certificate ends, wall-clock milliseconds; null: it has none. */
  certificateExpires: number | null;
}

/** The keys between this node and a peer, for a program that decrypts a capture. They change hourly. */
export interface ExportedKeys {
  /** The UDP port that sealed packets go to, on this node and on the peer. */
  ports: [own: number, peer: number];
  associations: {
    /** Addresses of the outer packets. */
    source: string;
    destination: string;
    spi: number;
    /** In hexadecimal: the AES-256 key and the salt behind it (RFC 4106). */
    key: string;
  }[];
}

export interface FlowView {
  protocol: string;
  /** ADDRESS:PORT */
  client: string;
  /** Where the client sent its packets: ADDRESS:PORT, perhaps of a VIP. */
  destination: string;
  /** Where they go; the destination again when nothing is rewritten. */
  target: string;
  service: string | null;
  task: string | null;
  node: string | null;
  state: string;
  /** The ends whose packets go in the express lane on this node; null: neither. */
  lane: "both" | "client" | "server" | null;
  ageMs: number;
  packets: number;
  bytes: number;
}

export interface StatsView {
  datapath: Record<string, number>;
  /** Packets dropped, by reason. */
  drops: Record<string, number>;
  dns: Record<string, number>;
}

export interface SandboxView {
  id: string;
  /** Its name under /run/netns. */
  netns: string;
  address: string;
}

export interface AttachedView {
  id: string;
  addresses: string[];
}

/** A thing that has an address on a network; or a container of this node that asks for one and does not get it. */
export interface EndpointView {
  /** null: the container was refused. */
  id: string | null;
  /** The name of the container, namespace or task, or the one that a person gave. */
  name: string | null;
  kind: "task" | "run" | "attached" | "external" | "refused";
  image: string | null;
  network: string | null;
  address: string | null;
  node: string | null;
  /** The VTEP that an external endpoint is behind, ADDRESS:PORT. */
  vtep: string | null;
  mac: string | null;
  service: string | null;
  /** null: no agent watches it. */
  state: TaskView["state"] | null;
  error: string | null;
}
