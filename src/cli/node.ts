// overlayctl node
import type { Command } from "commander";
import type { NodeView } from "../api/schema.ts";
import { addInspectOptions, type Context, forEachName, inspect } from "./context.ts";
import { capital } from "./format.ts";
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

export function addNodeCommands(program: Command, context: Context): void {
  const node = program.command("node").description("manage nodes");

  addListingOptions(node.command("ls").alias("list").description("list nodes"), {
    quiet: true,
    filters: FILTERS,
  }).action(async (options: ListingOptions) => {
    printListing(context, options, await context.api().nodes(), NODES);
    const { node, problem, revision } = await context.api().status();
    if (problem !== null) {
      context.err(`overlayctl: ${node} has no leader, and shows its copy of revision ${revision}: ${problem}\n`);
    }
  });

  addInspectOptions(node.command("inspect <name...>").description("show nodes, as JSON")).action((names: string[]) =>
    inspect(context, names, (name) => context.api().node(name)),
  );

  for (const [word, availability, description] of [
    ["drain", "drain", "move tasks away from nodes, and give them no new ones"],
    ["activate", "active", "let nodes take tasks again"],
  ] as const) {
    node
      .command(`${word} <name...>`)
      .description(description)
      .action((names: string[]) =>
        forEachName(context, names, async (asked) => {
          const { name } = await context.api().setAvailability(asked, availability);
          context.out(`${name}\n`);
        }),
      );
  }

  node
    .command("rm <name...>")
    .alias("remove")
    .description("remove nodes that are gone for good")
    .action((names: string[]) =>
      forEachName(context, names, async (asked) => {
        const { name } = await context.api().removeNode(asked);
        context.out(`${name}\n`);
      }),
    );
}

const FILTERS: Filters<NodeView> = {
  id: hasId,
  name: hasName,
  role: oneOf(["manager", "worker"], (row) => (row.manager ? "manager" : "worker")),
  availability: oneOf(["active", "drain"], (row) => row.availability),
  mesh: oneOf(["on", "off"], meshWord),
};

const NODES: Listing<NodeView> = {
  id: (row) => row.id,
  filters: FILTERS,
  columns: [
    { header: "ID", value: (row) => (row.self ? `${row.id} *` : row.id) },
    { header: "HOSTNAME", value: (row) => row.name },
    { header: "ADDRESS", value: (row) => row.address },
    { header: "STATUS", value: statusOf },
    { header: "AVAILABILITY", value: (row) => capital(row.availability) },
    { header: "MANAGER STATUS", value: managerStatus },
    { header: "MESH", value: meshWord },
    { header: "TASKS", value: (row) => `${row.tasks}` },
  ],
};

/** The STATUS column. A node that is ready may still be behind with its state, or silent while the leader judges no node. */
function statusOf({ state, health }: NodeView): string {
  return capital(state === "ready" && health !== "well" ? health : state);
}

/** As in the node's configuration. */
function meshWord({ mesh }: NodeView): "on" | "off" {
  return mesh ? "on" : "off";
}

/** In Docker's words: empty for a node that cannot lead. */
function managerStatus({ manager, leader, state }: NodeView): string {
  if (leader) return "Leader";
  if (!manager) return "";
  return state === "ready" ? "Reachable" : "Unreachable";
}
