// overlayctl service create: an image's containers, or, after `--`, a command's processes.
import { Command, Option } from "commander";
import type { Balancing, CreateService, ServiceNetwork } from "../api/schema.ts";
import type { PortWords } from "../lib/published-ports.ts";
import { registryAuthFor } from "../lib/registry-auth.ts";
import {
  collect,
  count,
  duration,
  publishedPorts,
  seconds,
  serviceNetwork,
  variable,
  weight,
  words,
} from "./arguments.ts";
import { bytes, commandLine, cpus, label, type MountWords, mount, variablesFile } from "./container-arguments.ts";
import type { Context } from "./context.ts";
import { addNamingOptions, host, type NamingOptions, type NamingWords, namingOf } from "./naming-options.ts";
import { addWaitOptions, converge, type WaitOptions } from "./service-wait.ts";
import { printWarnings } from "./service-warnings.ts";

interface CreateOptions extends WaitOptions, NamingOptions {
  host?: NamingOptions["addHost"];
  name: string;
  runtime?: "docker" | "process";
  replicas?: number;
  publish?: PortWords[];
  network?: ServiceNetwork[];
  dnsTtl?: number;
  env?: [string, string][];
  envFile?: [string, string][];
  workdir?: string;
  constraint?: string[];
  endpointMode?: "vip" | "dnsrr";
  scheduler?: Balancing["scheduler"];
  affinity?: Balancing["affinity"];
  affinityTimeout?: number;
  locality?: Balancing["locality"];
  weight?: [string, number][];
  label?: [string, string][];
  containerLabel?: [string, string][];
  mount?: MountWords[];
  limitMemory?: number;
  limitCpu?: number;
  user?: string;
  entrypoint?: string[];
  init?: true;
  capAdd?: string[];
  withRegistryAuth?: true;
  ingressSourceNat?: true;
  proxyProtocol?: true;
  stopGrace?: number;
  stopGracePeriod?: number;
}

/** Options that mean something to a container only. */
const CONTAINER_OPTIONS = [
  ["containerLabel", "--container-label"],
  ["mount", "--mount"],
  ["limitMemory", "--limit-memory"],
  ["limitCpu", "--limit-cpu"],
  ["user", "--user"],
  ["entrypoint", "--entrypoint"],
  ["init", "--init"],
  ["capAdd", "--cap-add"],
  ["withRegistryAuth", "--with-registry-auth"],
] as const satisfies [keyof CreateOptions, string][];

const HELP = `
IMAGE [COMMAND...] runs containers of the image, on nodes that have Docker.
-- COMMAND... runs the command as a process of the node; its programs and files are the node's.
--runtime says which of the two is meant where the -- should not.
`;

export function addServiceCreate(service: Command, context: Context): void {
  const create = service.command("create").argument("<image...>").usage("[options] IMAGE [COMMAND...] | -- COMMAND...");
  create
    .description("create a service; options stand before the image or the command")
    .requiredOption("--name <name>", "the service's name, and its name in DNS")
    .addOption(
      new Option("--runtime <runtime>", "docker: containers; process: processes of the node").choices([
        "docker",
        "process",
      ]),
    )
    .option("--replicas <count>", "how many tasks (default: 1)", count)
    .option(
      "-p, --publish <port>",
      "answer [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp] on every node; or target=80,published=8080,mode=host and so on",
      collect(publishedPorts),
    )
    .option("--ingress-source-nat", "tasks see their gateway as the client from outside: for those routed elsewhere")
    .addOption(new Option("--proxy-protocol", "refused; the message says what to do instead").hideHelp())
    .option(
      "--stop-grace <duration>",
      "what connections get to end before their task is stopped (default: 10s)",
      duration,
    )
    .option("--stop-grace-period <duration>", "what a task gets between SIGTERM and SIGKILL (default: 10s)", duration)
    .option(
      "--network <network>",
      "attach it to this network; name=NETWORK,alias=NAME gives it another name there (default: default)",
      collect(serviceNetwork),
    )
    .option("--dns-ttl <duration>", "how long DNS answers may be kept (default: 5s)", seconds)
    .option(
      "-e, --env <variable>",
      "set KEY=VALUE",
      collect((text) => variable(text, process.env)),
    )
    .option(
      "--env-file <file>",
      "set what the file says, KEY=VALUE a line",
      collect((path) => variablesFile(path, process.env)),
    )
    .option("-w, --workdir <directory>", "start its command there")
    .option("-l, --label <label>", "label the service: KEY=VALUE", collect(label))
    .option("--constraint <constraint>", "node.name==NAME or node.name!=NAME", collect(words))
    .addOption(
      new Option("--endpoint-mode <mode>", "one virtual address, or the tasks' by DNS (default: vip)").choices([
        "vip",
        "dnsrr",
      ]),
    )
    .addOption(
      new Option("--scheduler <name>", "how new connections are spread over tasks (default: rr)").choices([
        "rr",
        "wrr",
        "lc",
        "sh",
        "maglev",
      ]),
    )
    .option(
      "--weight <node=weight>",
      "of the tasks on this node; 1 where none is given",
      collect((text) => [weight(text)]),
    )
    .addOption(
      new Option("--affinity <kind>", "let a client keep its task (default: none)").choices(["none", "client-ip"]),
    )
    .option("--affinity-timeout <duration>", "until it has made no connection for so long (default: 3h)", seconds)
    .addOption(
      new Option("--locality <preference>", "whether tasks on the same node go first (default: any)").choices([
        "any",
        "prefer-local",
      ]),
    )
    .option("--container-label <label>", "label the containers: KEY=VALUE", collect(label))
    .option("--mount <mount>", "type=bind|volume|tmpfs,source=...,target=...[,readonly]", collect(mount))
    .option("--limit-memory <bytes>", "such as 512m", bytes)
    .option("--limit-cpu <cpus>", "such as 0.5", cpus)
    .option("-u, --user <user>", "run as USER[:GROUP]")
    .option("--entrypoint <command>", "instead of the image's", commandLine)
    .option("--init", "run an init that reaps children and hands signals on")
    .option("--cap-add <capability>", "such as NET_ADMIN", collect(words))
    .option("--with-registry-auth", "let the nodes pull the image with this user's credentials")
    .addHelpText("after", HELP)
    .passThroughOptions();
  addNamingOptions(create).option("--host <host:ip>", "as --add-host", collect(host));
  addWaitOptions(create);
  let isAfterDashes = false;
  // What commander hands to the action does not tell `-- COMMAND` from `COMMAND`.
  create.parseOptions = (argv) => {
    const result = Command.prototype.parseOptions.call(create, argv);
    isAfterDashes = result.operands.length > 0 && argv.at(-result.operands.length - 1) === "--";
    return result;
  };
  create.action(async (line: string[], options: CreateOptions) => {
    const isContainer = (options.runtime ?? (isAfterDashes ? "process" : "docker")) === "docker";
    const [, flag] = CONTAINER_OPTIONS.find(([name]) => options[name] !== undefined) ?? [];
    if (!isContainer && flag !== undefined)
      create.error(`error: ${flag} is for containers, and this service runs a process`);
    if (options.withRegistryAuth)
      context.err("warning: the credentials go to the manager and to the nodes that run the tasks unencrypted\n");
    const { id } = await context.api().createService({
      name: options.name,
      workload: isContainer ? containerOf(line, options) : processOf(line, options),
      labels: options.label && Object.fromEntries(options.label),
      replicas: options.replicas,
      ports: options.publish,
      ingressSourceNat: options.ingressSourceNat,
      proxyProtocol: options.proxyProtocol,
      stopGraceMs: options.stopGrace,
      networks: options.network,
      dnsTtlSeconds: options.dnsTtl,
      constraints: options.constraint,
      endpointMode: options.endpointMode,
      balancing: {
        scheduler: options.scheduler,
        affinity: options.affinity,
        affinityTimeoutSeconds: options.affinityTimeout,
        locality: options.locality,
        weights: options.weight && Object.fromEntries(options.weight),
      },
    });
    context.out(`${id}\n`);
    // Before the wait, which what they warn of may make long; and what came up in it.
    const said = await printWarnings(context, [id]);
    await converge(context, id, options);
    await printWarnings(context, [id], said);
  });
}

function processOf(command: string[], options: CreateOptions): CreateService["workload"] {
  return {
    runtime: "process",
    command,
    env: envOf(options),
    workdir: options.workdir,
    stopGracePeriodMs: options.stopGracePeriod,
    naming: namingFor(options),
  };
}

function containerOf([image, ...command]: string[], options: CreateOptions): CreateService["workload"] {
  return {
    runtime: "docker",
    image: image!,
    command,
    entrypoint: options.entrypoint,
    env: envOf(options),
    workdir: options.workdir,
    user: options.user,
    labels: options.containerLabel && Object.fromEntries(options.containerLabel),
    mounts: options.mount,
    memoryBytes: options.limitMemory,
    cpus: options.limitCpu,
    init: options.init,
    stopGracePeriodMs: options.stopGracePeriod,
    naming: namingFor(options),
    capAdd: options.capAdd,
    registryAuth: options.withRegistryAuth && registryAuthFor(image!, process.env),
  };
}

/** Docker's `service create` calls --add-host --host. */
function namingFor(options: CreateOptions): NamingWords | undefined {
  const { addHost = [], host: more = [] } = options;
  const all = [...addHost, ...more];
  return namingOf({ ...options, ...(all.length > 0 && { addHost: all }) });
}

/** What is said on the command line wins over files. */
function envOf({ env, envFile }: CreateOptions): Record<string, string> | undefined {
  return env === undefined && envFile === undefined
    ? undefined
    : Object.fromEntries([...(envFile ?? []), ...(env ?? [])]);
}
