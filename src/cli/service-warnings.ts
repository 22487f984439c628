// What a person should know of services besides their tasks.
import type { Context } from "./context.ts";

/** Beside the output, so that it stays what was asked for. A service that is gone has nothing to say. */
export async function printWarnings(context: Context, names: readonly string[]): Promise<void> {
  const services = await context.api().services();
  for (const { id, name, warnings } of services) {
    if (!names.some((word) => word === name || id.startsWith(word))) continue;
    for (const warning of warnings) context.err(`${name}: ${warning}\n`);
  }
}
