// overlayctl run: a command in a network namespace of its own, attached to a network while it runs.
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Command } from "commander";
import { messageOf, PlatformError } from "../lib/errors.ts";
import { underHostname } from "../lib/under-hostname.ts";
import { type Context, ExitStatus } from "./context.ts";
import { NAMING_OPTIONS, withoutRoot } from "./naming-options.ts";
import { addRequestOptions, requestOf } from "./request-options.ts";

const FORWARDED: readonly NodeJS.Signals[] = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"];
/** A terminal sends these to the command itself. */
const FROM_TERMINAL: readonly NodeJS.Signals[] = ["SIGINT", "SIGQUIT"];

/** With this ip(8) ends when it cannot enter the namespace. */
const IP_FAILED = 255;

interface RunOptions {
  network: string;
  name?: string;
  hostname?: string;
}

export function addRunCommand(program: Command, context: Context): void {
  const command = program
    .command("run <command...>")
    .description("run a command attached to a network")
    .option("--network <network>", "the network to attach it to", "default")
    .option("--name <name>", "its name in DNS")
    .passThroughOptions();
  addRequestOptions(command, NAMING_OPTIONS).action(async (words: string[], options: RunOptions) => {
    const { network, name = null, hostname } = options;
    const asked = requestOf(NAMING_OPTIONS, { ...options });
    const naming = Object.keys(asked).length === 0 ? {} : { naming: withoutRoot(asked) };
    const sandbox = await context.api().openSandbox({ network, name, pid: process.pid, ...naming });
    let status: number;
    try {
      status = await runIn(sandbox.netns, hostname === undefined ? words : underHostname("unshare", hostname, words));
    } finally {
      await context
        .api()
        .closeSandbox(sandbox.id)
        .catch((error: unknown) => context.err(`overlayctl: the sandbox stays behind: ${messageOf(error)}\n`));
    }
    if (status === IP_FAILED && process.geteuid?.() !== 0) {
      context.err(
        "overlayctl: 'overlayctl run' enters a network namespace, which root alone may: sudo overlayctl run ...\n",
      );
    }
    if (status !== 0) throw new ExitStatus(status);
  });
}

/** Runs the command to its end. The status is a shell's: the command's own, 128 and the signal, or 127 when there is no such command. */
function runIn(netns: string, command: readonly string[]): Promise<number> {
  let child: ChildProcess | undefined;
  // This comes before the command starts: a signal for it must not end this process and leave the command behind.
  const stopForwarding = forwardSignals((signal) => child?.kill(signal));
  // ip itself answers 255 for a command that does not exist; a shell's exec says why and answers 126 or 127.
  const argv = ["netns", "exec", netns, "sh", "-c", 'exec "$@"', "overlayctl run", ...command];
  return new Promise<number>((resolve, reject) => {
    child = spawn("ip", argv, { stdio: "inherit" });
    child.once("error", (cause) =>
      reject(new PlatformError(`cannot run ip: ${cause.message}`, "apt-get install iproute2", { cause })),
    );
    child.once("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  }).finally(stopForwarding);
}

/** Hands signals on to the command, and keeps them from ending this process. */
function forwardSignals(handOn: (signal: NodeJS.Signals) => void): () => void {
  const forward = (signal: NodeJS.Signals) => {
    if (process.stdin.isTTY && FROM_TERMINAL.includes(signal)) return;
    handOn(signal);
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  return () => {
    for (const signal of FORWARDED) process.off(signal, forward);
  };
}
