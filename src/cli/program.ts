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
  { words: ["node"], load: async () => (await import("./node.ts")).addNodeCommands },
  { words: ["leave"], load: async () => (await import("./leave.ts")).addLeaveCommand },
  { words: ["peers", "flows"], load: async () => (await import("./observe.ts")).addObserveCommands },
  { words: ["stats"], load: async () => (await import("./stats.ts")).addStatsCommand },
];

/**
 * The program for these words, which it is to parse. `useSocket` is called with the agent's socket before a command runs.
 * Errors are thrown, also usage errors.
 */
export async function createProgram(
  words: readonly string[],
  context: Context,
  useSocket: (path: string) => void,
): Promise<Command> {
  const program = new Command("overlayctl")
    .description("Networks and services of an overlayd cluster, asked of this node's agent.")
    .version(VERSION)
    .enablePositionalOptions()
    .addOption(new Option("--socket <path>", "the agent's socket").env("OVERLAYD_SOCKET").default(DEFAULT_SOCKET))
    .hook("preAction", (_, action) => {
      useSocket(action.opts<{ socket?: string }>().socket ?? program.opts<{ socket: string }>().socket);
    });
  for (const addCommands of await Promise.all(groupsFor(words).map(({ load }) => load())))
    addCommands(program, context);
  for (const command of everyCommand(program)) {
    command
      .exitOverride()
      .configureOutput({ writeOut: context.out, writeErr: context.err })
      .showHelpAfterError(`See '${pathOf(command)} --help'.`);
    const isLeaf = command.commands.length === 0;
    if (isLeaf) command.addOption(new Option("--socket <path>").hideHelp());
  }
  return program;
}

/** The group of the command, which may stand after `--socket`; all for the help, and for a word that is none. */
function groupsFor(words: readonly string[]): typeof GROUPS {
  const at = words[0] === "--socket" ? 2 : words[0]?.startsWith("--socket=") ? 1 : 0;
  const group = GROUPS.find((candidate) => candidate.words.includes(words[at] ?? ""));
  return group === undefined ? GROUPS : [group];
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
