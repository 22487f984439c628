// The commands of overlayctl. Only the group of the command that is run is made: all others would cost a part of its start.
import { Command, Option } from "commander";
import { DEFAULT_SOCKET } from "../api/client.ts";
import { VERSION } from "../lib/version.ts";
import type { Context } from "./context.ts";

type AddCommands = (program: Command, context: Context) => void;

/** The groups of commands with the first words of each, in the order of the help. */
const GROUPS: readonly { words: readonly string[]; load(): Promise<AddCommands> }[] = [
  { words: ["network"], load: async () => (await import("./network.ts")).addNetworkCommands },
  { words: ["service"], load: async () => (await import("./service.ts")).addServiceCommands },
  { words: ["run"], load: async () => (await import("./run.ts")).addRunCommand },
  { words: ["attach", "detach", "endpoint"], load: async () => (await import("./attach.ts")).addAttachCommands },
  { words: ["init", "join", "join-token"], load: async () => (await import("./join.ts")).addJoinCommands },
  { words: ["leave"], load: async () => (await import("./leave.ts")).addLeaveCommand },
  { words: ["node"], load: async () => (await import("./node.ts")).addNodeCommands },
  { words: ["ca"], load: async () => (await import("./authority.ts")).addAuthorityCommands },
  { words: ["cluster"], load: async () => (await import("./cluster.ts")).addClusterCommands },
  { words: ["user"], load: async () => (await import("./user.ts")).addUserCommands },
  { words: ["peers", "flows"], load: async () => (await import("./observe.ts")).addObserveCommands },
  { words: ["express"], load: async () => (await import("./express.ts")).addExpressCommands },
  { words: ["debug"], load: async () => (await import("./debug.ts")).addDebugCommands },
  { words: ["stats"], load: async () => (await import("./stats.ts")).addStatsCommand },
];

/** Which agent or managers a person means. */
export interface Where {
  socket: string;
  /** The file of a user, whose cluster's managers are asked instead of this machine's agent. */
  context?: string;
}

/**
 * The program for these words, which it is to parse. `use` is called with what is to be asked before a command runs. Errors
 * are thrown, also usage errors.
 */
export async function createProgram(
  words: readonly string[],
  context: Context,
  use: (where: Where) => Promise<void> | void,
): Promise<Command> {
  const program = new Command("overlayctl")
    .description("Networks and services of an overlayd cluster, asked of this node's agent.")
    .version(VERSION)
    .enablePositionalOptions()
    .addOption(new Option("--socket <path>", "the agent's socket").env("OVERLAYD_SOCKET").default(DEFAULT_SOCKET))
    .addOption(
      new Option(
        "--context <file>",
        "a user's file of 'user add': asks that cluster's managers instead of this node's agent",
      ).env("OVERLAYD_CONTEXT"),
    )
    .hook("preAction", async (_, action) => {
      const own = action.opts<Partial<Where>>();
      // A socket that is named with the command goes before a context of the environment.
      const isSocketNamed = own.socket !== undefined || program.getOptionValueSource("socket") === "cli";
      const { context: file, ...where } = { ...program.opts<Where>(), ...own };
      const isContextNamed = own.context !== undefined || program.getOptionValueSource("context") === "cli";
      await use(file === undefined || (isSocketNamed && !isContextNamed) ? where : { ...where, context: file });
    });
  for (const addCommands of await Promise.all(groupsFor(words).map(({ load }) => load())))
    addCommands(program, context);
  for (const command of everyCommand(program)) {
    command
      .exitOverride()
      .configureOutput({ writeOut: context.out, writeErr: context.err })
      .showHelpAfterError(`See '${pathOf(command)} --help'.`);
    const isLeaf = command.commands.length === 0;
    if (!isLeaf) continue;
    command.addOption(new Option("--socket <path>").hideHelp());
    command.addOption(new Option("--context <file>").hideHelp());
  }
  return program;
}

/** The group of the command, which may stand after `--socket` and `--context`; all for the help, and for a word that is none. */
function groupsFor(words: readonly string[]): typeof GROUPS {
  let at = 0;
  for (; /^--(socket|context)(=|$)/.test(words[at] ?? ""); at++) if (!words[at]?.includes("=")) at++;
  const group = GROUPS.find((candidate) => candidate.words.includes(words[at] ?? ""));
  return group === undefined ? GROUPS : [group];
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
