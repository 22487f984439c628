// overlayctl attach, detach and endpoint: containers and network namespaces that overlayd did not make.
import type { Command } from "commander";
import type { EndpointView } from "../api/schema.ts";
import type { PortWords } from "../lib/published-ports.ts";
import { collect, publishedPorts, words } from "./arguments.ts";
import { type Context, forEachName } from "./context.ts";
import { addExternalCommands } from "./external.ts";
import { capital, formatError, shortId } from "./format.ts";
import {
  addListingOptions,
  type Filters,
  hasId,
  hasName,
  type Listing,
  type ListingOptions,
  printListing,
} from "./listing.ts";
import { printWarnings } from "./service-warnings.ts";

interface AttachOptions {
  network?: string;
  name?: string;
  alias?: string[];
  ip?: string;
  service?: string;
  publish?: PortWords[];
}

export function addAttachCommands(program: Command, context: Context): void {
  program
    .command("attach <container>")
    .description("attach a container of this node's Docker, or a network namespace by its name")
    .option("--network <network>", "the network to attach it to (default: the service's, or default)")
    .option("--name <name>", "its name in DNS")
    .option("--alias <name>", "another name in DNS, which several may share", collect(words))
    .option("--ip <address>", "its address")
    .option("--service <service>", "make it a task of this service")
    .option(
      "-p, --publish <port>",
      "with --service: answer [ADDRESS:][PUBLISHED:]TARGET[/tcp|udp] on every node",
      collect(publishedPorts),
    )
    .action(async (subject: string, options: AttachOptions) => {
      const { network = null, name = null, alias = [], ip = null, service = null, publish = [] } = options;
      const body = { subject, network, name, aliases: alias, address: ip, service, ports: publish };
      const { addresses } = await context.api().attach(body);
      context.out(`${addresses.join(" ")}\n`);
      if (service !== null) await printWarnings(context, [service]);
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

  const endpoint = program
    .command("endpoint")
    .description("show what has an address, and add hosts behind other VTEPs");
  addExternalCommands(endpoint, context);
  addListingOptions(
    endpoint
      .command("ls")
      .alias("list")
      .description("list endpoints, and containers of this node that ask for one in vain"),
    { quiet: true, trunc: true, filters: FILTERS },
  ).action(async (options: ListingOptions) => {
    printListing(context, options, await context.api().endpoints(), endpointListing(options.trunc));
  });
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
