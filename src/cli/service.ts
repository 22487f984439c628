// overlayctl service
import { Argument, type Command } from "commander";
import type { ServiceView, TaskView } from "../api/schema.ts";
import { collect, scaling } from "./arguments.ts";
import { type Context, forEachName } from "./context.ts";
import { capital, formatAgo, formatError, formatPorts, formatWorkload, shortId } from "./format.ts";
import {
  addListingOptions,
  type Filters,
  hasId,
  hasName,
  isJson,
  type Listing,
  type ListingOptions,
  oneOf,
  printListing,
} from "./listing.ts";
import { addNoun } from "./noun.ts";
import { addServiceCreate } from "./service-create.ts";
import { addServiceLogs } from "./service-logs.ts";
import { addWaitOptions, converge, type WaitOptions } from "./service-wait.ts";
import { printWarnings } from "./service-warnings.ts";

export function addServiceCommands(program: Command, context: Context): void {
  const service = addNoun(program, context, {
    word: "service",
    description: "manage services",
    ls: {
      description: "list services",
      rows: (api) => api.services(),
      listing: serviceListing,
      filters: SERVICE_FILTERS,
    },
    inspect: { description: "show services, as JSON", get: (api, name) => api.service(name) },
    rm: { description: "remove services and stop their tasks", remove: (api, name) => api.removeService(name) },
  });
  addServiceCreate(service, context);

  addListingOptions(service.command("ps <service...>").description("list the tasks of services"), {
    quiet: true,
    trunc: true,
    filters: TASK_FILTERS,
  }).action(async (names: string[], options: ListingOptions) => {
    const tasks: TaskView[] = [];
    let isFound = false;
    try {
      await forEachName(context, names, async (name) => {
        tasks.push(...(await context.api().tasks(name)));
        isFound = true;
      });
    } finally {
      if (isFound || isJson(options))
        printListing(context, options, tasks, taskListing(tasks, options.trunc, context.now()));
    }
    await printWarnings(context, names);
  });

  addServiceLogs(service, context);

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
}

const SERVICE_FILTERS: Filters<ServiceView> = {
  id: hasId,
  name: hasName,
  mode: oneOf(["replicated", "attached"], (row) => row.mode),
  label: ({ labels }, value) => {
    const [key = "", ...rest] = value.split("=");
    return rest.length === 0 ? Object.hasOwn(labels, key) : labels[key] === rest.join("=");
  },
};

const TASK_FILTERS: Filters<TaskView> = {
  id: hasId,
  name: hasName,
  node: (row, value) => row.node === value,
  "desired-state": oneOf(["running", "draining", "shutdown"], (row) => row.desired),
};

function serviceListing(truncate: boolean): Listing<ServiceView> {
  const id = (row: ServiceView) => shortId(row.id, truncate);
  return {
    id,
    filters: SERVICE_FILTERS,
    columns: [
      { header: "ID", value: id },
      { header: "NAME", value: (row) => row.name },
      { header: "MODE", value: (row) => row.mode },
      { header: "REPLICAS", value: (row) => `${row.running}/${row.replicas}` },
      { header: "IMAGE", value: (row) => formatWorkload(row, truncate) },
      { header: "PORTS", value: (row) => formatPorts(row.ports.filter(({ mode }) => mode === "ingress")) },
    ],
  };
}

function taskListing(tasks: readonly TaskView[], truncate: boolean, now: number): Listing<TaskView> {
  const newest = new Set(new Map(tasks.toReversed().map((task) => [task.name, task])).values());
  const id = (row: TaskView) => shortId(row.id, truncate);
  return {
    id,
    filters: TASK_FILTERS,
    columns: [
      { header: "ID", value: id },
      // Docker's mark for an earlier task of the same slot.
      { header: "NAME", value: (row) => (newest.has(row) ? row.name : ` \\_ ${row.name}`) },
      { header: "IMAGE", value: (row) => formatWorkload(row, truncate) },
      { header: "NODE", value: (row) => row.node ?? "" },
      { header: "DESIRED STATE", value: (row) => capital(row.desired) },
      {
        header: "CURRENT STATE",
        value: (row) => `${capital(row.state)} ${formatAgo(row.since, now).toLowerCase()}`,
      },
      { header: "ERROR", value: (row) => formatError(row.error, truncate) },
      { header: "PORTS", value: (row) => formatPorts(row.ports) },
    ],
  };
}
