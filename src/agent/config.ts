// The agent's configuration file: YAML, checked with zod. A mistake names the line, the field and what is wrong.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { type Document, isMap, isNode, LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { Address, Name } from "../cluster/schema.ts";
import { DEFAULT_NEW_FLOWS_PER_SECOND } from "../datapath/engine.ts";
import { DEFAULT_ETCD_BINARY, ETCD_CLIENT_PORT } from "../leader/etcd-command.ts";
import { ConfigError, messageOf } from "../lib/errors.ts";
import { AddressPort, HostPort } from "../lib/host-port.ts";
import { didYouMean } from "../lib/nearest.ts";
import { SEALED_PORT, STORE_PEER_PORT, VXLAN_PORT } from "../lib/standard-ports.ts";
import { DOCKER_SOCKET } from "../runtime/docker-engine.ts";
import { DnsSection } from "./dns-section.ts";

/** sockaddr_un holds 108 bytes, the closing zero among them (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;

const Port = z.int("not a port number").min(1, "a port is 1 to 65535").max(65535, "a port is 1 to 65535");
const AbsolutePath = z.string().startsWith("/", "an absolute path is needed");
const SocketPath = AbsolutePath.refine(
  (path) => Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES,
  `a socket's path has at most ${MAX_SOCKET_PATH_BYTES} bytes`,
);

const OnOff = z
  .union([z.boolean(), z.enum(["on", "off"])], "on or off is needed")
  .default(true)
  .transform((value) => value === true || value === "on");

const NodeSection = z.strictObject({
  /** Default: the first label of the host's name. */
  name: Name.default(() => hostname().split(".")[0]!),
  /** The VTEP. Left out: the address of the default route's link, which the caller finds. */
  address: Address.optional(),
});

/** How a node that is in no cluster joins one by itself. */
const JoinSection = z.strictObject({
  /** A manager of it. */
  address: HostPort,
  /** What 'overlayctl join-token' prints there. It is read at each attempt, so that it may come later. */
  tokenFile: AbsolutePath,
});

/** The store of several managers. */
const EtcdSection = z
  .strictObject({
    /** The program that this manager runs as its etcd. */
    binary: z.string().min(1, "a program is needed").default(DEFAULT_ETCD_BINARY),
    /** Where this manager's etcd answers on loopback. */
    port: Port.default(ETCD_CLIENT_PORT),
    /** An etcd that is there already, HOST:PORT of each; then the managers run none. */
    endpoints: z.array(HostPort).min(1, "at least one is needed").optional(),
    /** In PEM, for an etcd that is there already. */
    ca: AbsolutePath.optional(),
    certificate: AbsolutePath.optional(),
    key: AbsolutePath.optional(),
  })
  .refine((etcd) => etcd.endpoints === undefined || (etcd.ca && etcd.certificate && etcd.key), {
    error: "'endpoints' need 'ca', 'certificate' and 'key', each a file in PEM",
    path: ["endpoints"],
  });

const ClusterSection = z
  .strictObject({
    /** Where this node answers others when it is a manager. Left out: at its address, port 2377. */
    listen: AddressPort.optional(),
    /** Where nodes reach this manager, if not at `listen`. */
    advertise: AddressPort.optional(),
    join: JoinSection.optional(),
    /** Where the passphrase is that unlocks a manager's CA keys. Left out: in a file beside them. */
    passphrase: z
      .union(
        [z.strictObject({ file: AbsolutePath }), z.strictObject({ env: z.string() })],
        "{file: PATH} or {env: NAME} is needed",
      )
      .optional(),
    etcd: EtcdSection.prefault({}),
  })
  .refine(({ advertise }) => advertise?.host !== "0.0.0.0", {
    error: "nodes cannot reach 0.0.0.0: an address of this manager is needed",
    path: ["advertise"],
  });

const ConfigFile = z.strictObject({
  node: NodeSection.default(() => NodeSection.parse({})),
  cluster: ClusterSection.prefault({}),
  vxlan: z
    .strictObject({
      port: Port.default(VXLAN_PORT),
      /** Where packets of encrypted networks come, over UDP. An IKE daemon of the host may have the usual one. */
      sealedPort: Port.default(SEALED_PORT),
      /** Where peers agree on keys with this node, over TCP. */
      keyPort: Port.default(VXLAN_PORT),
      /** The overlay's MTU. Left out: the underlay link's, less the encapsulation. */
      mtu: z.int().min(576, "at least 576 is needed (RFC 791)").max(65_485, "at most 65485 fit").optional(),
    })
    .refine(({ port, sealedPort }) => port !== sealedPort, {
      error: "packets that are encrypted come to that port, 'vxlan.sealedPort': two ports are needed",
      path: ["port"],
    })
    .refine(({ keyPort }) => keyPort !== STORE_PEER_PORT, {
      error: `TCP ${STORE_PEER_PORT} is for the store of several managers`,
      path: ["keyPort"],
    })
    .prefault({}),
  mesh: OnOff,
  /** Whether containers reach what this node's own processes serve on its addresses. */
  nodeServices: OnOff,
  dataDir: AbsolutePath.default("/var/lib/overlayd"),
  socket: SocketPath.default("/run/overlayd/overlayd.sock"),
  device: z
    .string()
    .regex(/^[a-zA-Z0-9_.-]{1,15}$/, "a link's name has 1 to 15 letters, digits, '_', '.' or '-'")
    .default("overlay0"),
  log: z
    .strictObject({ level: z.enum(["debug", "info", "warn", "error", "silent"]).default("info") })
    .default({ level: "info" }),
  datapath: z
    .strictObject({
      workers: z.int().min(1, "1 to 16 threads").max(16, "1 to 16 threads").optional(),
      underlay: z.enum(["auto", "batched", "dgram"]).default("auto"),
      spinMicros: z.int().min(0, "0 to 1000 microseconds").max(1000, "0 to 1000 microseconds").optional(),
      /** How far the threads go before ordinary programs: the nice value, less its sign. */
      priority: z.int().min(0, "0 to 20").max(20, "0 to 20").default(10),
      /** How many flows the table holds, 277 bytes each. */
      flows: z
        .int()
        .min(1024, "at least 1024 flows are needed")
        .max(4_194_304, "at most 4194304 flows are held")
        .default(262_144),
      /** Whether established flows of containers are carried by the kernel, where it can. */
      express: z.enum(["auto", "off"]).default("auto"),
      /** How many directions of flows the kernel carries, 184 bytes each. Left out: two for each of `flows`. */
      expressFlows: z
        .int()
        .min(1024, "at least 1024 entries are needed")
        .max(8_388_608, "at most 8388608 entries are held")
        .optional(),
      /** How many connections one container may begin. */
      newFlowsPerSecond: z
        .int()
        .min(100, "at least 100 a second are needed")
        .max(10_000_000, "at most 10000000 a second are counted")
        .default(DEFAULT_NEW_FLOWS_PER_SECOND),
      /** The flow table's file. By default it is in /run/overlayd or /dev/shm/overlayd, on tmpfs with room, else in dataDir. */
      flowFile: AbsolutePath.optional(),
    })
    .prefault({}),
  docker: z.strictObject({ socket: SocketPath.default(DOCKER_SOCKET) }).default({ socket: DOCKER_SOCKET }),
  dns: DnsSection,
});

/** Fields of earlier versions, by their paths, with what takes their place. */
const MOVED = new Map([
  [
    "pool",
    "the pool belongs to the cluster now: remove this line, and give it to the first manager with 'overlayctl init --pool'",
  ],
  [
    "dns.domain",
    "the domain belongs to the cluster now: remove this line, and give it to the first manager with 'overlayctl init --domain'",
  ],
  [
    "cluster.sessionTimeout",
    "the timeout belongs to the cluster now: remove this line, and give it to the first manager with 'overlayctl init --session-timeout'",
  ],
  [
    "cluster.managers",
    "a node is told where managers are when it joins: remove this line, and run 'overlayctl join ADDRESS --token T' once on this node, or set cluster.join to {address, tokenFile}",
  ],
]);

/** The configuration, checked and with its defaults. */
export type Config = z.output<typeof ConfigFile>;

/** Reads and checks a configuration file. Throws ConfigError. */
export function loadConfig(path: string): Config {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new ConfigError("--config", `cannot read the file: ${messageOf(cause)}`, { cause });
  }
  return parseConfig(text);
}

/** As loadConfig, on the file's text. */
export function parseConfig(text: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) {
    throw new ConfigError("YAML", broken.message, { line: lines.linePos(broken.pos[0]).line, cause: broken });
  }
  const value = withoutEmpty(document.toJS() ?? {}, ConfigFile);
  const result = ConfigFile.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = describeIssue(firstIssueOf(result.error.issues), value);
  throw new ConfigError(path.join(".") || "file", message, { line: lineOf(document, lines, path) });
}

/** A field with nothing behind it is left out: a section in which every line is a comment. */
function withoutEmpty(value: unknown, schema: unknown): unknown {
  const shape = shapeOf(schema);
  if (shape === undefined || typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, inner]) => inner !== null || !Object.hasOwn(shape, key))
      .map(([key, inner]) => [key, withoutEmpty(inner, shape[key])]),
  );
}

/** The message for a person: `FILE:LINE: FIELD: what is wrong`. */
export function describeConfigError(path: string, error: ConfigError): string {
  return `${error.line === undefined ? path : `${path}:${error.line}`}: ${error.message}`;
}

/** A field that is not known explains one that is missing, so it comes first. */
function firstIssueOf(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  return issues.find((issue) => issue.code === "unrecognized_keys") ?? issues[0]!;
}

function describeIssue(issue: z.core.$ZodIssue, file: unknown): { path: PropertyKey[]; message: string } {
  if (issue.code === "unrecognized_keys") {
    const key = issue.keys[0]!;
    const path = [...issue.path, key];
    const moved = MOVED.get(path.join("."));
    if (moved !== undefined) return { path, message: moved };
    const near = didYouMean(key, knownFields(issue.path));
    return { path, message: `no such field${near}` };
  }
  const value = valueAt(file, issue.path);
  if (issue.code === "invalid_value" && typeof value === "string") {
    const allowed = issue.values.map(String);
    return { path: issue.path, message: `'${value}' is not one of ${allowed.join(", ")}${didYouMean(value, allowed)}` };
  }
  const message = issue.message.startsWith(ZOD_WORDS) ? neededOf(issue) : issue.message;
  if (value === undefined || value === null) return { path: issue.path, message: `missing: ${message}` };
  if (typeof value === "object" || message.startsWith("'")) return { path: issue.path, message };
  const verb = message.startsWith("not ") ? " is" : ":";
  return { path: issue.path, message: `'${value}'${verb} ${message}` };
}

/** How zod begins where the schema has no words of its own. */
const ZOD_WORDS = "Invalid input: expected";
const NEEDED: Readonly<Record<string, string>> = {
  array: "a list is needed",
  record: "keys with values are needed",
  object: "fields with values are needed",
  string: "text is needed, in quotes if it looks like something else",
  number: "a number is needed",
  int: "a whole number is needed",
};

function neededOf(issue: z.core.$ZodIssue): string {
  return (issue.code === "invalid_type" ? NEEDED[issue.expected] : undefined) ?? issue.message;
}

function knownFields(path: readonly PropertyKey[]): string[] {
  let schema: unknown = ConfigFile;
  for (const key of path) schema = shapeOf(schema)?.[String(key)];
  return Object.keys(shapeOf(schema) ?? {});
}

/** The fields of an object schema, under whatever wraps it. */
function shapeOf(schema: unknown): Record<string, unknown> | undefined {
  if (schema instanceof z.ZodObject) return schema.shape;
  const isWrapped =
    schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional;
  if (isWrapped) return shapeOf(schema.unwrap());
  if (schema instanceof z.ZodPipe) return shapeOf(schema.in);
  return undefined;
}

function valueAt(file: unknown, path: readonly PropertyKey[]): unknown {
  let value = file;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** The line of a field: of its key where it has one, else of the nearest that holds it. */
function lineOf(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number | undefined {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = depth === 1 ? document.contents : document.getIn(path.slice(0, depth - 1), true);
    const last = path[depth - 1];
    const key = isMap(parent) ? parent.items.find((item) => String(item.key) === last)?.key : undefined;
    const node = key ?? document.getIn(path.slice(0, depth), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return isNode(document.contents) && document.contents.range
    ? lines.linePos(document.contents.range[0]).line
    : undefined;
}
