// overlayctl attach, detach and endpoint: containers and network namespaces that overlayd did not make.
import type { Command } from "commander";
import type { Attach, EndpointView } from "../api/schema.ts";
import { publishedPorts } from "./arguments.ts";
import { type Context, forEachName } from "./context.ts";
import { addExternalCommand } from "./external.ts";
import { capital, formatError, shortId } from "./format.ts";
import { type Filters, hasId, hasName, type Listing } from "./listing.ts";
import { addNoun } from "./noun.ts";
import { addRequestOptions, type OptionValues, type RequestOption, requestOf } from "./request-options.ts";
import { printWarnings } from "./service-warnings.ts";

export const ATTACH_OPTIONS: readonly RequestOption<keyof Attach>[] = [
  {
    flags: "--network <network>",
    help: "the network to attach it to (default: the service's, or default)",
    field: "network",
  },
  { flags: "--name <name>", help: "its name in DNS", field: "name" },
  {
    flags: "--alias <name>",
    help: "another name in DNS, which several may share",
    field: "aliases",
    several: "list",
  },
  { flags: "--ip <address>", help: "its address", field: "address" },
  { flags: "--service <service>", help: "make it a task of this service", field: "service" },
  {
    flags: "-p, --publish <port>",
    help: "with --service: answer [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp] on every node",
    field: "ports",
    read: publishedPorts,
    several: "list",
  },
];

export function addAttachCommands(program: Command, context: Context): void {
  const attach = program
    .command("attach <container>")
    .description("attach a container of this node's Docker, or a network namespace by its name");
  addRequestOptions(attach, ATTACH_OPTIONS).action(async (subject: string, options: OptionValues) => {
    const request: Attach = { subject, ...requestOf(ATTACH_OPTIONS, options) };
    const { addresses } = await context.api().attach(request);
    context.out(`${addresses.join(" ")}\n`);
    if (request.service != null) await printWarnings(context, [request.service]);
  });

  program
    .command("detach <container...>")
    .description("take containers and network namespaces off their networks")
    .option("--network <network>", "only off this one")
    .action((subjects: string[], { network = null }: { network?: string | null }) =>
      forEachName(context, subjects, async (subject) => {
        await context.api().detach({ subject, network });
        context.out(`${subject}\n`);
      }),
    );

  const endpoint = addNoun(program, context, {
    word: "endpoint",
    description: "list what has an address, and add hosts behind other VTEPs",
    ls: {
      description: "list endpoints, and containers of this node that ask for an address and get none",
      rows: (api) => api.endpoints(),
      listing: endpointListing,
      filters: FILTERS,
    },
    rm: {
      description: "remove hosts that 'endpoint add' has added, by name, address or id",
      remove: (api, name) => api.removeExternal(name),
    },
  });
  addExternalCommand(endpoint, context);
}

const FILTERS: Filters<EndpointView> = {
  id: hasId,
  name: hasName,
  network: (row, value) => row.network === value,
  node: (row, value) => row.node === value,
  service: (row, value) => row.service === value,
};

function endpointListing(truncate: boolean): Listing<EndpointView> {
  const id = (row: EndpointView) => (row.id === null ? undefined : shortId(row.id, truncate));
  return {
    id,
    filters: FILTERS,
    columns: [
      { header: "ID", value: (row) => id(row) ?? "-" },
      { header: "NAME", value: (row) => row.name ?? "" },
      { header: "IMAGE", value: (row) => row.image ?? "" },
      { header: "NETWORK", value: (row) => row.network ?? "" },
      { header: "ADDRESS", value: (row) => row.address ?? "" },
      { header: "NODE", value: (row) => row.node ?? row.vtep ?? "" },
      { header: "SERVICE", value: (row) => row.service ?? "" },
      { header: "STATE", value: (row) => (row.state === null ? "" : capital(row.state)) },
      { header: "ERROR", value: (row) => formatError(row.error, truncate) },
    ],
  };
}
