// What a person can ask of the leader. The leader checks and carries out; every other node forwards.
import { z } from "zod";
import {
  list,
  MAX_ALIASES,
  MAX_CONSTRAINT,
  MAX_CONSTRAINTS,
  MAX_NETWORKS,
  MAX_PORTS,
  MAX_WORD,
  map,
  text,
} from "../lib/bounds.ts";
import { VXLAN_PORT } from "../lib/standard-ports.ts";
import { Balancing, DEFAULT_BALANCING } from "./balancing.ts";
import { Dns } from "./naming.ts";
import {
  Address,
  Alias,
  Attachment,
  DottedName,
  Id,
  MAX_IMAGE,
  MAX_LABEL,
  MAX_LABEL_KEY,
  MAX_LABELS,
  Mac,
  Name,
  Protocol,
  PublishedPort,
  Subnet,
} from "./schema.ts";
import { DEFAULT_STOP_GRACE_MS, ServiceSettings } from "./service-settings.ts";
import { LivenessMs } from "./settings.ts";
import { AuthorityPurpose, MAX_PEM, Role } from "./trust-rows.ts";
import { Workload } from "./workload.ts";

const Labels = map(
  z.string().max(MAX_LABEL_KEY, `a label's key has at most ${MAX_LABEL_KEY} characters`),
  z.string().max(MAX_LABEL, `a label has at most ${MAX_LABEL} characters`),
  MAX_LABELS,
);
/** A name or id. */
const Word = text(MAX_WORD);
/** A name or id, or that with aliases. */
const ServiceNetwork = z.union([
  Word.transform((name) => ({ name, aliases: [] })),
  z.strictObject({ name: Word, aliases: z.array(Alias).max(MAX_ALIASES, "at most 100 aliases").default([]) }),
]);
/** Earlier versions needed it for a mesh in user space. An older overlayctl may still send `false`. */
const NO_PROXY_PROTOCOL =
  "there is no PROXY protocol any more, and none is needed: through the mesh a task sees the client's own address, TCP and " +
  "UDP; leave the option out, and let the task expect no header";
const Port = z.int("not a port number").min(1, "a port is 1 to 65535").max(65535, "a port is 1 to 65535");

export const AskedPort = z.strictObject({
  /** null: the leader chooses one. */
  published: Port.nullable().default(null),
  target: Port,
  protocol: Protocol.default("tcp"),
  mode: PublishedPort.shape.mode,
  /** 0.0.0.0 is another word for all. */
  address: PublishedPort.shape.address.transform((address) => (address === "0.0.0.0" ? null : address)),
});
/** As checked. */
export type AskedPort = z.infer<typeof AskedPort>;
/** As a caller may write it. */
export type AskedPortInput = z.input<typeof AskedPort>;

export const Command = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("network.create"),
    name: DottedName,
    subnet: Subnet.optional(),
    internal: z.boolean().default(false),
    /** Left out: as the cluster's settings say. */
    encrypted: z.boolean().optional(),
  }),
  z.object({ type: z.literal("network.remove"), name: Word }),
  z.strictObject({
    ...ServiceSettings.shape,
    type: z.literal("service.create"),
    name: Name,
    workload: Workload,
    labels: Labels.default({}),
    /** None means `default`. */
    networks: list(ServiceNetwork, MAX_NETWORKS).default([]),
    balancing: z.strictObject(Balancing.shape).default(DEFAULT_BALANCING),
    ports: list(AskedPort, MAX_PORTS).default([]),
    proxyProtocol: z
      .boolean()
      .refine((asked) => !asked, NO_PROXY_PROTOCOL)
      .optional(),
    stopGraceMs: z.int().min(0).max(3_600_000, "at most an hour").default(DEFAULT_STOP_GRACE_MS),
    constraints: list(
      text(MAX_CONSTRAINT).regex(/^node\.name(==|!=).+$/, "a constraint is node.name==NAME or node.name!=NAME"),
      MAX_CONSTRAINTS,
    ).default([]),
  }),
  z.strictObject({
    type: z.literal("service.scale"),
    name: Word,
    replicas: ServiceSettings.shape.replicas.unwrap(),
  }),
  z.object({ type: z.literal("service.remove"), name: Word }),
  /** An address for a container that is no task. `node` is the asking node's id. */
  z.object({
    type: z.literal("endpoint.create"),
    node: Id,
    network: Word,
    name: DottedName.nullable().default(null),
    address: Address.optional(),
    dnsServers: Dns.shape.servers,
  }),
  z.object({ type: z.literal("endpoint.remove"), id: Word }),
  /** An address of a host behind a VTEP that is no node. */
  z.strictObject({
    type: z.literal("external.add"),
    network: Word,
    name: DottedName.nullable().default(null),
    address: Address,
    mac: Mac,
    vtep: Address,
    port: Port.default(VXLAN_PORT),
  }),
  z.object({ type: z.literal("external.remove"), name: Word }),
  /** A container or namespace of the asking node. */
  z.object({
    type: z.literal("attach"),
    node: Id,
    subject: Attachment.shape.subject,
    subjectName: text(MAX_WORD),
    image: text(MAX_IMAGE).nullable().default(null),
    /** null: the service's, or `default`. */
    network: Word.nullable().default(null),
    name: DottedName.nullable().default(null),
    aliases: z.array(Alias).max(MAX_ALIASES, "at most 100 aliases").default([]),
    /** As aliases, where no service has that name. */
    hostNames: list(Alias, MAX_ALIASES).default([]),
    address: Address.optional(),
    /** It becomes a task of this service, which is made when there is none. */
    service: Name.nullable().default(null),
    ports: list(AskedPort, MAX_PORTS).default([]),
  }),
  /** `id`: that of the endpoint or task that the container got. */
  z.object({ type: z.literal("detach"), id: Id }),
  z.strictObject({ type: z.literal("node.availability"), name: Word, availability: z.enum(["active", "drain"]) }),
  /** `force`: also while it is alive. */
  z.strictObject({ type: z.literal("node.remove"), name: Word, force: z.boolean().default(false) }),
  /** The node leaves, as it says itself: it is down at once. `node` is its id. */
  z.strictObject({ type: z.literal("node.leave"), node: Id }),
  /** The node becomes a manager, or a worker again. */
  z.strictObject({ type: z.literal("node.promote"), name: Word }),
  z.strictObject({ type: z.literal("node.demote"), name: Word }),
  /** New nodes of the role need the new token from now. */
  z.strictObject({ type: z.literal("token.rotate"), role: Role }),
  /** `expires`: when the certificate ends that the user gets. */
  z.strictObject({ type: z.literal("user.add"), name: Name, expires: z.int().min(0) }),
  z.strictObject({ type: z.literal("user.remove"), name: Word }),
  /** What is left out stays as it is. The pool and the domain are chosen once, when the cluster is made. */
  z.strictObject({
    type: z.literal("settings.update"),
    livenessMs: LivenessMs.optional(),
    workerWrites: z.boolean().optional(),
  }),
  /**
   * A certificate authority is changed in three steps: all take both; the new one issues; all take the new one alone. Before
   * the next step the one before is to be in force everywhere. `certificate`: the new authority's; `before`: the present one's;
   * `bridge`: the new key, signed by the authority before. The leader itself sends them (leader/authority-rotation.ts).
   */
  z.strictObject({
    type: z.literal("authority.rotate"),
    authority: AuthorityPurpose,
    step: z.discriminatedUnion("is", [
      z.strictObject({
        is: z.literal("begin"),
        certificate: text(MAX_PEM),
        before: text(MAX_PEM),
        bridge: text(MAX_PEM),
      }),
      z.strictObject({ is: z.literal("issue"), digest: Word }),
      z.strictObject({ is: z.literal("end"), certificate: text(MAX_PEM) }),
    ]),
  }),
]);
/** As checked. */
export type Command = z.infer<typeof Command>;
/** As a caller may write it, defaults left out. */
export type CommandInput = z.input<typeof Command>;

/** What a command brought about. */
export interface CommandResult {
  /** The revision at which it is in the state; wait for it with the applied barrier. */
  revision: number;
  /** The id of the row that was made, changed or removed. */
  id: string;
}
