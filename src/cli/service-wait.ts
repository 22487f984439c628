// Waits until a service is as a command has asked: `create` and `scale` do.
import type { Command } from "commander";
import { duration } from "./arguments.ts";
import type { Context } from "./context.ts";
import { awaitConverged } from "./progress.ts";

export interface WaitOptions {
  detach?: true;
  quiet?: true;
  timeout?: number;
}

export function addWaitOptions(command: Command): Command {
  return command
    .option("-d, --detach", "return at once")
    .option("-q, --quiet", "show no progress")
    .option("--timeout <duration>", "fail when the service has not converged after this time, such as 30s", duration);
}

export async function converge(
  context: Context,
  service: string,
  { detach, quiet, timeout }: WaitOptions,
): Promise<void> {
  if (detach === true) return;
  const stopWatching = context.onInterrupt(() => {
    context.err(`\nOperation continuing in background.\nUse \`overlayctl service ps ${service}\` to check progress.\n`);
  });
  try {
    await awaitConverged(quiet === true ? { ...context, out: () => {} } : context, service, timeout);
  } finally {
    stopWatching();
  }
}
