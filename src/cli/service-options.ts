// The options of `overlayctl service create`, one row each, with the field of the service that it sets. A new one is a row
// here, a field in cluster/commands.ts and cluster/schema.ts, and the place that uses it.
import type { CreateService } from "../api/schema.ts";
import { count, duration, publishedPorts, seconds, serviceNetwork, variable, weight } from "./arguments.ts";
import { bytes, commandLine, cpus, label, mount, variablesFile } from "./container-arguments.ts";
import { host, NAMING_OPTIONS, type NamingField } from "./naming-options.ts";
import type { RequestOption } from "./request-options.ts";

type Container = Extract<CreateService["workload"], { runtime: "docker" }>;
type Process = Extract<CreateService["workload"], { runtime: "process" }>;
type BalancingField = `balancing.${keyof NonNullable<CreateService["balancing"]>}`;
type ServiceField = Exclude<keyof CreateService, "workload" | "balancing"> | BalancingField;
/** The fields that a process and a container have. */
type WorkloadField = `workload.${Exclude<keyof Process, "runtime" | "naming"> | `naming.${NamingField}`}`;
type ContainerField = `workload.${Exclude<keyof Container, keyof Process>}`;

export const SERVICE_OPTIONS: readonly RequestOption<ServiceField>[] = [
  {
    flags: "--name <name>",
    help: "the service's name, and its name in DNS",
    field: "name",
    required: true,
  },
  { flags: "--replicas <count>", help: "how many tasks (default: 1)", field: "replicas", read: count },
  {
    flags: "-p, --publish <port>",
    help: "answer [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp] on every node; or target=80,published=8080,mode=host and so on",
    field: "ports",
    read: publishedPorts,
    several: "list",
  },
  {
    flags: "--ingress-source-nat",
    help: "tasks see their gateway as the client from outside: for tasks whose replies would go another way",
    field: "ingressSourceNat",
  },
  {
    flags: "--proxy-protocol",
    help: "refused; the message says what to do instead",
    field: "proxyProtocol",
    hidden: true,
  },
  {
    flags: "--stop-grace <duration>",
    help: "what connections get to end before their task is stopped (default: 10s)",
    field: "stopGraceMs",
    read: duration,
  },
  {
    flags: "--network <network>",
    help: "attach it to this network; name=NETWORK,alias=NAME gives it another name there (default: default)",
    field: "networks",
    read: serviceNetwork,
    several: "list",
  },
  {
    flags: "--dns-ttl <duration>",
    help: "how long DNS answers may be kept (default: 5s)",
    field: "dnsTtlSeconds",
    read: seconds,
  },
  {
    flags: "-l, --label <label>",
    help: "label the service: KEY=VALUE",
    field: "labels",
    read: label,
    several: "map",
  },
  {
    flags: "--constraint <constraint>",
    help: "node.name==NAME or node.name!=NAME",
    field: "constraints",
    several: "list",
  },
  {
    flags: "--endpoint-mode <mode>",
    help: "one virtual address, or the tasks' by DNS (default: vip)",
    field: "endpointMode",
    choices: ["vip", "dnsrr"],
  },
  {
    flags: "--scheduler <name>",
    help: "how new connections are spread over tasks (default: rr)",
    field: "balancing.scheduler",
    choices: ["rr", "wrr", "lc", "sh", "maglev"],
  },
  {
    flags: "--weight <node=weight>",
    help: "weight of the tasks on this node; 1 where none is given",
    field: "balancing.weights",
    read: (text) => [weight(text)],
    several: "map",
  },
  {
    flags: "--affinity <kind>",
    help: "let a client keep its task (default: none)",
    field: "balancing.affinity",
    choices: ["none", "client-ip"],
  },
  {
    flags: "--affinity-timeout <duration>",
    help: "how long a client without a connection keeps its task (default: 3h)",
    field: "balancing.affinityTimeoutSeconds",
    read: seconds,
  },
  {
    flags: "--locality <preference>",
    help: "whether tasks on the same node go first (default: any)",
    field: "balancing.locality",
    choices: ["any", "prefer-local"],
  },
];

/** The options of what tasks run. A variable of the command line wins over one of a file. */
export const WORKLOAD_OPTIONS: readonly RequestOption<WorkloadField>[] = [
  {
    flags: "--env-file <file>",
    help: "set what the file says, KEY=VALUE a line",
    field: "workload.env",
    read: (path) => variablesFile(path, process.env),
    several: "map",
  },
  {
    flags: "-e, --env <variable>",
    help: "set KEY=VALUE",
    field: "workload.env",
    read: (text) => variable(text, process.env),
    several: "map",
  },
  { flags: "-w, --workdir <directory>", help: "start its command there", field: "workload.workdir" },
  {
    flags: "--stop-grace-period <duration>",
    help: "what a task gets between SIGTERM and SIGKILL (default: 10s)",
    field: "workload.stopGracePeriodMs",
    read: duration,
  },
  // `docker service create` has this name for --add-host.
  {
    flags: "--host <host:ip>",
    help: "as --add-host",
    field: "workload.naming.hosts",
    read: host,
    several: "list",
  },
  ...NAMING_OPTIONS.map((row) => ({ ...row, field: `workload.naming.${row.field}` as const })),
];

/** The options that apply to containers only. */
export const CONTAINER_OPTIONS: readonly RequestOption<ContainerField>[] = [
  {
    flags: "--container-label <label>",
    help: "label the containers: KEY=VALUE",
    field: "workload.labels",
    read: label,
    several: "map",
  },
  {
    flags: "--mount <mount>",
    help: "type=bind|volume|tmpfs,source=...,target=...[,readonly]",
    field: "workload.mounts",
    read: mount,
    several: "list",
  },
  { flags: "--limit-memory <bytes>", help: "such as 512m", field: "workload.memoryBytes", read: bytes },
  { flags: "--limit-cpu <cpus>", help: "such as 0.5", field: "workload.cpus", read: cpus },
  { flags: "-u, --user <user>", help: "run as USER[:GROUP]", field: "workload.user" },
  { flags: "--entrypoint <command>", help: "instead of the image's", field: "workload.entrypoint", read: commandLine },
  { flags: "--init", help: "run an init that reaps children and hands signals on", field: "workload.init" },
  { flags: "--cap-add <capability>", help: "such as NET_ADMIN", field: "workload.capAdd", several: "list" },
  {
    flags: "--with-registry-auth",
    help: "let the nodes pull the image with this user's credentials",
    field: "workload.registryAuth",
  },
];
