// overlayctl network
import { type Command, InvalidArgumentError } from "commander";
import type { CreateNetwork, NetworkView } from "../api/schema.ts";
import type { Context } from "./context.ts";
import { shortId } from "./format.ts";
import { type Filters, hasId, hasName, type Listing, oneOf } from "./listing.ts";
import { addNoun } from "./noun.ts";
import { addRequestOptions, type OptionValues, type RequestOption, requestOf } from "./request-options.ts";

export const NETWORK_OPTIONS: readonly RequestOption<keyof CreateNetwork>[] = [
  { flags: "--subnet <prefix>", help: "its addresses; default: the next free /20 of the pool", field: "subnet" },
  { flags: "--internal", help: "without a way out through the nodes", field: "internal" },
  {
    flags: "-o, --opt <option>",
    help: "encrypted: what its containers send between nodes is encrypted, or is not sent (several times)",
    field: "encrypted",
    read: encryptedOption,
  },
];

export function addNetworkCommands(program: Command, context: Context): void {
  const network = addNoun(program, context, {
    word: "network",
    description: "manage networks",
    ls: { description: "list networks", rows: (api) => api.networks(), listing: networkListing, filters: FILTERS },
    inspect: {
      description: "show networks with their services and endpoints, as JSON",
      get: (api, name) => api.network(name),
    },
    rm: { description: "remove networks", remove: (api, name) => api.removeNetwork(name) },
  });
  addRequestOptions(network.command("create <name>").description("create a network"), NETWORK_OPTIONS).action(
    async (name: string, options: OptionValues) => {
      const { id } = await context.api().createNetwork({ name, ...requestOf(NETWORK_OPTIONS, options) });
      context.out(`${id}\n`);
    },
  );
}

const FILTERS: Filters<NetworkView> = {
  id: hasId,
  name: hasName,
  internal: oneOf(["true", "false"], (row) => `${row.internal}`),
  encrypted: oneOf(["true", "false"], (row) => `${row.encrypted}`),
};

/** Docker writes `encrypted`, `encrypted=true` or, in Compose files, `encrypted=`. */
function encryptedOption(text: string): boolean {
  const equals = text.indexOf("=");
  const name = equals < 0 ? text : text.slice(0, equals);
  if (name !== "encrypted") {
    throw new InvalidArgumentError(`there is no option '${name}' of a network: the only one is 'encrypted'`);
  }
  const value = equals < 0 ? "" : text.slice(equals + 1);
  if (value === "" || value === "true") return true;
  if (value === "false") return false;
  throw new InvalidArgumentError(`'encrypted' is true or false, and not '${value}'`);
}

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
      { header: "ENCRYPTED", value: (row) => `${row.encrypted}` },
    ],
  };
}
