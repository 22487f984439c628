// overlayctl init, join and join-token: how nodes come into a cluster.
import { readFileSync } from "node:fs";
import { Argument, type Command, Option } from "commander";
import type { Init, JoinTokenView } from "../api/membership-schema.ts";
import { messageOf, UserError } from "../lib/errors.ts";
import { duration } from "./arguments.ts";
import type { Context } from "./context.ts";
import { addRequestOptions, type OptionValues, type RequestOption, requestOf } from "./request-options.ts";

const POLL_MS = 100;
/** How long an agent may take to start its parts, or to have its first session. */
const DEADLINE_MS = 120_000;

const WHERE_OPTIONS: readonly RequestOption<keyof Init>[] = [
  {
    flags: "--advertise <address>",
    help: "where other nodes reach this manager: ADDRESS[:PORT] (default: where it listens)",
    field: "advertise",
  },
  {
    flags: "--listen <address>",
    help: "where this manager answers: ADDRESS[:PORT] (default: the node's address, port 2377)",
    field: "listen",
  },
];

export const INIT_OPTIONS: readonly RequestOption<keyof Init>[] = [
  ...WHERE_OPTIONS,
  { flags: "--pool <prefix>", help: "what all networks are cut from (default: 10.192.0.0/10)", field: "pool" },
  {
    flags: "--domain <domain>",
    help: "what every name is found under in DNS too (default: overlay)",
    field: "domain",
  },
  {
    flags: "--session-timeout <duration>",
    help: "a node not heard from for this time is down, and its tasks are replaced (default: 15s)",
    field: "livenessMs",
    read: duration,
  },
  {
    flags: "--worker-writes",
    help: "let workers command the cluster too: then who has a worker has every node",
    field: "workerWrites",
  },
  {
    flags: "--encrypt",
    help: "every network is encrypted, for ever: slower, and no flow goes in the express lane",
    field: "encrypt",
  },
];

export function addJoinCommands(program: Command, context: Context): void {
  const init = program.command("init").description("make a cluster, with this node as its first manager");
  addRequestOptions(init, INIT_OPTIONS).action(async (options: OptionValues) => {
    const { nodeId, address, token, adopted } = await context.api().init(requestOf(INIT_OPTIONS, options));
    await untilMember(context);
    const taken = adopted ? ", with all that this node's data directory had" : "";
    context.out(`Cluster initialized: current node (${nodeId}) is now a manager${taken}.\n\n`);
    context.out(instructionsFor({ role: "worker", token, managers: [address] }));
    context.out("To add a manager to this cluster, run 'overlayctl join-token manager' and follow the instructions.\n");
  });

  const join = program
    .command("join <address>")
    .description("make this node a member of the cluster of a manager: ADDRESS[:PORT]. The token says its role")
    .addOption(new Option("--token <token>", "what 'overlayctl join-token' prints there").conflicts("tokenFile"))
    .option("--token-file <path>", "a file that holds it; - is standard input");
  addRequestOptions(join, WHERE_OPTIONS).action(async (address: string, options: JoinOptions) => {
    const token = tokenOf(options);
    const { role } = await context.api().join({ ...requestOf(WHERE_OPTIONS, options), manager: address, token });
    await untilMember(context);
    context.out(`This node joined the cluster as a ${role}.\n`);
  });

  program
    .command("join-token")
    .description("print the command with which nodes join the cluster")
    .addArgument(new Argument("<role>", "what nodes join as").choices(["worker", "manager"]))
    .option("--rotate", "make a new token: the one before is refused from then")
    .option("-q, --quiet", "print the token only")
    .option("--json", "print JSON")
    .action(async (role: string, options: { rotate?: true; quiet?: true; json?: true }) => {
      const { rotate = false, quiet = false, json = false } = options;
      const view = await context.api().joinToken(role as JoinTokenView["role"], { rotate });
      if (quiet) return context.out(`${view.token}\n`);
      if (json) return context.out(`${JSON.stringify(view, null, 2)}\n`);
      if (rotate) context.out(`Successfully rotated ${view.role} join token.\n\n`);
      context.out(instructionsFor(view));
    });
}

type JoinOptions = OptionValues & { token?: string; tokenFile?: string };

function tokenOf({ token, tokenFile }: JoinOptions): string {
  if (token !== undefined) return token;
  if (tokenFile === undefined) {
    throw new UserError(
      400,
      "a token is needed: --token or --token-file, with what 'overlayctl join-token worker' prints on a manager",
    );
  }
  try {
    return readFileSync(tokenFile === "-" ? 0 : tokenFile, "utf8").trim();
  } catch (cause) {
    throw new UserError(400, `--token-file: cannot read it: ${messageOf(cause)}`, { cause });
  }
}

function instructionsFor({ role, token, managers }: JoinTokenView): string {
  return `To add a ${role} to this cluster, run the following command:\n\n    overlayctl join ${managers[0]} --token ${token}\n\n`;
}

/** Resolves when the agent has started its parts and the node has a session with the leader. */
async function untilMember(context: Context): Promise<void> {
  const deadline = context.monotonic() + DEADLINE_MS;
  for (let problem = "its agent has not started again"; ; await context.pause(POLL_MS)) {
    const status = await context
      .api()
      .status()
      .catch((error: unknown) => messageOf(error));
    if (typeof status === "string") problem = status;
    else if (status.phase === "running" && status.connected) return;
    else problem = status.problem ?? problem;
    if (context.monotonic() > deadline) {
      throw new UserError(
        503,
        `this node is a member of the cluster, but is not ready: ${problem}; its agent goes on trying`,
      );
    }
  }
}
