// overlayctl node
import type { Command } from "commander";
import type { NodeView } from "../api/schema.ts";
import { type Context, forEachName } from "./context.ts";
import { capital } from "./format.ts";
import { type Filters, hasId, hasName, type Listing, oneOf } from "./listing.ts";
import { addNoun } from "./noun.ts";

export function addNodeCommands(program: Command, context: Context): void {
  const node = addNoun(program, context, {
    word: "node",
    description: "manage nodes",
    ls: {
      description: "list nodes",
      rows: (api) => api.nodes(),
      listing: () => NODES,
      filters: FILTERS,
      trunc: false,
      after: () => printProblem(context),
    },
    inspect: { description: "show nodes, as JSON", get: (api, name) => api.node(name) },
    rm: { description: "remove nodes that are gone for good", remove: (api, name) => api.removeNode(name) },
  });
  for (const [word, availability, description] of [
    ["drain", "drain", "move tasks away from nodes, and give them no new ones"],
    ["activate", "active", "let nodes take tasks again"],
  ] as const) {
    node
      .command(`${word} <node...>`)
      .description(description)
      .action((names: string[]) =>
        forEachName(context, names, async (asked) => {
          const { name } = await context.api().setAvailability(asked, availability);
          context.out(`${name}\n`);
        }),
      );
  }
}

/** Prints why the listing may be old: this node has no leader. */
async function printProblem(context: Context): Promise<void> {
  const { node, problem, revision } = await context.api().status();
  if (problem === null) return;
  context.err(`overlayctl: ${node} has no leader, and shows its copy of revision ${revision}: ${problem}\n`);
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

/** The word of the node's configuration. */
function meshWord({ mesh }: NodeView): "on" | "off" {
  return mesh ? "on" : "off";
}

/** The MANAGER STATUS column in Docker's words: empty for a node that cannot lead. */
function managerStatus({ manager, leader, state }: NodeView): string {
  if (leader) return "Leader";
  if (!manager) return "";
  return state === "ready" ? "Reachable" : "Unreachable";
}
