// What a person should know of services besides their tasks.
import { UserError } from "../lib/errors.ts";
import type { Context } from "./context.ts";

/**
 * Beside the output, so that it stays what was asked for; without those of `said`. A service that is gone has nothing to
 * say. Returns all of them.
 */
export async function printWarnings(
  context: Context,
  names: readonly string[],
  said: readonly string[] = [],
): Promise<string[]> {
  const lines: string[] = [];
  for (const word of names) {
    const service = await context.api().service(word).catch(ignoreMissing);
    for (const warning of service?.warnings ?? []) lines.push(`${service!.name}: ${warning}\n`);
  }
  for (const line of lines) if (!said.includes(line)) context.err(line);
  return lines;
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof UserError) || error.code !== 404) throw error;
}
