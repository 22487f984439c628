// The warnings of services, such as a node that does not answer a port.
import { UserError } from "../lib/errors.ts";
import type { Context } from "./context.ts";

/**
 * Prints the warnings of these services to standard error, without those of `printed`. A service that is gone has none.
 * Returns all of them.
 */
export async function printWarnings(
  context: Context,
  names: readonly string[],
  printed: readonly string[] = [],
): Promise<string[]> {
  const lines: string[] = [];
  for (const word of names) {
    const service = await context.api().service(word).catch(ignoreMissing);
    for (const warning of service?.warnings ?? []) lines.push(`${service!.name}: ${warning}\n`);
  }
  for (const line of lines) if (!printed.includes(line)) context.err(line);
  return lines;
}

function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof UserError) || error.code !== 404) throw error;
}
