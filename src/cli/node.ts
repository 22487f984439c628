// overlayctl node
import type { Command } from "commander";
import { warningOfCount } from "../api/manager-count.ts";
import type { NodeView } from "../api/schema.ts";
import { certificateColumn, warnOfExpiry } from "./certificate.ts";
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
      listing: () => nodeListing(context),
      filters: FILTERS,
      trunc: false,
      after: () => printWarnings(context),
    },
    inspect: { description: "show nodes, as JSON", get: (api, name) => api.node(name) },
    rm: {
      description: "remove nodes: their certificates are refused from then",
      force: "remove a node that is up too, with its tasks",
      remove: (api, name, force) => api.removeNode(name, { force }),
    },
  });
  for (const [word, role, description, done] of [
    [
      "promote",
      "manager",
      "make nodes managers",
      (name: string) => `Node ${name} promoted to a manager in the cluster.`,
    ],
    ["demote", "worker", "make managers workers again", (name: string) => `Manager ${name} demoted in the cluster.`],
  ] as const) {
    node
      .command(`${word} <node...>`)
      .description(description)
      .action(async (names: string[]) => {
        await forEachName(context, names, async (asked) => {
          const { name, role: before, state } = await context.api().node(asked);
          await context.api().setRole(asked, role);
          if (before === role)
            return context.out(`Node ${name} is already a ${role}.
`);
          context.out(`${done(name)}
`);
          if (state !== "ready")
            context.err(`overlayctl: ${name} is ${state}: it is a ${role} when its agent is back
`);
        });
        const managers = (await context.api().nodes()).filter((row) => row.role === "manager");
        const warning = warningOfCount(managers.length, role === "manager");
        if (warning !== undefined)
          context.err(`overlayctl: ${warning}
`);
      });
  }
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

/** Prints what keeps the node that was asked from its part, and whose certificate ends soon. */
async function printWarnings(context: Context): Promise<void> {
  const [nodes, { node, connected, problem }] = await Promise.all([context.api().nodes(), context.api().status()]);
  if (connected && problem !== null) context.err(`overlayctl: ${node}: ${problem}\n`); // without a leader it is said anyway
  warnOfExpiry(
    context,
    nodes.map(({ name, certificateExpires }) => ({ name, expires: certificateExpires })),
    "node",
  );
}

const FILTERS: Filters<NodeView> = {
  id: hasId,
  name: hasName,
  role: oneOf(["manager", "worker"], (row) => row.role),
  availability: oneOf(["active", "drain"], (row) => row.availability),
  mesh: oneOf(["on", "off"], meshWord),
};

function nodeListing(context: Context): Listing<NodeView> {
  return {
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
      certificateColumn(context, (row) => row.certificateExpires),
    ],
  };
}

/** The STATUS column. A node that is ready may still be behind with its state, or silent while the leader judges no node. */
function statusOf({ state, health }: NodeView): string {
  return capital(state === "ready" && health !== "well" ? health : state);
}

/** The word of the node's configuration. */
function meshWord({ mesh }: NodeView): "on" | "off" {
  return mesh ? "on" : "off";
}

/** The MANAGER STATUS column in Docker's words: empty for a worker. */
function managerStatus({ role, leader, state }: NodeView): string {
  if (leader) return "Leader";
  if (role !== "manager") return "";
  return state === "ready" ? "Reachable" : "Unreachable";
}
