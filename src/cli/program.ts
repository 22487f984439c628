// The commands of overlayctl, put together.
import { Command, Option } from "commander";
import { DEFAULT_SOCKET } from "../api/client.ts";
import { VERSION } from "../lib/version.ts";
import { addAttachCommands } from "./attach.ts";
import type { Context } from "./context.ts";
import { addLeaveCommand } from "./leave.ts";
import { addNetworkCommands } from "./network.ts";
import { addNodeCommands } from "./node.ts";
import { addObserveCommands } from "./observe.ts";
import { addRunCommand } from "./run.ts";
import { addServiceCommands } from "./service.ts";
import { addStatsCommand } from "./stats.ts";

/** `useSocket` is called with the agent's socket before a command runs. Errors are thrown, also usage errors. */
export function createProgram(context: Context, useSocket: (path: string) => void): Command {
  const program = new Command("overlayctl")
    .description("Networks and services of an overlayd cluster, asked of this node's agent.")
    .version(VERSION)
    .enablePositionalOptions()
    .addOption(new Option("--socket <path>", "the agent's socket").env("OVERLAYD_SOCKET").default(DEFAULT_SOCKET))
    .hook("preAction", (_, action) => {
      useSocket(action.opts<{ socket?: string }>().socket ?? program.opts<{ socket: string }>().socket);
    });
  addNetworkCommands(program, context);
  addServiceCommands(program, context);
  addRunCommand(program, context);
  addAttachCommands(program, context);
  addNodeCommands(program, context);
  addLeaveCommand(program, context);
  addObserveCommands(program, context);
  addStatsCommand(program, context);
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

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}
