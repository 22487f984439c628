#!/usr/bin/env node
// overlayctl. Its exit status is 0 when the command is done, 1 when it failed, 2 for a mistake in the command line.
import { setTimeout as pause } from "node:timers/promises";
import { CommanderError } from "commander";
import { ApiClient } from "../api/client.ts";
import type { ApiTarget } from "../api/target.ts";
import { systemClock } from "../lib/clock.ts";
import { messageOf } from "../lib/errors.ts";
import { type Context, ExitStatus } from "./context.ts";
import { printable } from "./printable.ts";
import { createProgram } from "./program.ts";

const INTERRUPTED = 130;
/** The width of a terminal that does not say how wide it is. */
const DEFAULT_COLUMNS = 80;

let client: ApiClient | undefined;

const context: Context = {
  api: () => client!,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(printable(text)),
  columns: () => (process.stdout.isTTY ? process.stdout.columns || DEFAULT_COLUMNS : undefined),
  now: systemClock.now,
  monotonic: systemClock.monotonic,
  pause: (ms) => pause(ms),
  onInterrupt(call) {
    const interrupted = () => {
      call();
      process.exit(INTERRUPTED);
    };
    process.once("SIGINT", interrupted);
    return () => process.off("SIGINT", interrupted);
  },
};

/** The managers of the user's cluster. TLS is loaded for this alone. */
async function targetOf(path: string): Promise<ApiTarget> {
  const { openContext } = await import("../api/open-context.ts");
  return openContext(path, (warning) => context.err(`overlayctl: ${warning}\n`));
}

/** Prints the error, if that was not done yet. Returns the exit status. */
async function failed(error: unknown): Promise<number> {
  if (error instanceof ExitStatus) return error.status;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const { messageInOptions } = await import("./option-names.ts");
  context.err(`overlayctl: ${messageInOptions(error)}\n`);
  return 1;
}

// A reader that closes the pipe early, as in `overlayctl service ls | head -1`, is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(0);
});

async function main(): Promise<void> {
  const program = await createProgram(process.argv.slice(2), context, async ({ socket, context: file }) => {
    client = new ApiClient(file === undefined ? socket : await targetOf(file));
  });
  await program.parseAsync();
  if (client?.stateSource !== undefined && client.stateSource !== "leader") await printStateSource(client);
}

/** Says why what was printed may be old. The command is done all the same, also when the agent has ended since. */
async function printStateSource(api: ApiClient): Promise<void> {
  const { stateSource } = api;
  const status = await api.status().catch((error: unknown) => messageOf(error));
  const [node, copy, why] =
    typeof status === "string"
      ? ["this node", "its copy", `why is not known (${status})`]
      : [
          status.node,
          `its copy of revision ${status.revision}`,
          status.problem ?? "a leader has answered since, ask again",
        ];
  const shown = stateSource === "kept" ? copy : `${copy} from its disk, which may lack what it wrote last`;
  context.err(`overlayctl: ${node} has no leader, and shows ${shown}: ${why}\n`);
}

main().catch(async (error: unknown) => {
  process.exitCode = await failed(error);
});
