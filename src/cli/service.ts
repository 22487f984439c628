// overlayctl service
import { Argument, type Command, Option } from "commander";
import type { PortView, ServiceView, TaskView } from "../api/schema.ts";
import { collect, count, duration, publishedPorts, scaling, variable, words } from "./arguments.ts";
import { type Context, forEachName, inspect } from "./context.ts";
import { capital, formatAgo, formatCommand, formatPorts, shortId } from "./format.ts";
import { addListingOptions, type Listing, type ListingOptions, printListing } from "./listing.ts";
import { awaitConverged } from "./progress.ts";

interface WaitOptions {
  detach?: true;
  quiet?: true;
  timeout?: number;
}

interface CreateOptions extends WaitOptions {
  name: string;
  replicas?: number;
  publish?: PortView[];
  network?: string[];
  env?: [string, string][];
  workdir?: string;
  constraint?: string[];
  endpointMode?: "vip" | "dnsrr";
}

export function addServiceCommands(program: Command, context: Context): void {
  const service = program.command("service").description("manage services");
  addCreate(service, context);

  addListingOptions(service.command("ls").alias("list").description("list services"), {
    quiet: true,
    trunc: true,
  }).action(async (options: ListingOptions) => {
    printListing(context, options, await context.api().services(), serviceListing(options.trunc));
  });

  addListingOptions(service.command("ps <service...>").description("list the tasks of services"), {
    quiet: true,
    trunc: true,
  }).action(async (names: string[], options: ListingOptions) => {
    const tasks: TaskView[] = [];
    try {
      await forEachName(context, names, async (name) => {
        tasks.push(...(await context.api().tasks(name)));
      });
    } finally {
      printListing(context, options, tasks, taskListing(tasks, options.trunc, context.now()));
    }
  });

  service
    .command("inspect <service...>")
    .description("show services, as JSON")
    .option("--json", "print JSON, as it does anyway")
    .action((names: string[]) => inspect(context, names, (name) => context.api().service(name)));

  addWaitOptions(
    service
      .command("scale")
      .description("set how many tasks services have")
      .addArgument(new Argument("<service=replicas...>").argParser(collect((text) => [scaling(text)]))),
  ).action(async (scalings: { name: string; replicas: number }[], options: WaitOptions) => {
    await forEachName(
      context,
      scalings.map(({ name }) => name),
      async (name) => {
        const { replicas } = scalings.findLast((scaling) => scaling.name === name)!;
        const scaled = await context.api().scaleService(name, replicas);
        context.out(`${scaled.name} scaled to ${replicas}\n`);
        await converge(context, scaled.name, options);
      },
    );
  });

  service
    .command("rm <service...>")
    .alias("remove")
    .description("remove services and stop their tasks")
    .action((names: string[]) =>
      forEachName(context, names, async (asked) => {
        const { name } = await context.api().removeService(asked);
        context.out(`${name}\n`);
      }),
    );
}

function addCreate(service: Command, context: Context): void {
  const create = service
    .command("create <command...>")
    .description("create a service; options stand before its command")
    .requiredOption("--name <name>", "the service's name, and its name in DNS")
    .option("--replicas <count>", "how many tasks (default: 1)", count)
    .option("-p, --publish <port>", "answer PUBLISHED:TARGET[/tcp|udp] on every node", collect(publishedPorts))
    .option("--network <network>", "attach it to this network (default: default)", collect(words))
    .option(
      "-e, --env <variable>",
      "set KEY=VALUE",
      collect((text) => [...variable(text, process.env)]),
    )
    .option("-w, --workdir <directory>", "start its command there")
    .option("--constraint <constraint>", "node.name==NAME or node.name!=NAME", collect(words))
    .addOption(
      new Option("--endpoint-mode <mode>", "one virtual address, or the tasks' by DNS (default: vip)").choices([
        "vip",
        "dnsrr",
      ]),
    )
    .passThroughOptions();
  addWaitOptions(create).action(async (command: string[], options: CreateOptions) => {
    const { id } = await context.api().createService({
      name: options.name,
      command,
      replicas: options.replicas,
      ports: options.publish,
      networks: options.network,
      env: options.env === undefined ? undefined : Object.fromEntries(options.env),
      workdir: options.workdir,
      constraints: options.constraint,
      endpointMode: options.endpointMode,
    });
    context.out(`${id}\n`);
    await converge(context, id, options);
  });
}

function addWaitOptions(command: Command): Command {
  return command
    .option("-d, --detach", "return at once")
    .option("-q, --quiet", "show no progress")
    .option("--timeout <duration>", "fail when it has not converged by then, such as 30s", duration);
}

async function converge(context: Context, service: string, { detach, quiet, timeout }: WaitOptions): Promise<void> {
  if (detach === true) return;
  const stopWatching = context.onInterrupt(() => {
    context.err(`\nOperation continuing in background.\nUse \`overlayctl service ps ${service}\` to check progress.\n`);
  });
  try {
    await awaitConverged(quiet === true ? { ...context, out: () => {} } : context, service, timeout);
  } finally {
    stopWatching();
  }
}

function serviceListing(truncate: boolean): Listing<ServiceView> {
  const id = (row: ServiceView) => shortId(row.id, truncate);
  return {
    id,
    columns: [
      { header: "ID", value: id },
      { header: "NAME", value: (row) => row.name },
      { header: "MODE", value: (row) => row.mode },
      { header: "REPLICAS", value: (row) => `${row.running}/${row.replicas}` },
      { header: "IMAGE", value: (row) => formatCommand(row.command, truncate) },
      { header: "PORTS", value: (row) => formatPorts(row.ports) },
    ],
  };
}

function taskListing(tasks: readonly TaskView[], truncate: boolean, now: number): Listing<TaskView> {
  const newest = new Set(new Map(tasks.toReversed().map((task) => [task.name, task])).values());
  const id = (row: TaskView) => shortId(row.id, truncate);
  return {
    id,
    columns: [
      { header: "ID", value: id },
      // Docker's mark for an earlier task of the same slot.
      { header: "NAME", value: (row) => (newest.has(row) ? row.name : ` \\_ ${row.name}`) },
      { header: "IMAGE", value: (row) => formatCommand(row.command, truncate) },
      { header: "NODE", value: (row) => row.node ?? "" },
      { header: "DESIRED STATE", value: (row) => capital(row.desired) },
      {
        header: "CURRENT STATE",
        value: (row) => `${capital(row.state)} ${formatAgo(row.since, now).toLowerCase()}`,
      },
      { header: "ERROR", value: (row) => (row.error === null ? "" : `"${row.error}"`) },
      // Only ports published in host mode belong to a task; the mesh's are the service's.
      { header: "PORTS", value: () => "" },
    ],
  };
}
