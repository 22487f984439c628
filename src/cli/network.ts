// overlayctl network
import type { Command } from "commander";
import type { CreateNetwork, NetworkView } from "../api/schema.ts";
import { addInspectOptions, type Context, forEachName, inspect } from "./context.ts";
import { shortId } from "./format.ts";
import {
  addListingOptions,
  type Filters,
  hasId,
  hasName,
  type Listing,
  type ListingOptions,
  oneOf,
  printListing,
} from "./listing.ts";

export function addNetworkCommands(program: Command, context: Context): void {
  const network = program.command("network").description("manage networks");

  network
    .command("create <name>")
    .description("create a network")
    .option("--subnet <prefix>", "its addresses; default: the next free /20 of the pool")
    .option("--internal", "without a way out through the nodes")
    .action(async (name: string, options: Omit<CreateNetwork, "name">) => {
      const { id } = await context.api().createNetwork({ name, ...options });
      context.out(`${id}\n`);
    });

  addListingOptions(network.command("ls").alias("list").description("list networks"), {
    quiet: true,
    trunc: true,
    filters: FILTERS,
  }).action(async (options: ListingOptions) => {
    printListing(context, options, await context.api().networks(), networkListing(options.trunc));
  });

  addInspectOptions(
    network.command("inspect <name...>").description("show networks with their services and endpoints, as JSON"),
  ).action((names: string[]) => inspect(context, names, (name) => context.api().network(name)));

  network
    .command("rm <name...>")
    .alias("remove")
    .description("remove networks")
    .action((names: string[]) =>
      forEachName(context, names, async (word) => {
        const { name } = await context.api().removeNetwork(word);
        context.out(`${name}\n`);
      }),
    );
}

const FILTERS: Filters<NetworkView> = {
  id: hasId,
  name: hasName,
  internal: oneOf(["true", "false"], (row) => `${row.internal}`),
};

function networkListing(truncate: boolean): Listing<NetworkView> {
  const id = (row: NetworkView) => shortId(row.id, truncate);
  return {
    id,
    filters: FILTERS,
    columns: [
      { header: "NETWORK ID", value: id },
      { header: "NAME", value: (row) => row.name },
      { header: "SUBNET", value: (row) => row.subnet },
      { header: "VNI", value: (row) => `${row.vni}` },
      { header: "SCOPE", value: () => "cluster" },
      { header: "INTERNAL", value: (row) => `${row.internal}` },
    ],
  };
}
