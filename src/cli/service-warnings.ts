// What a person should know of services besides their tasks.
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
  const services = await context.api().services();
  const lines = services
    .filter(({ id, name }) => names.some((word) => word === name || id.startsWith(word)))
    .flatMap(({ name, warnings }) => warnings.map((warning) => `${name}: ${warning}\n`));
  for (const line of lines) if (!said.includes(line)) context.err(line);
  return lines;
}
